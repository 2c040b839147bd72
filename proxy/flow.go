package proxy

import (
	"maps"
	"net"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"

	"github.com/sandlock/sandlock/netfilter/endpoint"
	"github.com/sandlock/sandlock/proxy/rule"
	"golang.org/x/sys/unix"
)

// Connection is a client's connection, and what is known about where it leads. The
// proxy owns Client and Upstream from Serve on.
type Connection struct {
	ID       uint64
	Client   net.Conn
	Upstream net.Conn        // a connection to Dst that was made for it; nil for none
	Dst      netip.AddrPort  // where the client wanted to go
	Names    []endpoint.Name // bound to that address: the client may ask for these
	First    []byte          // bytes of the client that were read before
}

// flow is a connection that is served, or what is inside a tunnel of one.
type flow struct {
	id     uint64
	client *client
	dst    netip.AddrPort
	names  []endpoint.Name
	tls    bool
	server endpoint.Name // of the ClientHello; zero without one
	depth  int           // of tunnels around it
	spare  *spare
	head   *headReader // of HTTP/1; nil for HTTP/2
}

func (f *flow) destination() rule.Destination {
	return rule.Destination{Addr: f.dst.Addr(), Bound: f.names}
}

// leadsTo tells whether a host is one that the connection was made for.
func (f *flow) leadsTo(h rule.Host) bool {
	if h.Name.IsZero() {
		return h.Addr == f.dst.Addr()
	}
	return slices.Contains(f.names, h.Name)
}

// add takes a client into the set of those that Close ends, and tells whether it
// may be served.
func (p *Proxy) add(c *client) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.closed {
		p.clients[c] = struct{}{}
	}
	return !p.closed
}

func (p *Proxy) remove(c *client) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if _, ok := p.clients[c]; !ok {
		return
	}
	delete(p.clients, c)
	if p.closed && len(p.clients) == 0 {
		close(p.over)
	}
}

func (p *Proxy) closeClients() {
	p.mu.Lock()
	all := slices.Collect(maps.Keys(p.clients))
	p.mu.Unlock()
	for _, c := range all {
		c.Close()
	}
}

// client is the client's connection: it counts, gives back what was read ahead, and
// tells when it is over.
type client struct {
	net.Conn
	first    []byte
	up, down atomic.Int64
	ended    func(up, down int64)

	mu     sync.Mutex
	active int // requests that are not yet reported
	closed bool
	err    error
}

// hold and release keep the end of the connection from being reported before that of
// its requests.
func (c *client) hold() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.active++
}

func (c *client) release() {
	c.mu.Lock()
	c.active--
	over := c.closed && c.active == 0
	c.mu.Unlock()
	if over {
		c.ended(c.up.Load(), c.down.Load())
	}
}

// Read reads what was read ahead, and then the connection.
func (c *client) Read(b []byte) (int, error) {
	if len(c.first) > 0 {
		n := copy(b, c.first)
		c.first = c.first[n:]
		c.up.Add(int64(n))
		return n, nil
	}
	n, err := c.Conn.Read(b)
	c.up.Add(int64(n))
	return n, err
}

// Write writes to the connection.
func (c *client) Write(b []byte) (int, error) {
	n, err := c.Conn.Write(b)
	c.down.Add(int64(n))
	return n, err
}

// Close ends the connection and reports it, once.
func (c *client) Close() error {
	c.mu.Lock()
	if c.closed {
		c.mu.Unlock()
		return c.err
	}
	c.closed, c.err = true, c.Conn.Close()
	over := c.active == 0
	c.mu.Unlock()
	if over {
		c.ended(c.up.Load(), c.down.Load())
	}
	return c.err
}

// CloseWrite ends the direction to the client.
func (c *client) CloseWrite() error {
	if w, ok := c.Conn.(interface{ CloseWrite() error }); ok {
		return w.CloseWrite()
	}
	return nil
}

// spare is the connection to the upstream that was made together with the client's.
type spare struct {
	mu   sync.Mutex
	conn net.Conn
}

// take returns the connection, once, if it is still fresh: a server may have closed
// it meanwhile.
func (s *spare) take() net.Conn {
	s.mu.Lock()
	defer s.mu.Unlock()
	c := s.conn
	s.conn = nil
	if c != nil && !fresh(c) {
		c.Close()
		return nil
	}
	return c
}

func (s *spare) close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.conn != nil {
		s.conn.Close()
		s.conn = nil
	}
}

// fresh tells whether nothing has come on a connection, neither bytes nor its end.
func fresh(c net.Conn) bool {
	sc, ok := c.(syscall.Conn)
	if !ok {
		return true
	}
	raw, err := sc.SyscallConn()
	if err != nil {
		return false
	}
	quiet := false
	err = raw.Read(func(fd uintptr) bool {
		var b [1]byte
		_, _, e := unix.Recvfrom(int(fd), b[:], unix.MSG_PEEK|unix.MSG_DONTWAIT)
		quiet = e == unix.EAGAIN
		return true
	})
	return err == nil && quiet
}
