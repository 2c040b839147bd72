package dispatch

import (
	"sync"

	"github.com/sandlock/sandlock/internal/sys"
	"golang.org/x/sys/unix"
)

// The cached process descriptors are at most maxProcesses, and a part of those that
// this process may have open: connections need them too.
const (
	maxProcesses = 256
	partOfLimit  = 8
)

// index caches a pidfd per calling thread. A pidfd whose process ended answers
// ESRCH for ever, even when the number is used again, so a cached one needs no
// other check of identity.
type index struct {
	mu      sync.Mutex
	threads bool // PIDFD_THREAD is known to the kernel
	most    int
	pidfds  map[int]entry
}

// entry is what is known about a thread as long as its pidfd is good.
type entry struct {
	pidfd int
	tgid  int // the process that it belongs to; 0 until somebody asked
}

func newIndex() *index {
	x := &index{pidfds: map[int]entry{}, most: maxProcesses}
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err == nil && limit.Cur/partOfLimit < maxProcesses {
		x.most = int(limit.Cur / partOfLimit)
	}
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
	if e, ok := x.pidfds[pid]; ok {
		n, err := sys.PidfdGetfd(e.pidfd, fd)
		if err != unix.ESRCH {
			return n, err
		}
		unix.Close(e.pidfd)
		delete(x.pidfds, pid)
	}
	p, err := x.open(pid)
	if err != nil {
		return -1, err
	}
	if len(x.pidfds) >= x.most {
		x.clear()
	}
	x.pidfds[pid] = entry{pidfd: p}
	return sys.PidfdGetfd(p, fd)
}

// tgid returns the process that thread pid belongs to, without looking it up
// again while the thread lives.
func (x *index) tgid(pid int) int {
	x.mu.Lock()
	defer x.mu.Unlock()
	e, ok := x.pidfds[pid]
	if !ok {
		return TGID(pid)
	}
	// No descriptor has this number: EBADF says that the thread lives.
	if _, err := sys.PidfdGetfd(e.pidfd, -1); err != unix.EBADF {
		return TGID(pid)
	}
	if e.tgid == 0 {
		e.tgid = TGID(pid)
		x.pidfds[pid] = e
	}
	return e.tgid
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
	for pid, e := range x.pidfds {
		unix.Close(e.pidfd)
		delete(x.pidfds, pid)
	}
}

func (x *index) close() {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.clear()
}
