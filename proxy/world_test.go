package proxy_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sandlock/sandlock/certs"
	"github.com/sandlock/sandlock/mitm"
	"github.com/sandlock/sandlock/netfilter/endpoint"
	"github.com/sandlock/sandlock/proxy"
	"github.com/sandlock/sandlock/proxy/rule"
)

// dst is the address that clients believe to be connected to; a.test and b.test are
// bound to it.
var dst = netip.MustParseAddr("203.0.113.5")

// world is a proxy between a client on loopback and an upstream that records every
// byte which it gets.
type world struct {
	t         testing.TB
	proxy     *proxy.Proxy
	roots     *x509.CertPool // what clients trust
	upstream  *upstream
	mu        sync.Mutex
	reports   []proxy.Report
	faults    []string
	connected uint64
	ended     map[uint64]chan struct{}
}

type worldOptions struct {
	allow, deny []string
	serve       http.Handler // of the upstream; nil answers "ok"
	change      func(*proxy.Config)
}

func newWorld(t testing.TB, o worldOptions) *world {
	t.Helper()
	w := &world{t: t, ended: map[uint64]chan struct{}{}, roots: x509.NewCertPool()}
	var rules []rule.Rule
	for action, texts := range map[endpoint.Action][]string{endpoint.Allow: o.allow, endpoint.Deny: o.deny} {
		for _, text := range texts {
			r, err := rule.Parse(action, text, "--http-"+action.String())
			if err != nil {
				t.Fatal(err)
			}
			rules = append(rules, r)
		}
	}
	policy, err := rule.NewPolicy(rules)
	if err != nil {
		t.Fatal(err)
	}
	ca, theirs := authority(t), authority(t)
	w.roots.AppendCertsFromPEM(ca.PEM())
	w.upstream = newUpstream(t, theirs, o.serve)
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(theirs.PEM())
	c := proxy.Config{
		Rules: policy, TLS: mitm.New(ca.Leaf), Roots: func() *x509.CertPool { return roots },
		Dial: w.upstream.dial,
		Report: func(r proxy.Report) {
			w.mu.Lock()
			defer w.mu.Unlock()
			w.reports = append(w.reports, r)
		},
		Ended: func(id uint64, _, _ int64) {
			w.mu.Lock()
			defer w.mu.Unlock()
			close(w.ended[id])
		},
		Fault: func(text string) {
			w.mu.Lock()
			defer w.mu.Unlock()
			w.faults = append(w.faults, text)
		},
	}
	if o.change != nil {
		o.change(&c)
	}
	w.proxy = proxy.New(c)
	t.Cleanup(func() { w.proxy.Close() })
	return w
}

func authority(t testing.TB) *certs.CA {
	t.Helper()
	ca, err := certs.NewCA(time.Now)
	if err != nil {
		t.Fatal(err)
	}
	return ca
}

// guard is how long a test waits for what has to happen.
const guard = 30 * time.Second

// connect makes a connection through the proxy to a port of dst. The channel closes
// when the proxy has reported its end.
func (w *world) connect(port uint16, names ...string) (net.Conn, <-chan struct{}) {
	w.t.Helper()
	client, server := tcpPair(w.t)
	if len(names) == 0 {
		names = []string{"a.test", "b.test"}
	}
	var bound []endpoint.Name
	for _, text := range names {
		n, err := endpoint.ParseName(text)
		if err != nil {
			w.t.Fatal(err)
		}
		bound = append(bound, n)
	}
	id := w.newID()
	w.mu.Lock()
	over := w.ended[id]
	w.mu.Unlock()
	_ = client.SetDeadline(time.Now().Add(guard))
	w.proxy.Serve(proxy.Connection{ID: id, Client: server, Dst: netip.AddrPortFrom(dst, port), Names: bound})
	return client, over
}

// newID numbers a connection.
func (w *world) newID() uint64 {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.connected++
	w.ended[w.connected] = make(chan struct{})
	return w.connected
}

// secure makes TLS on a connection, as a client that trusts the proxy.
func (w *world) secure(c net.Conn, name string, protocols ...string) *tls.Conn {
	w.t.Helper()
	out := tls.Client(c, &tls.Config{RootCAs: w.roots, ServerName: name, NextProtos: protocols})
	if err := out.Handshake(); err != nil {
		w.t.Fatal(err)
	}
	return out
}

