package launch

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"slices"
	"strconv"
	"time"

	"github.com/sandlock/sandlock/internal/sys"
	"golang.org/x/sys/unix"
)

// A process belongs to the sandbox exactly when it is in the Landlock domain of
// the sandbox's thread, which no process can leave. The kernel itself tells: with
// LANDLOCK_SCOPE_SIGNAL the thread may signal those and no other. So nothing has to
// follow births, and a process that hid in another session is found all the same.

// errNoScope reports a thread whose signals would not stay in the domain.
var errNoScope = errors.New("the thread's signals are not confined")

// ErrLeft reports processes that were killed and did not go in time.
var ErrLeft = errors.New("a process of the sandbox cannot be ended")

// SignalAll sends a signal to every process of the sandbox and to no other. It is
// one call under the lock of the kernel's process list: no fork escapes it.
func (t *Thread) SignalAll(sig unix.Signal) error {
	if !t.layers.Scopes {
		return t.signalTree(sig)
	}
	return t.scoped(func() error { return unix.Kill(-1, sig) })
}

// scoped runs f on the thread after the kernel has shown that the thread's signals
// stay in the domain: without that, a signal to everybody would reach everybody.
// The proof is a process of our own user outside of the domain that the thread may
// not signal. It has ended and waits to be reaped, which is alive enough.
func (t *Thread) scoped(f func() error) error {
	witness, err := endedChild()
	if err != nil {
		return err
	}
	defer reap(witness)
	return t.Do(func() error {
		if !t.confined || unix.Kill(witness, 0) != unix.EPERM {
			return errNoScope
		}
		return f()
	})
}

// endedChild makes a child of this process, outside of every sandbox, that ends
// at once. The caller reaps it; a wait4(-1) does not see it.
func endedChild() (int, error) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	exit := &step{nr: unix.SYS_EXIT_GROUP}
	mask := blockSignals()
	pid, errno := clone(unix.CLONE_VM|unix.CLONE_VFORK|exitSignal, 0, exit, new(failure))
	setSignals(mask)
	runtime.KeepAlive(exit)
	if errno != 0 {
		return 0, fmt.Errorf("clone: %w", errno)
	}
	return pid, nil
}

// Contains tells whether process pid, dead or alive, belongs to the sandbox. It
// blocks while the thread is busy.
func (t *Thread) Contains(pid int) bool {
	if !t.layers.Scopes {
		return t.descends(pid)
	}
	found := false
	t.Do(func() error {
		found = t.member(pid)
		return nil
	})
	return found
}

// member is to be called on the thread.
func (t *Thread) member(pid int) bool {
	return pid > 1 && pid != unix.Getpid() && !t.isHelper(pid) && unix.Kill(pid, 0) == nil
}

// isHelper tells whether a process in the domain is the supervisor's.
func (t *Thread) isHelper(pid int) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return slices.Contains(t.helpers, pid)
}

// Exclude says that a child of this process is the supervisor's own, not the
// sandbox's.
func (t *Thread) Exclude(pid int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.helpers = append(t.helpers, pid)
}

// Members lists the processes of the sandbox, zombies among them, in no order. It
// looks at each process of the host.
func (t *Thread) Members() ([]int, error) {
	if !t.layers.Scopes {
		return t.descendants(), nil
	}
	dir, err := os.Open("/proc")
	if err != nil {
		return nil, err
	}
	defer dir.Close()
	names, err := dir.Readdirnames(-1)
	if err != nil {
		return nil, err
	}
	var pids []int
	err = t.scoped(func() error {
		for _, name := range names {
			if pid, err := strconv.Atoi(name); err == nil && t.member(pid) {
				pids = append(pids, pid)
			}
		}
		return nil
	})
	return pids, err
}

// KillAll ends every process of the sandbox and blocks until they are gone or
// zombies, or fails with ErrLeft after the given time.
func (t *Thread) KillAll(within time.Duration) error {
	deadline := time.Now().Add(within)
	for {
		pids, err := t.Members()
		if err != nil {
			return err
		}
		pidfds := alive(pids)
		if len(pidfds) == 0 {
			return nil
		}
		err = t.SignalAll(unix.SIGKILL)
		for _, p := range pidfds {
			if err == nil {
				err = awaitExit(p, deadline)
			}
			unix.Close(p)
		}
		if err != nil {
			return err
		}
	}
}

// alive opens a pidfd for each process that has not ended.
func alive(pids []int) (pidfds []int) {
	for _, pid := range pids {
		p, err := sys.PidfdOpen(pid, 0)
		if err != nil {
			continue
		}
		if awaitExit(p, time.Time{}) == nil {
			unix.Close(p)
			continue
		}
		pidfds = append(pidfds, p)
	}
	return pidfds
}

// awaitExit blocks until the process behind a pidfd has ended.
func awaitExit(pidfd int, deadline time.Time) error {
	poll := []unix.PollFd{{Fd: int32(pidfd), Events: unix.POLLIN}}
	for {
		left := max(time.Until(deadline), 0)
		n, err := unix.Poll(poll, int(left.Milliseconds()))
		switch {
		case err == unix.EINTR:
		case err != nil:
			return err
		case n > 0:
			return nil
		case left == 0:
			return ErrLeft
		}
	}
}
