package proxy

import (
	"io"
	"net"
	"os"
	"sync"
	"time"
)

// linger is where a read waits when a client has ended its direction behind its last
// request, as printf | nc does. net/http takes the end for the client's going away
// and gives the request up.
type linger struct {
	mu       sync.Mutex
	change   sync.Cond
	deadline time.Time
	closed   bool
}

// wait blocks until the connection is closed or its deadline for reading has passed.
func (l *linger) wait() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	for {
		switch {
		case l.closed:
			return net.ErrClosed
		case !l.deadline.IsZero() && time.Until(l.deadline) <= 0:
			return os.ErrDeadlineExceeded
		}
		l.change.Wait()
	}
}

func (l *linger) set(f func()) {
	l.mu.Lock()
	defer l.mu.Unlock()
	f()
	l.change.Broadcast()
}

// SetReadDeadline sets the deadline for reading; one that has passed ends a read.
func (h *headReader) SetReadDeadline(t time.Time) error {
	err := h.Conn.SetReadDeadline(t)
	h.linger.set(func() { h.linger.deadline = t })
	return err
}

// SetDeadline sets both deadlines.
func (h *headReader) SetDeadline(t time.Time) error {
	err := h.Conn.SetDeadline(t)
	h.linger.set(func() { h.linger.deadline = t })
	return err
}

// drain is how long, and drainBytes how far, a client may go on to send a body that
// nobody wants any more: closing with unread bytes resets the connection, and the
// answer can be lost with it.
const (
	drain      = 2 * time.Second
	drainBytes = 64 << 20
)

// Close ends the connection, and a read that waits. In the midst of a request it
// first ends the direction to the client, and lets it read the answer.
func (h *headReader) Close() error {
	h.linger.set(func() { h.linger.closed = true })
	if !h.unfinished.Swap(false) {
		return h.Conn.Close()
	}
	_ = h.CloseWrite()
	_ = h.Conn.SetReadDeadline(time.Now().Add(drain))
	go func() {
		_, _ = io.CopyN(io.Discard, h.Conn, drainBytes)
		h.Conn.Close()
	}()
	return nil
}
