package launch

import (
	"errors"
	"os"
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
	return t.Do(func() error {
		if err := checkScope(); err != nil {
			return err
		}
		return unix.Kill(-1, sig)
	})
}

// checkScope: a parent of the same user is outside of the domain. Could the
// thread signal that one, it would reach all that the user has.
func checkScope() error {
	if parent := unix.Getppid(); parent > 0 && unix.Kill(parent, 0) == nil {
		return errNoScope
	}
	return nil
}

// Contains tells whether process pid, dead or alive, belongs to the sandbox. It
// blocks while the thread is busy.
func (t *Thread) Contains(pid int) bool {
	found := false
	t.Do(func() error {
		found = t.member(pid)
		return nil
	})
	return found
}

// member is to be called on the thread.
func (t *Thread) member(pid int) bool {
	return pid > 1 && pid != unix.Getpid() && !slices.Contains(t.helpers, pid) && unix.Kill(pid, 0) == nil
}

// Members lists the processes of the sandbox, zombies among them, in no order. It
// looks at each process of the host.
func (t *Thread) Members() ([]int, error) {
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
	err = t.Do(func() error {
		for _, name := range names {
			if pid, err := strconv.Atoi(name); err == nil && t.member(pid) {
				pids = append(pids, pid)
			}
		}
		return checkScope()
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
