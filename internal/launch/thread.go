// Package launch turns a policy's kernel layers into a confined process: the
// clone, Landlock, the seccomp filter, exec, the terminal and the end of every
// descendant.
package launch

import (
	"errors"
	"fmt"
	"runtime"

	"github.com/sandlock/sandlock/internal/sys"
	"golang.org/x/sys/unix"
)

// abiScopes is the Landlock ABI that first has scopes (Linux 6.12, landlock(7)).
const abiScopes = 6

// ErrThreadClosed reports work for a thread that ended.
var ErrThreadClosed = errors.New("the sandbox's thread has ended")

// Thread is an OS thread of the supervisor that is in the sandbox's Landlock
// domain: what it clones is confined from birth, and what it connects to is
// judged by the kernel as if the command did it.
type Thread struct {
	work    chan job
	quit    chan struct{}
	helpers []int // processes in its domain that are the supervisor's; only the thread uses it
}

// job is work for the thread and the place for its error.
type job struct {
	f    func() error
	done chan error
}

// NewThread starts the thread: no_new_privs, no TCP bind or connect by itself,
// no signal or abstract unix socket across the domain's border. It does not wait
// for that: where the kernel refuses, Do fails.
func NewThread() *Thread {
	t := &Thread{work: make(chan job), quit: make(chan struct{})}
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
	err := confine()
	for {
		select {
		case j := <-t.work:
			if err == nil {
				j.done <- j.f()
			} else {
				j.done <- err
			}
		case <-t.quit:
			return
		}
	}
}

func confine() error {
	r, err := ruleset(nil)
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
	return nil
}

// Do runs f on the thread and returns its error. It blocks until f returned. On
// a thread that could not be confined f is not run.
func (t *Thread) Do(f func() error) error {
	j := job{f, make(chan error, 1)}
	select {
	case t.work <- j:
		return <-j.done
	case <-t.quit:
		return ErrThreadClosed
	}
}

// Close ends the thread. A command that it started gets its parent death signal.
func (t *Thread) Close() { close(t.quit) }
