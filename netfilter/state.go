package netfilter

import (
	"net/netip"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"
)

// Bounds of what is remembered about a run's sockets.
const (
	maxOwn      = 65536
	maxFailures = 4096
	maxRemember = 4096 // of what else is known about sockets
)

// bounded maps what is remembered about a socket and forgets the oldest entry
// when there are limit of them. The zero value with a limit is ready for use.
type bounded[K comparable, V any] struct {
	limit int
	n     atomic.Int64
	mu    sync.RWMutex
	set   map[K]V
	order []K // as they came; a ring once it is full
	next  int
}

func (b *bounded[K, V]) put(k K, v V) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.set == nil {
		b.set = map[K]V{}
	}
	if _, there := b.set[k]; !there {
		if len(b.order) < b.limit {
			b.order = append(b.order, k)
		} else {
			delete(b.set, b.order[b.next])
			b.order[b.next] = k
			b.next = (b.next + 1) % b.limit
		}
	}
	b.set[k] = v
	b.n.Store(int64(len(b.set)))
}

func (b *bounded[K, V]) get(k K) (v V, ok bool) {
	if b.n.Load() == 0 {
		return v, false
	}
	b.mu.RLock()
	defer b.mu.RUnlock()
	v, ok = b.set[k]
	return v, ok
}

// cookies is a set of socket cookies, which the kernel never uses again.
type cookies struct {
	mu  sync.RWMutex
	set map[uint64]struct{}
}

func (s *cookies) add(c uint64) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.set == nil {
		s.set = map[uint64]struct{}{}
	}
	if len(s.set) >= maxOwn {
		return false
	}
	s.set[c] = struct{}{}
	return true
}

func (s *cookies) has(c uint64) bool {
	s.mu.RLock()
	defer s.mu.RUnlock()
	_, ok := s.set[c]
	return ok
}

// ports is a set of port numbers.
type ports struct{ bits atomic.Pointer[portBits] }

type portBits [1 << 16 / 64]atomic.Uint64

func (p *ports) add(port uint16) {
	if p.bits.Load() == nil {
		p.bits.CompareAndSwap(nil, new(portBits))
	}
	p.bits.Load()[port/64].Or(1 << (port % 64))
}

func (p *ports) has(port uint16) bool {
	b := p.bits.Load()
	return b != nil && b[port/64].Load()&(1<<(port%64)) != 0
}

// peers maps the cookie of a redirected socket to the peer that it asked for.
type peers struct {
	n   atomic.Int64
	mu  sync.RWMutex
	set map[uint64]netip.AddrPort
}

func (p *peers) put(c uint64, a netip.AddrPort) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.set == nil {
		p.set = map[uint64]netip.AddrPort{}
	}
	p.set[c] = a
	p.n.Store(int64(len(p.set)))
}

func (p *peers) drop(c uint64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.set, c)
	p.n.Store(int64(len(p.set)))
}

func (p *peers) get(c uint64) (netip.AddrPort, bool) {
	if p.n.Load() == 0 {
		return netip.AddrPort{}, false
	}
	p.mu.RLock()
	defer p.mu.RUnlock()
	a, ok := p.set[c]
	return a, ok
}

// failures holds why the connection behind a redirected socket failed, until
// the program asks with SO_ERROR: the socket itself can only say ECONNRESET.
type failures struct {
	n   atomic.Int64
	mu  sync.Mutex
	set map[uint64]unix.Errno
}

func (x *failures) put(c uint64, e unix.Errno) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.set == nil || len(x.set) >= maxFailures {
		x.set = map[uint64]unix.Errno{}
	}
	x.set[c] = e
	x.n.Store(int64(len(x.set)))
}

func (x *failures) take(c uint64) (unix.Errno, bool) {
	x.mu.Lock()
	defer x.mu.Unlock()
	e, ok := x.set[c]
	delete(x.set, c)
	x.n.Store(int64(len(x.set)))
	return e, ok
}
