// Package mitm ends TLS in the place of the host that a client asked for, with a
// certificate of the run's own authority. It knows nothing of what is said inside.
package mitm

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"time"

	"github.com/sandlock/sandlock/certs"
)

// handshakeTimeout bounds a handshake, from the first byte that is awaited. Browsers
// and servers allow 10 to 15 seconds.
const handshakeTimeout = 10 * time.Second

// The protocols that are offered by ALPN (RFC 7301, RFC 9113 section 3.2).
const (
	HTTP1 = "http/1.1"
	HTTP2 = "h2"
)

// Terminator ends TLS. Any number of goroutines may use it.
type Terminator struct {
	leaf func(certs.Host) (*tls.Certificate, error)
	// One configuration for all connections of a kind: the keys of the session
	// tickets live in it, change every day and end with the process.
	both, old *tls.Config
}

// New returns a terminator that takes certificates from leaf, usually the method Leaf
// of a certs.CA. leaf may be called from many goroutines.
func New(leaf func(certs.Host) (*tls.Certificate, error)) *Terminator {
	t := &Terminator{leaf: leaf}
	config := func(protocols ...string) *tls.Config {
		return &tls.Config{MinVersion: tls.VersionTLS12, NextProtos: protocols, GetCertificate: t.certificate}
	}
	t.both, t.old = config(HTTP2, HTTP1), config(HTTP1)
	return t
}

// Options are what is known about one connection.
type Options struct {
	// To is the address that the client connected to: it gets a certificate for it
	// when it sends no server name.
	To netip.Addr
	// HTTP1Only leaves HTTP/2 out of what is offered.
	HTTP1Only bool
	// Early are bytes of the client that were read already.
	Early []byte
}

// Server ends TLS on a connection: it makes the handshake, which it bounds by a
// deadline and by ctx, and returns the connection within. What the client asked for
// and what was agreed on is in ConnectionState: ServerName is the server name as it
// was sent ("" for none), NegotiatedProtocol is HTTP2, HTTP1, or "" from a client that
// does not speak ALPN. With an error, an *Error, the connection was closed; without,
// closing what is returned closes it.
func (t *Terminator) Server(ctx context.Context, conn net.Conn, o Options) (*tls.Conn, error) {
	config := t.both
	if o.HTTP1Only {
		config = t.old
	}
	ctx, cancel := context.WithTimeout(ctx, handshakeTimeout)
	defer cancel()
	out := tls.Server(&connection{Conn: conn, early: o.Early, to: o.To}, config)
	if err := out.HandshakeContext(ctx); err != nil {
		conn.Close()
		return nil, &Error{Reason: reasonOf(ctx, err), Err: err}
	}
	return out, nil
}

// certificate chooses by the server name, else by the address.
func (t *Terminator) certificate(h *tls.ClientHelloInfo) (*tls.Certificate, error) {
	if h.ServerName != "" {
		if _, err := netip.ParseAddr(h.ServerName); err == nil {
			return nil, fmt.Errorf("the server name %q is an address (RFC 6066 section 3 forbids it)", h.ServerName)
		}
		c, err := t.leaf(certs.Host{Name: strings.ToLower(h.ServerName)})
		if err != nil {
			return nil, fmt.Errorf("for the server name %q: %w", h.ServerName, err)
		}
		return c, nil
	}
	c, ok := h.Conn.(*connection)
	if !ok || !c.to.IsValid() {
		return nil, errors.New("the client sent no server name")
	}
	return t.leaf(certs.Host{Addr: c.to})
}

// connection is a client's connection with the bytes that were read from it before.
type connection struct {
	net.Conn
	early []byte
	to    netip.Addr
}

// Read returns the early bytes first.
func (c *connection) Read(b []byte) (int, error) {
	if len(c.early) == 0 {
		return c.Conn.Read(b)
	}
	n := copy(b, c.early)
	if c.early = c.early[n:]; len(c.early) == 0 {
		c.early = nil // let the buffer go
	}
	return n, nil
}

// Unread returns a connection whose first bytes are early, and whose other ones are
// those of conn. Closing it closes conn.
func Unread(conn net.Conn, early []byte) net.Conn {
	if len(early) == 0 {
		return conn
	}
	return &connection{Conn: conn, early: early}
}
