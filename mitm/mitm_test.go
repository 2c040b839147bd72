package mitm

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/sandlock/sandlock/certs"
)

var to = netip.MustParseAddr("203.0.113.5")

func authority(t testing.TB) (*certs.CA, *x509.CertPool) {
	t.Helper()
	ca, err := certs.NewCA(time.Now)
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(ca.PEM())
	return ca, roots
}

// pair returns both ends of a connection over loopback.
func pair(t testing.TB) (client, server net.Conn) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if client, err = net.Dial("tcp", l.Addr().String()); err != nil {
		t.Fatal(err)
	}
	if server, err = l.Accept(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { client.Close(); server.Close() })
	for _, c := range []net.Conn{client, server} {
		_ = c.SetDeadline(time.Now().Add(time.Minute))
	}
	return client, server
}

// handshake runs both sides and returns the server's.
func handshake(t *testing.T, m *Terminator, o Options, config *tls.Config) (*tls.Conn, *tls.Conn, error) {
	t.Helper()
	c, s := pair(t)
	client := tls.Client(c, config)
	failed := make(chan error, 1)
	go func() {
		err := client.Handshake()
		if err != nil {
			c.Close()
		}
		failed <- err
	}()
	server, err := m.Server(t.Context(), s, o)
	clientErr := <-failed
	if err == nil && clientErr != nil {
		t.Fatal(clientErr)
	}
	return client, server, err
}

func TestServer(t *testing.T) {
	ca, roots := authority(t)
	m := New(ca.Leaf)
	for _, c := range []struct {
		name, sni string
		offered   []string
		o         Options
		version   uint16
		want      string
	}{
		{"both", "Api.Example.com", []string{"h2", "http/1.1"}, Options{To: to}, 0, HTTP2},
		{"the old one first", "api.example.com", []string{"http/1.1", "h2"}, Options{To: to}, 0, HTTP2},
		{"only the old one", "api.example.com", []string{"h2", "http/1.1"}, Options{To: to, HTTP1Only: true}, 0, HTTP1},
		{"no ALPN", "api.example.com", nil, Options{To: to}, 0, ""},
		{"TLS 1.2", "api.example.com", []string{"h2"}, Options{To: to}, tls.VersionTLS12, HTTP2},
		{"by address", "", []string{"h2"}, Options{To: to}, 0, HTTP2},
	} {
		config := &tls.Config{RootCAs: roots, NextProtos: c.offered, ServerName: c.sni, MaxVersion: c.version}
		if c.sni == "" {
			config.ServerName = to.String() // checked, and not sent
		}
		client, server, err := handshake(t, m, c.o, config)
		if err != nil {
			t.Errorf("%s: %v", c.name, err)
			continue
		}
		if state := server.ConnectionState(); state.NegotiatedProtocol != c.want || state.ServerName != c.sni || client.ConnectionState().NegotiatedProtocol != c.want {
			t.Errorf("%s: %q, %q", c.name, state.NegotiatedProtocol, state.ServerName)
		}
		go func() { _, _ = client.Write([]byte("hello")); client.Close() }()
		if got, err := io.ReadAll(server); err != nil || string(got) != "hello" {
			t.Errorf("%s: %q, %v", c.name, got, err)
		}
		server.Close()
	}
}

func TestWhyThereIsNone(t *testing.T) {
	ca, roots := authority(t)
	_, others := authority(t)
	m := New(ca.Leaf)
	for _, c := range []struct {
		name   string
		config *tls.Config
		o      Options
		want   Reason
	}{
		{"untrusted", &tls.Config{RootCAs: others, ServerName: "a.test"}, Options{To: to}, Untrusted},
		{"untrusted in TLS 1.2", &tls.Config{RootCAs: others, ServerName: "a.test", MaxVersion: tls.VersionTLS12}, Options{To: to}, Untrusted},
		{"old", &tls.Config{RootCAs: roots, ServerName: "a.test", MinVersion: tls.VersionTLS10, MaxVersion: tls.VersionTLS11}, Options{To: to}, TooOld},
		{"protocol", &tls.Config{RootCAs: roots, ServerName: "a.test", NextProtos: []string{"imap"}}, Options{To: to}, NoProtocol},
		{"h2 where it is not offered", &tls.Config{RootCAs: roots, ServerName: "a.test", NextProtos: []string{"h2"}}, Options{To: to, HTTP1Only: true}, NoProtocol},
		{"neither name nor address", &tls.Config{InsecureSkipVerify: true}, Options{}, Certificate},
	} {
		_, _, err := handshake(t, m, c.o, c.config)
		var e *Error
		if !errors.As(err, &e) || e.Reason != c.want || e.Unwrap() == nil {
			t.Errorf("%s: %v", c.name, err)
		}
	}
	for _, c := range []struct {
		name string
		say  func(net.Conn)
		want Reason
	}{
		{"plain HTTP", func(c net.Conn) { _, _ = c.Write([]byte("GET / HTTP/1.1\r\nHost: a.test\r\n\r\n")) }, NotTLS},
		{"nothing", func(c net.Conn) { c.Close() }, Ended},
		{"half a hello", func(c net.Conn) { _, _ = c.Write([]byte{22, 3, 1, 0, 100, 1, 0}); c.Close() }, Ended},
		{"garbage inside", func(c net.Conn) { _, _ = c.Write([]byte{22, 3, 1, 0, 4, 1, 0, 0, 0}) }, Broken},
	} {
		client, server := pair(t)
		c.say(client)
		_, err := m.Server(t.Context(), server, Options{To: to})
		var e *Error
		if !errors.As(err, &e) || e.Reason != c.want {
			t.Errorf("%s: %v", c.name, err)
		}
		if _, err := server.Write([]byte("x")); err == nil {
			t.Errorf("%s: the connection is open", c.name)
		}
	}
}

