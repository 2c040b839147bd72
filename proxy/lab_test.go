package proxy

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/sandlock/sandlock/certs"
	"github.com/sandlock/sandlock/mitm"
	"github.com/sandlock/sandlock/netfilter/endpoint"
	"github.com/sandlock/sandlock/proxy/rule"
)

// guard is how long a test waits for what has to come.
const guard = 20 * time.Second

// host is the name that the connections of a lab lead to.
const host = "allowed.test"

// lab is a proxy with an upstream behind it. Every dial leads to the upstream.
type lab struct {
	t        *testing.T
	proxy    *Proxy
	upstream *httptest.Server
	trust    *x509.CertPool // the proxy's authority

	mu      sync.Mutex
	changed *sync.Cond
	reports []Report
	ended   int
	faults  []string
	dials   int
	next    uint64
}

type labOptions struct {
	rules   []string // of --http-allow; "-" before one makes it a deny rule
	handler http.Handler
	plain   bool // the upstream speaks plain HTTP
	http1   bool // and no HTTP/2
	change  func(*Config)
	cert    func(*certs.CA) (*tls.Certificate, error)
}

func newLab(t *testing.T, o labOptions) *lab {
	t.Helper()
	l := &lab{t: t}
	l.changed = sync.NewCond(&l.mu)
	var rules []rule.Rule
	for _, text := range o.rules {
		action := endpoint.Allow
		if text[0] == '-' {
			action, text = endpoint.Deny, text[1:]
		}
		r, err := rule.Parse(action, text, "test")
		if err != nil {
			t.Fatal(err)
		}
		rules = append(rules, r)
	}
	policy, err := rule.NewPolicy(rules)
	if err != nil {
		t.Fatal(err)
	}
	theirs, ours := newCA(t), newCA(t)
	l.upstream = httptest.NewUnstartedServer(o.handler)
	l.upstream.Config.ErrorLog = log.New(io.Discard, "", 0)
	if o.plain {
		l.upstream.Start()
	} else {
		leaf := func(ca *certs.CA) (*tls.Certificate, error) { return ca.Leaf(certs.Host{Name: host}) }
		if o.cert != nil {
			leaf = o.cert
		}
		cert, err := leaf(theirs)
		if err != nil {
			t.Fatal(err)
		}
		l.upstream.TLS = &tls.Config{Certificates: []tls.Certificate{*cert}}
		l.upstream.EnableHTTP2 = !o.http1
		l.upstream.StartTLS()
	}
	t.Cleanup(l.upstream.Close)
	l.trust = pool(ours)
	c := Config{
		Rules: policy, TLS: mitm.New(ours.Leaf), Roots: func() *x509.CertPool { return pool(theirs) },
		Dial: func(ctx context.Context, _ uint64, name endpoint.Name, _ uint16) (net.Conn, error) {
			l.mu.Lock()
			l.dials++
			l.mu.Unlock()
			if name.String() != host {
				return nil, errors.New("a dial to " + name.String())
			}
			return new(net.Dialer).DialContext(ctx, "tcp", l.upstream.Listener.Addr().String())
		},
		Report: func(r Report) { l.note(func() { l.reports = append(l.reports, r) }) },
		Ended:  func(uint64, int64, int64) { l.note(func() { l.ended++ }) },
		Fault:  func(s string) { l.note(func() { l.faults = append(l.faults, s) }) },
	}
	if o.change != nil {
		o.change(&c)
	}
	l.proxy = New(c)
	t.Cleanup(func() { l.proxy.Close() })
	return l
}

func newCA(t *testing.T) *certs.CA {
	t.Helper()
	ca, err := certs.NewCA(time.Now)
	if err != nil {
		t.Fatal(err)
	}
	return ca
}

func pool(ca *certs.CA) *x509.CertPool {
	p := x509.NewCertPool()
	p.AppendCertsFromPEM(ca.PEM())
	return p
}

func (l *lab) note(f func()) {
	l.mu.Lock()
	defer l.mu.Unlock()
	f()
	l.changed.Broadcast()
}

// await waits until a condition on what was noted holds.
func (l *lab) await(what string, ok func() bool) {
	l.t.Helper()
	late := time.AfterFunc(guard, func() { l.changed.Broadcast() })
	defer late.Stop()
	deadline := time.Now().Add(guard)
	l.mu.Lock()
	defer l.mu.Unlock()
	for !ok() {
		if !time.Now().Before(deadline) {
			l.t.Fatalf("%s did not come: reports %+v, faults %q", what, l.reports, l.faults)
		}
		l.changed.Wait()
	}
}

// open returns a client's end of a connection to port that the proxy serves.
func (l *lab) open(port uint16) net.Conn {
	l.t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		l.t.Fatal(err)
	}
	defer listener.Close()
	c, err := net.Dial("tcp", listener.Addr().String())
	if err != nil {
		l.t.Fatal(err)
	}
	s, err := listener.Accept()
	if err != nil {
		l.t.Fatal(err)
	}
	l.t.Cleanup(func() { c.Close() })
	n, err := endpoint.ParseName(host)
	if err != nil {
		l.t.Fatal(err)
	}
	l.mu.Lock()
	l.next++
	id := l.next
	l.mu.Unlock()
	l.proxy.Serve(Connection{ID: id, Client: s, Dst: netip.AddrPortFrom(netip.MustParseAddr("192.0.2.1"), port), Names: []endpoint.Name{n}})
	c.SetDeadline(time.Now().Add(guard))
	return c
}

// client returns an HTTP client all of whose connections go through the proxy.
func (l *lab) client(http2 bool) *http.Client {
	protocols := new(http.Protocols)
	protocols.SetHTTP1(!http2)
	protocols.SetHTTP2(http2)
	tr := &http.Transport{
		Protocols: protocols, TLSClientConfig: &tls.Config{RootCAs: l.trust}, DisableCompression: true, ExpectContinueTimeout: guard,
		DialContext: func(_ context.Context, _, addr string) (net.Conn, error) {
			if _, port, _ := net.SplitHostPort(addr); port == "80" {
				return l.open(80), nil
			}
			return l.open(443), nil
		},
	}
	l.t.Cleanup(tr.CloseIdleConnections)
	return &http.Client{Transport: tr, Timeout: guard}
}

// get makes a request and returns the answer with its body.
func (l *lab) get(c *http.Client, r *http.Request) (*http.Response, string) {
	l.t.Helper()
	resp, err := c.Do(r)
	if err != nil {
		l.t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		l.t.Fatal(err)
	}
	return resp, string(body)
}

func request(t *testing.T, method, url string, body io.Reader) *http.Request {
	t.Helper()
	r, err := http.NewRequest(method, url, body)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// counted tells how many reports have an outcome.
func (l *lab) counted(o Outcome) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(slices.DeleteFunc(slices.Clone(l.reports), func(r Report) bool { return r.Outcome != o }))
}