// allowed returns the reports of requests that were let through since from, as
// "METHOD PATH".
func (w *world) allowed(from int) (out []string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, r := range w.reports[from:] {
		if r.Outcome == proxy.Allowed {
			out = append(out, r.Method+" "+r.Path)
		}
	}
	return out
}

func (w *world) await(over <-chan struct{}) {
	w.t.Helper()
	select {
	case <-over:
	case <-time.After(guard):
		w.t.Fatal("the connection does not end")
	}
}

func tcpPair(t testing.TB) (client, server net.Conn) {
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
	return client, server
}

// upstream is the server of every host, and keeps what it was sent on each
// connection.
type upstream struct {
	plain, secure *pushed
	ca            *certs.CA
	http1         bool // it speaks HTTP/1.1 only, and records what is inside TLS
	mu            sync.Mutex
	conns         []*recorded
	requests      []string // "METHOD HOST TARGET", as its HTTP server understood them
	overridden    []string // header fields by which some servers take another method or path
}

func newUpstream(t testing.TB, ca *certs.CA, serve http.Handler) *upstream {
	u := &upstream{plain: newPushed(), secure: newPushed(), ca: ca}
	if serve == nil {
		serve = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			_, _ = io.Copy(io.Discard, r.Body)
			fmt.Fprintf(w, "ok %s %s", r.Method, r.RequestURI)
		})
	}
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		u.mu.Lock()
		u.requests = append(u.requests, r.Method+" "+r.Host+" "+r.RequestURI)
		for _, field := range []string{"X-HTTP-Method-Override", "X-HTTP-Method", "X-Method-Override", "X-Original-URL", "X-Rewrite-URL"} {
			if value := r.Header.Get(field); value != "" {
				u.overridden = append(u.overridden, field+": "+value)
			}
		}
		u.mu.Unlock()
		serve.ServeHTTP(w, r)
	}), ErrorLog: discard()}
	server.Protocols = new(http.Protocols)
	server.Protocols.SetHTTP1(true)
	server.Protocols.SetHTTP2(true)
	go server.Serve(u.plain)
	go server.Serve(u.secure)
	t.Cleanup(func() { server.Close() })
	return u
}

// dial is Config.Dial.
func (u *upstream) dial(_ context.Context, _ uint64, name endpoint.Name, _ uint16) (net.Conn, error) {
	ours, theirs, err := loopback()
	if err != nil {
		return nil, err
	}
	go u.take(theirs, certs.Host{Name: name.String(), Addr: netip.MustParseAddr("127.0.0.1")})
	return ours, nil
}

// take finds out whether a connection begins with TLS.
func (u *upstream) take(c net.Conn, as certs.Host) {
	const handshake = 0x16 // ContentType, RFC 8446 section 5.1
	first := make([]byte, 1)
	if _, err := io.ReadFull(c, first); err != nil {
		c.Close()
		return
	}
	c = mitm.Unread(c, first)
	if first[0] == handshake {
		config := &tls.Config{NextProtos: []string{"h2", "http/1.1"}, GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) {
			return u.ca.Leaf(as)
		}}
		if !u.http1 {
			u.secure.conns <- tls.Server(c, config)
			return
		}
		config.NextProtos = nil
		c = tls.Server(c, config)
	}
	r := &recorded{Conn: c}
	u.mu.Lock()
	u.conns = append(u.conns, r)
	u.mu.Unlock()
	u.plain.conns <- r
}

func (u *upstream) overrides() []string {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.overridden
}

func (u *upstream) seen() []string {
	u.mu.Lock()
	defer u.mu.Unlock()
	return append([]string(nil), u.requests...)
}

// bytesSeen returns what came on each plain connection.
func (u *upstream) bytesSeen() (out [][]byte) {
	u.mu.Lock()
	defer u.mu.Unlock()
	for _, c := range u.conns {
		out = append(out, c.bytes())
	}
	return out
}

