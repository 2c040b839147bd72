package dispatch

import (
	"sync"

	"github.com/sandlock/sandlock/internal/sys"
	"golang.org/x/sys/unix"
)

// maxProcesses bounds the cached process descriptors.
const maxProcesses = 256

// index caches a pidfd per calling thread. A pidfd whose process ended answers
// ESRCH for ever, even when the number is used again, so a cached one needs no
// other check of identity.
type index struct {
	mu      sync.Mutex
	threads bool // PIDFD_THREAD is known to the kernel
	pidfds  map[int]int
}

func newIndex() *index {
	x := &index{pidfds: map[int]int{}}
	if fd, err := sys.PidfdOpen(unix.Getpid(), sys.PidfdThread); err == nil {
		x.threads = true
		unix.Close(fd)
	}
	return x
}

// getfd returns a copy of descriptor fd of thread pid, owned by the caller.
func (x *index) getfd(pid, fd int) (int, error) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if p, ok := x.pidfds[pid]; ok {
		n, err := sys.PidfdGetfd(p, fd)
		if err != unix.ESRCH {
			return n, err
		}
		unix.Close(p)
		delete(x.pidfds, pid)
	}
	p, err := x.open(pid)
	if err != nil {
		return -1, err
	}
	if len(x.pidfds) >= maxProcesses {
		x.clear()
	}
	x.pidfds[pid] = p
	return sys.PidfdGetfd(p, fd)
}

func (x *index) open(pid int) (int, error) {
	if x.threads {
		return sys.PidfdOpen(pid, sys.PidfdThread)
	}
	p, err := sys.PidfdOpen(pid, 0)
	if err == unix.EINVAL || err == unix.ENOENT {
		// Before PIDFD_THREAD (6.9) only a leader can be named.
		return sys.PidfdOpen(TGID(pid), 0)
	}
	return p, err
}

func (x *index) clear() {
	for pid, p := range x.pidfds {
		unix.Close(p)
		delete(x.pidfds, pid)
	}
}

func (x *index) close() {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.clear()
}
