package proxy

import (
	"context"
	"crypto/tls"
	"fmt"
	"log"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/sandlock/sandlock/mitm"
	"github.com/sandlock/sandlock/proxy/rule"
)

// How long clients may take. There is no limit for a body, and none before the
// first byte: streams may be slow, and browsers open connections ahead of need.
const (
	headerTimeout = 30 * time.Second // servers use 10 to 60 s
	idleTimeout   = 10 * time.Minute // between requests; clients give up earlier
)

// What HTTP/2 clients may send ahead, in bytes. Small windows throttle uploads over
// a link with latency; these are what browsers use.
const (
	streamWindow     = 1 << 20
	connectionWindow = 3 << 20
	frameSize        = 64 << 10
	maxStreams       = 250
)

const recordHandshake = 0x16 // ContentType of TLS, RFC 8446 section 5.1

type flowKey struct{}

func (p *Proxy) newServer() *http.Server {
	protocols := new(http.Protocols)
	protocols.SetHTTP1(true)
	protocols.SetHTTP2(true)
	return &http.Server{
		Handler: p, Protocols: protocols,
		ReadHeaderTimeout: headerTimeout, IdleTimeout: idleTimeout,
		HTTP2: &http.HTTP2Config{MaxConcurrentStreams: maxStreams, MaxReceiveBufferPerStream: streamWindow,
			MaxReceiveBufferPerConnection: connectionWindow, MaxReadFrameSize: frameSize},
		ErrorLog: log.New(panics(p.config.Fault), "", 0),
		ConnContext: func(ctx context.Context, c net.Conn) context.Context {
			return context.WithValue(ctx, flowKey{}, p.listener.flow(c))
		},
	}
}

// panics is what the server logs to: of it only a panic of a handler is a fault.
type panics func(string)

// Write reports the first line of a panic.
func (f panics) Write(b []byte) (int, error) {
	if line, _, _ := strings.Cut(string(b), "\n"); strings.Contains(line, "panic serving") {
		f(line)
	}
	return len(b), nil
}

// Serve takes over a connection. It returns at once.
func (p *Proxy) Serve(c Connection) {
	s := &spare{conn: c.Upstream}
	client := &client{Conn: c.Client, first: c.First}
	client.ended = func(up, down int64) {
		s.close()
		p.config.Ended(c.ID, up, down)
		p.remove(client)
	}
	if !p.add(client) {
		client.Close()
		return
	}
	go p.begin(&flow{id: c.ID, client: client, dst: c.Dst, names: c.Names, spare: s}, client)
}

// begin finds out what a client speaks and hands its connection to the server.
func (p *Proxy) begin(f *flow, conn net.Conn) {
	first := make([]byte, 1)
	if _, err := conn.Read(first); err != nil {
		conn.Close()
		return
	}
	conn = &ahead{Conn: conn, first: first}
	if first[0] == recordHandshake {
		secure, err := p.handshake(f, conn)
		if err != nil {
			conn.Close()
			return
		}
		if secure.ConnectionState().NegotiatedProtocol == mitm.HTTP2 {
			p.listener.push(secure, f)
			return
		}
		conn = secure
	}
	f.head = newHeadReader(conn)
	p.listener.push(f.head, f)
}

func (p *Proxy) handshake(f *flow, conn net.Conn) (*tls.Conn, error) {
	secure, err := p.config.TLS.Server(context.Background(), conn, mitm.Options{To: f.dst.Addr()})
	if err != nil {
		place := f.dst.String()
		if len(f.names) > 0 {
			place = f.names[0].String() + " (" + place + ")"
		}
		p.config.Fault(fmt.Sprintf("TLS with a client of %s: %v", place, err))
		return nil, err
	}
	f.tls = true
	if f.server, err = rule.ParseServerName(secure.ConnectionState().ServerName); err != nil {
		secure.Close()
	}
	return secure, err
}

// ahead is a connection from which something was read ahead.
type ahead struct {
	net.Conn
	first []byte
}

// Read reads what was read ahead, and then the connection.
func (c *ahead) Read(b []byte) (int, error) {
	if len(c.first) > 0 {
		n := copy(b, c.first)
		c.first = c.first[n:]
		return n, nil
	}
	return c.Conn.Read(b)
}

// CloseWrite ends the direction to the client.
func (c *ahead) CloseWrite() error {
	if w, ok := c.Conn.(interface{ CloseWrite() error }); ok {
		return w.CloseWrite()
	}
	return nil
}

// feed is a listener whose connections are pushed.
type feed struct {
	conns chan net.Conn
	done  chan struct{}
	once  sync.Once
	flows sync.Map // net.Conn -> *flow, between push and ConnContext
}

func newFeed() *feed { return &feed{conns: make(chan net.Conn), done: make(chan struct{})} }

func (l *feed) push(c net.Conn, f *flow) {
	l.flows.Store(c, f)
	select {
	case l.conns <- c:
	case <-l.done:
		l.flows.Delete(c)
		c.Close()
	}
}

func (l *feed) flow(c net.Conn) *flow {
	f, _ := l.flows.LoadAndDelete(c)
	return f.(*flow)
}

// Accept waits for a connection that was pushed.
func (l *feed) Accept() (net.Conn, error) {
	select {
	case c := <-l.conns:
		return c, nil
	case <-l.done:
		return nil, net.ErrClosed
	}
}

// Close ends Accept.
func (l *feed) Close() error {
	l.once.Do(func() { close(l.done) })
	return nil
}

// Addr is no address.
func (l *feed) Addr() net.Addr { return &net.UnixAddr{Net: "unix"} }