func TestACancelledHandshakeEnds(t *testing.T) {
	ca, _ := authority(t)
	_, server := pair(t)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := New(ca.Leaf).Server(ctx, server, Options{To: to})
	var e *Error
	if !errors.As(err, &e) || e.Reason != TimedOut {
		t.Error(err)
	}
}

// recorder keeps what is read from a connection.
type recorder struct {
	net.Conn
	read bytes.Buffer
}

func (r *recorder) Read(b []byte) (int, error) {
	n, err := r.Conn.Read(b[:min(len(b), 7)])
	r.read.Write(b[:n])
	return n, err
}

func TestEarlyBytes(t *testing.T) {
	ca, roots := authority(t)
	c, s := pair(t)
	client := tls.Client(c, &tls.Config{RootCAs: roots, ServerName: "a.test"})
	done := make(chan error, 1)
	go func() { done <- client.Handshake() }()
	early := make([]byte, 300)
	if _, err := io.ReadFull(s, early); err != nil {
		t.Fatal(err)
	}
	rest := &recorder{Conn: s}
	server, err := New(ca.Leaf).Server(t.Context(), rest, Options{To: to, Early: early})
	if err != nil || <-done != nil || server.ConnectionState().ServerName != "a.test" {
		t.Fatal(err)
	}
	if bytes.HasPrefix(rest.read.Bytes(), early[:5]) {
		t.Error("the early bytes came twice")
	}

	c, s = pair(t)
	go func() { _, _ = c.Write([]byte("world")); c.Close() }()
	if got, err := io.ReadAll(Unread(s, []byte("hello "))); err != nil || string(got) != "hello world" {
		t.Errorf("%q, %v", got, err)
	}
	if Unread(s, nil) != s {
		t.Error("wrapped for nothing")
	}
}

func TestSessionsAreResumed(t *testing.T) {
	ca, roots := authority(t)
	m := New(ca.Leaf)
	config := &tls.Config{RootCAs: roots, ServerName: "a.test", ClientSessionCache: tls.NewLRUClientSessionCache(1)}
	for i := range 2 {
		client, server, err := handshake(t, m, Options{To: to}, config)
		if err != nil {
			t.Fatal(err)
		}
		go func() { _, _ = server.Write([]byte("x")); server.Close() }() // the ticket comes before it
		if _, err := io.ReadAll(client); err != nil {
			t.Fatal(err)
		}
		if resumed := server.ConnectionState().DidResume; resumed != (i == 1) {
			t.Errorf("connection %d: resumed %v", i, resumed)
		}
	}
}

func TestServerNamesThatAreNone(t *testing.T) {
	ca, _ := authority(t)
	m := New(ca.Leaf)
	for _, name := range []string{"127.0.0.1", "a..test", "a b", "*.test", strings.Repeat("a", 64) + ".test"} {
		if c, err := m.certificate(&tls.ClientHelloInfo{ServerName: name}); err == nil {
			t.Errorf("%q: %v", name, c.Leaf.DNSNames)
		}
	}
}

func FuzzServer(f *testing.F) {
	ca, roots := authority(f)
	m := New(ca.Leaf)
	c, s := net.Pipe()
	go func() { _ = tls.Client(c, &tls.Config{RootCAs: roots, ServerName: "a.test"}).Handshake() }()
	hello := make([]byte, 4096)
	n, err := s.Read(hello)
	if err != nil {
		f.Fatal(err)
	}
	s.Close()
	f.Add(hello[:n])
	f.Add([]byte("GET / HTTP/1.1\r\n\r\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		conn := &said{Reader: bytes.NewReader(b)}
		if _, err := m.Server(t.Context(), conn, Options{To: to}); err == nil || !conn.closed {
			t.Fatal("a handshake without a client")
		}
	})
}

// said is a connection of a client that has said everything.
type said struct {
	io.Reader
	closed bool
}

func (*said) Write(b []byte) (int, error)      { return len(b), nil }
func (s *said) Close() error                   { s.closed = true; return nil }
func (*said) LocalAddr() net.Addr              { return &net.TCPAddr{} }
func (*said) RemoteAddr() net.Addr             { return &net.TCPAddr{} }
func (*said) SetDeadline(time.Time) error      { return nil }
func (*said) SetReadDeadline(time.Time) error  { return nil }
func (*said) SetWriteDeadline(time.Time) error { return nil }

// BenchmarkHandshake is both sides of a handshake.
func BenchmarkHandshake(b *testing.B) {
	ca, roots := authority(b)
	m := New(ca.Leaf)
	for name, config := range map[string]*tls.Config{
		"full":    {RootCAs: roots, ServerName: "a.test", NextProtos: []string{"h2"}},
		"classic": {RootCAs: roots, ServerName: "a.test", NextProtos: []string{"h2"}, CurvePreferences: []tls.CurveID{tls.X25519}},
		"resumed": {RootCAs: roots, ServerName: "a.test", NextProtos: []string{"h2"}, ClientSessionCache: tls.NewLRUClientSessionCache(1)},
	} {
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				c, s := net.Pipe()
				go func() {
					if server, err := m.Server(b.Context(), s, Options{To: to}); err == nil {
						_, _ = server.Write([]byte("x"))
						server.Close()
					}
				}()
				client := tls.Client(c, config)
				if _, err := io.ReadAll(client); err != nil {
					b.Fatal(err)
				}
				client.Close()
			}
		})
	}
}
