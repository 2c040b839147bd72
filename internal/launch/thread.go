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
	work    chan func()
	quit    chan struct{}
	helpers []int // processes in its domain that are the supervisor's; only the thread uses it
}

// NewThread starts the thread: no_new_privs, no TCP bind or connect by itself,
// no signal or abstract unix socket across the domain's border.
func NewThread() (*Thread, error) {
	t := &Thread{work: make(chan func()), quit: make(chan struct{})}
	ready := make(chan error)
	go t.run(ready)
	if err := <-ready; err != nil {
		return nil, err
	}
	return t, nil
}

func (t *Thread) run(ready chan<- error) {
	runtime.LockOSThread() // never unlocked: the thread ends with the goroutine
	if unix.Gettid() == unix.Getpid() {
		// The main thread stands for the whole process where signals are
		// judged: it must not be in the domain.
		done := make(chan struct{})
		go func() { defer close(done); t.run(ready) }()
		<-done
		runtime.UnlockOSThread()
		return
	}
	err := confine()
	ready <- err
	if err != nil {
		return
	}
	for {
		select {
		case f := <-t.work:
			f()
		case <-t.quit:
			return
		}
	}
}

// ruleset handles TCP bind and connect and the two scopes, and grants nothing.
// The caller owns it.
func ruleset() (int, error) {
	if abi := sys.LandlockABI(); abi < abiScopes {
		return -1, fmt.Errorf("landlock ABI %d: needs ABI %d (Linux 6.12) for the signal and abstract socket scopes", abi, abiScopes)
	}
	return sys.LandlockRuleset(unix.LANDLOCK_ACCESS_NET_BIND_TCP|unix.LANDLOCK_ACCESS_NET_CONNECT_TCP,
		unix.LANDLOCK_SCOPE_ABSTRACT_UNIX_SOCKET|unix.LANDLOCK_SCOPE_SIGNAL)
}

func confine() error {
	r, err := ruleset()
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

// Do runs f on the thread and returns its error. It blocks until f returned.
func (t *Thread) Do(f func() error) error {
	done := make(chan error, 1)
	select {
	case t.work <- func() { done <- f() }:
		return <-done
	case <-t.quit:
		return ErrThreadClosed
	}
}

// Close ends the thread. A command that it started gets its parent death signal.
func (t *Thread) Close() { close(t.quit) }
