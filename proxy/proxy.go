// Package proxy judges HTTP requests and carries the allowed ones to where they
// go. It takes connections, dials and reports through its Config and keeps no
// global state; it opens nothing by itself.
//
// One http.Server is the front for HTTP/1.1 and HTTP/2, with TLS and without.
// Behind it a request is brought into its one canonical form, judged, and written
// anew to the upstream; nothing that a client sent is copied without having been
// parsed. goproxy's filter chain joins the two halves.
package proxy

import (
	"context"
	"crypto/x509"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/elazarl/goproxy"
	"github.com/sandlock/sandlock/mitm"
	"github.com/sandlock/sandlock/netfilter/endpoint"
	"github.com/sandlock/sandlock/proxy/rule"
)

// Config is what a Proxy works with. Its functions are called from many goroutines.
type Config struct {
	Rules *rule.Policy
	// TLS ends TLS towards clients.
	TLS *mitm.Terminator
	// Roots are what upstreams' certificates are verified against. It may block, and
	// is called once, before the first request goes out.
	Roots func() *x509.CertPool
	// Dial connects to a host as the policy lets a connection: to name, or to the
	// connection's address when name is zero. The error says why not.
	Dial func(ctx context.Context, connection uint64, name endpoint.Name, port uint16) (net.Conn, error)
	// Report is told about every request when it is over. It must not block for long.
	Report func(Report)
	// Ended is told about every connection when it is over, with the bytes that the
	// client sent and got.
	Ended func(connection uint64, up, down int64)
	// Fault is told what else went wrong.
	Fault func(text string)
	// Credentials are attached to the requests that their rules cover; of several,
	// the first.
	Credentials []Credential
	// Audit lets requests pass that would be refused, and reports them as such.
	Audit bool
}

// Outcome is what became of a request.
type Outcome uint8

// The outcomes. The zero Outcome is a refusal.
const (
	Refused Outcome = iota
	Audited         // let through, and would be refused
	Allowed
)

// Report is what is known about a request that is over. Method, Host and Path are
// the client's own texts where the request could not be understood.
type Report struct {
	Connection         uint64
	Outcome            Outcome
	TLS                bool
	Method, Host, Path string // without the query
	Port               uint16
	Status             int   // of the answer, 0 when there was none
	Up, Down           int64 // bytes of the bodies
	Duration           time.Duration
	Reason             string
	Rule, Source       string // of the rule behind the verdict
	AllowWith          string
}

// Proxy serves connections.
type Proxy struct {
	config    Config
	server    *http.Server
	listener  *feed
	filter    *goproxy.ProxyHttpServer
	transport func() *http.Transport

	mu      sync.Mutex
	clients map[*client]struct{}
	closed  bool
	over    chan struct{} // closed when the last client of a closed proxy is over
}

// New returns a proxy that serves until Close.
func New(c Config) *Proxy {
	p := &Proxy{config: c, listener: newFeed(), clients: map[*client]struct{}{}, over: make(chan struct{})}
	p.transport = sync.OnceValue(p.newTransport)
	p.filter = p.newFilter()
	p.server = p.newServer()
	go p.server.Serve(p.listener)
	return p
}

// closeWait is how long Close waits for handlers to end.
const closeWait = time.Second

// Close ends all connections and waits until they were reported, but no longer than
// a second.
func (p *Proxy) Close() error {
	p.listener.Close()
	p.mu.Lock()
	first := !p.closed
	p.closed = true
	if first && len(p.clients) == 0 {
		close(p.over)
	}
	p.mu.Unlock()
	err := p.server.Close()
	p.closeClients()
	select {
	case <-p.over:
	case <-time.After(closeWait):
	}
	return err
}

// silent is a logger for libraries: what goes wrong is reported by us.
type silent struct{}

// Printf does nothing.
func (silent) Printf(string, ...any) {}
