package netfilter

import (
	"sync"

	"golang.org/x/sys/unix"
)

const (
	stockSize = 8 // sockets of a family that are made at once
	stockLow  = 2 // and when the next ones are made
)

// stock holds datagram sockets that were made before anybody asked for one: the
// helper in the empty namespace is another process, and to wait for it costs more
// than all the rest of the call.
type stock struct {
	mu     sync.Mutex
	free   map[int][]int // by family
	making map[int]bool
	closed bool
}

// take returns a socket of the family, owned by the caller, and tells whether
// more should be made; fd is -1 when there is none.
func (s *stock) take(family int) (fd int, low bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	list := s.free[family]
	if len(list) == 0 {
		return -1, false
	}
	fd = list[len(list)-1]
	s.free[family] = list[:len(list)-1]
	low = len(list)-1 <= stockLow && !s.making[family] && !s.closed
	if low {
		s.making[family] = true
	}
	return fd, low
}

// put adds sockets, which the stock owns from then on.
func (s *stock) put(family int, fds []int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		closeAll(fds)
		return
	}
	if s.free == nil {
		s.free, s.making = map[int][]int{}, map[int]bool{}
	}
	s.free[family] = append(s.free[family], fds...)
	s.making[family] = false
}

func (s *stock) close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
	for family, fds := range s.free {
		closeAll(fds)
		delete(s.free, family)
	}
}

func closeAll(fds []int) {
	for _, fd := range fds {
		unix.Close(fd)
	}
}

// makeStock makes sockets of the family. It blocks for the helper.
func (x *containment) makeStock(family int) error {
	fds := make([]int, stockSize)
	specs := make([][3]int, stockSize)
	for i := range specs {
		specs[i] = [3]int{family, unix.SOCK_DGRAM | unix.SOCK_CLOEXEC, 0}
	}
	err := x.helper.Sockets(fds, specs...)
	if err != nil {
		fds = nil
	}
	x.stock.put(family, fds)
	return err
}
