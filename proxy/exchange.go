package proxy

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sandlock/sandlock/proxy/rule"
)

// exchange is one request and its answer.
type exchange struct {
	p       *Proxy
	f       *flow
	w       *writer
	r       *http.Request
	start   time.Time
	req     rule.Request // zero until the request was understood
	verdict rule.Verdict
	outcome Outcome
	reason  string // of a refusal
	upgrade bool   // the client asks for a WebSocket

	up     atomic.Int64
	broken atomic.Pointer[error] // of the answer's body: what came of it is not all

	informing sync.Mutex // held while an informational answer is sent
	answered  bool       // there are none any more
}

type exchangeKey struct{}

// ServeHTTP serves one request of the front.
func (p *Proxy) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	x := &exchange{p: p, f: r.Context().Value(flowKey{}).(*flow), r: r, start: time.Now()}
	x.w = &writer{ResponseWriter: w, x: x}
	x.f.client.hold()
	defer x.f.client.release()
	defer x.report()
	if r.Method == http.MethodConnect {
		x.connect()
		return
	}
	req, err := x.canonical()
	if err != nil {
		x.refuse(err)
		return
	}
	x.req = req
	x.forward()
	x.w.closeHijacked()
	if x.broken.Load() != nil {
		// The client must not take what it got for the whole.
		panic(http.ErrAbortHandler)
	}
}

// canonical brings the request into its one form and checks that it belongs to its
// connection.
func (x *exchange) canonical() (rule.Request, error) {
	r, f := x.r, x.f
	authority := r.Host
	if f.head != nil {
		if err := f.head.fault(); err != nil {
			return rule.Request{}, err
		}
		if host := f.head.host(); host != "" {
			authority = host
		}
	} else if reason := ambiguous(r.Header, authority); reason != "" {
		return rule.Request{}, &rule.Error{Status: http.StatusBadRequest, Reason: reason}
	} else if r.ContentLength == 0 && r.Header["Content-Length"] != nil {
		// The server checks a length against what comes, but when none is waited for
		// the answer may be out before.
		if n, err := r.Body.Read(make([]byte, 1)); n > 0 || err != io.EOF {
			return rule.Request{}, &rule.Error{Status: http.StatusBadRequest, Reason: "the body is longer than its Content-Length"}
		}
	}
	req, err := rule.NewRequest(r.Method, f.tls, authority, r.RequestURI, f.dst.Port())
	if err != nil {
		return req, err
	}
	if err := req.Belongs(f.server, f.dst.Addr()); err != nil {
		return req, err
	}
	if !f.leadsTo(req.Host) {
		return req, &rule.Error{Status: http.StatusMisdirectedRequest, Reason: "the request is for " + req.Host.String() + ", and the connection leads elsewhere"}
	}
	return req, nil
}

// forward sends the canonical request through the filter chain.
func (x *exchange) forward() {
	r := x.r
	ctx := context.WithValue(x.trace(r.Context()), exchangeKey{}, x)
	out := r.WithContext(ctx)
	x.upgrade = r.ProtoMajor == 1 && upgradesToWebSocket(r.Header)
	scheme := "http"
	if x.req.TLS {
		scheme = "https"
	}
	path := x.req.Path.String()
	decoded, err := url.PathUnescape(path)
	if err != nil {
		x.refuse(&rule.Error{Status: http.StatusBadRequest, Reason: "the path cannot be decoded"})
		return
	}
	out.URL = &url.URL{Scheme: scheme, Host: x.req.Host.String() + ":" + strconv.Itoa(int(x.req.Port)), Path: decoded, RawPath: path, RawQuery: x.req.Query}
	out.Host, out.Method, out.Close = x.req.Authority(), x.req.Method, false
	if r.ContentLength == 0 {
		out.Body = http.NoBody
	} else {
		body := &requestBody{body: r.Body, up: &x.up}
		out.Body = body
		defer body.end(r.ProtoMajor) // the transport may still read when the answer is complete
		if r.ProtoMajor == 1 {
			// Upstreams may answer while the client still sends.
			_ = http.NewResponseController(x.w.ResponseWriter).EnableFullDuplex()
		}
	}
	prepareRequest(out.Header, x.upgrade)
	x.p.filter.ServeHTTP(x.w, out)
}

// report tells about the request, at its end.
func (x *exchange) report() {
	e := Report{
		Connection: x.f.id, Outcome: x.outcome, TLS: x.f.tls, Method: x.r.Method, Host: x.r.Host, Port: x.f.dst.Port(),
		Status: x.w.status, Up: x.up.Load(), Down: x.w.down.Load(), Duration: time.Since(x.start),
		Reason: x.reason, AllowWith: x.verdict.AllowWith,
	}
	if x.req.Host.IsZero() {
		e.Path, _, _ = strings.Cut(x.r.RequestURI, "?")
		if x.r.Method == http.MethodConnect {
			e.Path = ""
		}
	} else {
		e.Method, e.Host, e.Path = x.req.Method, strings.Trim(x.req.Host.String(), "[]"), x.req.Path.String()
	}
	if r := x.verdict.Rule; r != nil {
		e.Rule, e.Source = r.Text, r.Source
	}
	x.p.config.Report(e)
}

// requestBody counts what the client sends.
type requestBody struct {
	body    io.ReadCloser
	up      *atomic.Int64
	closed  atomic.Bool
	reading sync.Mutex // held by Read
}

// Read reads and counts.
func (b *requestBody) Read(p []byte) (int, error) {
	b.reading.Lock()
	defer b.reading.Unlock()
	if b.closed.Load() {
		return 0, http.ErrBodyReadAfterClose
	}
	n, err := b.body.Read(p)
	b.up.Add(int64(n))
	return n, err
}

// Close ends reading. It leaves the body itself to the server, which first sends the
// answer: closing reads what the client still has to send, and a client that
// waits for 100 Continue sends nothing.
func (b *requestBody) Close() error {
	b.closed.Store(true)
	return nil
}

// end ends reading at the end of the request. In HTTP/2 nothing may be read after it:
// net/http announces the room of what was read, and panics when it closes the
// stream meanwhile (go.dev/issue/56940), which ends all streams of the connection.
func (b *requestBody) end(major int) {
	b.closed.Store(true)
	if major == 2 {
		b.body.Close() // ends a Read that waits, and reads nothing itself
		b.reading.Lock()
		defer b.reading.Unlock()
	}
}

// gone tells whether an error is that of a client which went away.
func gone(err error) bool {
	return errors.Is(err, context.Canceled) || errors.Is(err, net.ErrClosed)
}
