package launch

import "golang.org/x/sys/unix"

// waker lets the child announce its listener while Start is still in the clone.
type waker struct {
	fd   int
	one  uint64
	done chan struct{}
}

func newWaker() (*waker, error) {
	fd, err := unix.Eventfd(0, unix.EFD_CLOEXEC)
	if err != nil {
		return nil, err
	}
	return &waker{fd: fd, one: 1, done: make(chan struct{})}, nil
}

// wait blocks until the child or end wrote, and hands over the listener, if any.
func (w *waker) wait(listener *int64, on func(int)) {
	var buf [8]byte
	for {
		if _, err := unix.Read(w.fd, buf[:]); err != unix.EINTR {
			break
		}
	}
	close(w.done)
	if fd := *listener; fd >= 0 {
		on(int(fd))
	}
}

// end wakes the waiter of a child that never wrote, and frees the descriptor.
func (w *waker) end() {
	unix.Write(w.fd, []byte{1, 0, 0, 0, 0, 0, 0, 0})
	<-w.done
	unix.Close(w.fd)
}