func loopback() (ours, theirs net.Conn, err error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, nil, err
	}
	defer l.Close()
	if ours, err = net.Dial("tcp", l.Addr().String()); err != nil {
		return nil, nil, err
	}
	theirs, err = l.Accept()
	return ours, theirs, err
}

// recorded keeps what is read from a connection.
type recorded struct {
	net.Conn
	mu   sync.Mutex
	read bytes.Buffer
}

func (r *recorded) Read(b []byte) (int, error) {
	n, err := r.Conn.Read(b)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.read.Write(b[:n])
	return n, err
}

func (r *recorded) bytes() []byte {
	r.mu.Lock()
	defer r.mu.Unlock()
	return bytes.Clone(r.read.Bytes())
}

// pushed is a listener whose connections are pushed.
type pushed struct {
	conns chan net.Conn
	done  chan struct{}
	once  sync.Once
}

func newPushed() *pushed { return &pushed{conns: make(chan net.Conn, 16), done: make(chan struct{})} }

func (p *pushed) Accept() (net.Conn, error) {
	select {
	case c := <-p.conns:
		return c, nil
	case <-p.done:
		return nil, net.ErrClosed
	}
}

func (p *pushed) Close() error {
	p.once.Do(func() { close(p.done) })
	return nil
}

func (p *pushed) Addr() net.Addr { return &net.TCPAddr{} }

// strictly reads requests as a server that takes nothing but what RFC 9112 has, and
// returns their "METHOD TARGET". rest is what is not a whole request.
func strictly(b []byte) (requests []string, rest []byte, err error) {
	for len(b) > 0 {
		head, body, ok := bytes.Cut(b, []byte("\r\n\r\n"))
		if !ok {
			return requests, b, nil
		}
		lines := strings.Split(string(head), "\r\n")
		fields := strings.Split(lines[0], " ")
		if len(fields) != 3 || fields[2] != "HTTP/1.1" || strings.ContainsAny(string(head), "\x00\x0b\x0c") || strings.Contains(strings.Join(lines, ""), "\r") || strings.Contains(strings.Join(lines, ""), "\n") {
			return requests, b, fmt.Errorf("request line or head %.200q", head)
		}
		requests = append(requests, fields[0]+" "+fields[1])
		count := map[string]int{}
		size, chunked := 0, false
		for _, line := range lines[1:] {
			name, value, ok := strings.Cut(line, ":")
			if !ok || name == "" || strings.ContainsAny(name, " \t") {
				return requests, b, fmt.Errorf("header %q", line)
			}
			name, value = strings.ToLower(name), strings.TrimSpace(value)
			switch count[name]++; name {
			case "content-length":
				if _, err := fmt.Sscanf(value, "%d", &size); err != nil || fmt.Sprint(size) != value {
					return requests, b, fmt.Errorf("header %q", line)
				}
			case "transfer-encoding":
				if chunked = true; value != "chunked" {
					return requests, b, fmt.Errorf("header %q", line)
				}
			}
		}
		if count["host"] != 1 || count["content-length"]+count["transfer-encoding"] > 1 {
			return requests, b, fmt.Errorf("head %q", head)
		}
		for b = body; chunked; {
			var line []byte
			if line, b, ok = bytes.Cut(b, []byte("\r\n")); !ok {
				return requests, line, nil
			}
			var n int
			if _, err := fmt.Sscanf(string(line), "%x", &n); err != nil || fmt.Sprintf("%x", n) != string(line) {
				return requests, b, fmt.Errorf("chunk size %q", line)
			}
			if len(b) < n+2 {
				return requests, b, nil
			}
			if n > 0 && string(b[n:n+2]) != "\r\n" {
				return requests, b, fmt.Errorf("chunk end %q", b[n:n+2])
			}
			if b = b[n:]; n > 0 {
				b = b[2:]
				continue
			}
			// Trailers, up to an empty line.
			for {
				if line, b, ok = bytes.Cut(b, []byte("\r\n")); !ok {
					return requests, line, nil
				}
				if len(line) == 0 {
					break
				}
			}
			chunked = false
		}
		if len(b) < size {
			return requests, b, nil
		}
		b = b[size:]
	}
	return requests, nil, nil
}
