// Package launch turns a policy's kernel layers into a confined process: the
// clone, Landlock, the seccomp filter, exec, the terminal and the end of every
// descendant.
package launch

import (
	"errors"
	"fmt"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sandlock/sandlock/internal/sys"
	"golang.org/x/sys/unix"
)

// ErrThreadClosed reports work for a thread that ended.
var ErrThreadClosed = errors.New("the sandbox's thread has ended")

// Thread is an OS thread of the supervisor that is in the sandbox's Landlock
// domain: what it clones is confined from birth, and what it connects to is
// judged by the kernel as if the command did it.
type Thread struct {
	layers  Layers
	refused error // why the kernel's ABI does not do

	// Work is handed over with bells, not channels: those wake a goroutine that is
	// locked to its thread by way of another thread, 0.1 ms of every start.
	turn   sync.Mutex // one job at a time; guards closed and jobs
	closed bool
	jobs   uint32 // handed over so far
	ask    bell
	answer bell
	job    atomic.Pointer[job]

	held sync.Mutex // one job at a time that a program can hold up

	confined bool // the kernel accepted the domain; only the thread uses it

	mu      sync.Mutex
	helpers []int // processes in its domain that are the supervisor's
}

// job is work for the thread and the place for its error. The job without work
// is the last one.
type job struct {
	f   func() error
	err error
}

// NewThread starts the thread: no_new_privs, and of the layers all that the
// kernel's ABI has. A lower abi than KernelABI is for tests. It does not wait for
// that: where the kernel refuses, Do fails.
func NewThread(abi int) *Thread {
	t := &Thread{}
	t.layers, t.refused = layersOf(abi)
	go t.run()
	return t
}

func (t *Thread) run() {
	runtime.LockOSThread() // never unlocked: the thread ends with the goroutine
	if unix.Gettid() == unix.Getpid() {
		// The main thread stands for the whole process where signals are
		// judged: it must not be in the domain.
		done := make(chan struct{})
		go func() { defer close(done); t.run() }()
		<-done
		runtime.UnlockOSThread()
		return
	}
	err := t.refused
	if err == nil {
		err = t.layers.confine()
	}
	t.confined = err == nil && t.layers.Scopes
	for n := uint32(0); ; n++ {
		t.ask.wait(n)
		j := t.job.Load()
		if j.f == nil {
			return
		}
		if j.err = err; err == nil {
			j.err = j.f()
		}
		t.answer.ring()
	}
}

func (l Layers) confine() error {
	r, err := l.ruleset(nil)
	if err != nil {
		return err
	}
	defer unix.Close(r)
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return fmt.Errorf("no_new_privs: %w", err)
	}
	if err := sys.LandlockRestrict(r); err != nil {
		return fmt.Errorf("landlock: %w", err)
	}
	return l.prove()
}

// Unsupported returns why the kernel's ABI does not do, nil if it does. It does
// not block.
func (t *Thread) Unsupported() error { return t.refused }

// Layers returns what the kernel denies to the thread and to what it starts.
func (t *Thread) Layers() Layers { return t.layers }

// Do runs f on the thread and returns its error. It blocks until f returned. On
// a thread that could not be confined f is not run.
func (t *Thread) Do(f func() error) error {
	t.turn.Lock()
	defer t.turn.Unlock()
	if t.closed {
		return ErrThreadClosed
	}
	j := &job{f: f}
	t.job.Store(j)
	t.ask.ring()
	t.answer.wait(t.jobs)
	t.jobs++
	return j.err
}

// DoWithin is Do for work that a program can hold up: the system call of f that
// sleeps longer than the limit fails with EINTR. One such job at a time waits for the
// thread, so that other work waits for no more than one or two of them.
func (t *Thread) DoWithin(limit time.Duration, f func() error) error {
	t.held.Lock()
	defer t.held.Unlock()
	return t.Do(func() error { return Within(limit, f) })
}

// Close ends the thread. A command that it started gets its parent death signal.
func (t *Thread) Close() {
	t.turn.Lock()
	defer t.turn.Unlock()
	if !t.closed {
		t.closed = true
		t.job.Store(&job{})
		t.ask.ring()
	}
}
