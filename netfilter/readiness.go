package netfilter

import (
	"context"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

const maxReady = 64 // events taken from the kernel at once

// readiness waits for sockets of the sandbox, which may be blocking ones, without
// a thread for each. The zero value is ready for use.
type readiness struct {
	mu      sync.Mutex
	epoll   int // of unix.EpollCreate1, valid once started
	stop    int // eventfd that ends the waiting thread
	started bool
	closed  bool
	waiting map[int32]chan struct{}
	done    chan struct{}
}

// timeout is the time of SO_RCVTIMEO or SO_SNDTIMEO, 0 for none (socket(7)).
func timeout(t *unix.Timeval) time.Duration { return time.Duration(t.Nano()) }

// wait blocks until one of the events or an error is there on fd, which must stay
// open and be waited for only once. It fails with EAGAIN after the time, 0 meaning
// for ever, and with EINTR when ctx or the filter ends.
func (r *readiness) wait(ctx context.Context, fd int, events uint32, limit time.Duration) error {
	ready := make(chan struct{}, 1)
	if err := r.add(fd, events, ready); err != nil {
		return err
	}
	defer r.remove(fd)
	var late <-chan time.Time
	if limit > 0 {
		t := time.NewTimer(limit)
		defer t.Stop()
		late = t.C
	}
	select {
	case <-ready:
		return nil
	case <-late:
		return unix.EAGAIN
	case <-ctx.Done():
	case <-r.done:
	}
	return unix.EINTR
}

func (r *readiness) add(fd int, events uint32, ready chan struct{}) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed {
		return unix.EINTR
	}
	if !r.started {
		if err := r.start(); err != nil {
			return err
		}
	}
	r.waiting[int32(fd)] = ready
	err := unix.EpollCtl(r.epoll, unix.EPOLL_CTL_ADD, fd, &unix.EpollEvent{Events: events | unix.EPOLLONESHOT, Fd: int32(fd)})
	if err != nil {
		delete(r.waiting, int32(fd))
	}
	return err
}

func (r *readiness) remove(fd int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.waiting, int32(fd))
	if !r.closed {
		unix.EpollCtl(r.epoll, unix.EPOLL_CTL_DEL, fd, nil)
	}
}

// start holds mu.
func (r *readiness) start() (err error) {
	if r.epoll, err = unix.EpollCreate1(unix.EPOLL_CLOEXEC); err != nil {
		return err
	}
	if r.stop, err = unix.Eventfd(0, unix.EFD_CLOEXEC); err == nil {
		err = unix.EpollCtl(r.epoll, unix.EPOLL_CTL_ADD, r.stop, &unix.EpollEvent{Events: unix.EPOLLIN, Fd: int32(r.stop)})
		if err != nil {
			unix.Close(r.stop)
		}
	}
	if err != nil {
		unix.Close(r.epoll)
		return err
	}
	r.started, r.waiting, r.done = true, map[int32]chan struct{}{}, make(chan struct{})
	go r.run()
	return nil
}

func (r *readiness) run() {
	events := make([]unix.EpollEvent, maxReady)
	for {
		n, err := unix.EpollWait(r.epoll, events, -1)
		if err == unix.EINTR {
			continue
		}
		r.mu.Lock()
		if r.closed || err != nil {
			r.closed = true
			unix.Close(r.epoll)
			unix.Close(r.stop)
			close(r.done)
			r.mu.Unlock()
			return
		}
		for _, e := range events[:n] {
			select {
			case r.waiting[e.Fd] <- struct{}{}:
			default: // nobody waits any more
			}
		}
		r.mu.Unlock()
	}
}

// close ends every wait.
func (r *readiness) close() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.started && !r.closed {
		unix.Write(r.stop, []byte{1, 0, 0, 0, 0, 0, 0, 0})
	}
	r.closed = true
}
