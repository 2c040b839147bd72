package proxy

import (
	"context"
	"errors"
	"io"
	"maps"
	"net/http"
	"net/http/httptrace"
	"net/textproto"

	"github.com/elazarl/goproxy"
)

// newFilter is the chain between the front and the upstreams: judge, attach
// credentials, carry.
func (p *Proxy) newFilter() *goproxy.ProxyHttpServer {
	g := goproxy.NewProxyHttpServer()
	g.Logger = silent{}
	g.KeepAcceptEncoding = true
	g.Tr = nil // carry has its own
	g.OnRequest().DoFunc(judge)
	g.OnRequest().DoFunc(attach)
	g.OnRequest().DoFunc(func(r *http.Request, c *goproxy.ProxyCtx) (*http.Request, *http.Response) {
		c.RoundTripper = goproxy.RoundTripperFunc(carry)
		return r, nil
	})
	return g
}

func exchangeOf(r *http.Request) *exchange { return r.Context().Value(exchangeKey{}).(*exchange) }

// judge asks the rules, and answers what they refuse.
func judge(r *http.Request, _ *goproxy.ProxyCtx) (*http.Request, *http.Response) {
	x := exchangeOf(r)
	others, err := x.req.Overrides(maps.All(r.Header))
	if err != nil {
		x.reason = err.Error()
		return r, x.refusal(http.StatusBadRequest, x.reason)
	}
	x.verdict = x.p.config.Rules.Decide(x.req, x.f.destination())
	reason := x.verdict.Reason.String()
	for _, other := range others {
		if v := x.p.config.Rules.Decide(other, x.f.destination()); !v.Allowed {
			x.verdict = v
			reason = v.Reason.String() + " (its header asks for " + other.String() + ")"
		}
	}
	switch {
	case x.verdict.Allowed:
		x.outcome = Allowed
	case x.p.config.Audit:
		x.outcome, x.reason = Audited, reason
	default:
		x.reason = reason
		return r, x.refusal(http.StatusForbidden, reason)
	}
	return r, nil
}

// carry sends the request to the upstream and prepares the answer.
func carry(r *http.Request, _ *goproxy.ProxyCtx) (*http.Response, error) {
	x := exchangeOf(r)
	resp, err := x.p.transport().RoundTrip(r)
	x.informing.Lock()
	x.answered = true
	x.informing.Unlock()
	if err != nil {
		return x.failure(err), nil
	}
	switched := resp.StatusCode == http.StatusSwitchingProtocols
	if switched && !(x.upgrade && upgradesToWebSocket(resp.Header)) {
		resp.Body.Close()
		return x.failure(errOtherProtocol), nil
	}
	prepareResponse(resp.Header, switched)
	x.w.flush = resp.ContentLength < 0
	if switched {
		rw, ok := resp.Body.(io.ReadWriteCloser)
		if !ok {
			resp.Body.Close()
			return x.failure(errOtherProtocol), nil
		}
		resp.Body = &tunnelBody{ReadWriteCloser: rw, x: x}
		return resp, nil
	}
	resp.Body = &answerBody{ReadCloser: resp.Body, x: x}
	return resp, nil
}

var errOtherProtocol = errors.New("the server changed to a protocol that was not asked for")

// answerBody notes when an upstream's answer ends before its end.
type answerBody struct {
	io.ReadCloser
	x *exchange
}

// Read reads, and keeps an error.
func (b *answerBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if err != nil && err != io.EOF {
		b.x.broken.Store(&err)
	}
	return n, err
}

// tunnelBody counts what goes through a WebSocket.
type tunnelBody struct {
	io.ReadWriteCloser
	x *exchange
}

// Read reads from the upstream. After its end the client's side is closed, which
// ends the other direction.
func (b *tunnelBody) Read(p []byte) (int, error) {
	n, err := b.ReadWriteCloser.Read(p)
	b.x.w.down.Add(int64(n))
	return n, err
}

// Write writes to the upstream.
func (b *tunnelBody) Write(p []byte) (int, error) {
	n, err := b.ReadWriteCloser.Write(p)
	b.x.up.Add(int64(n))
	return n, err
}

// trace passes informational answers on (RFC 9110 section 15.2) but for 100, which
// the server sends by itself when the body is wanted. net/http does not expect
// others before that one: over HTTP/1 they race with it, and over HTTP/2 it is then
// never sent. So a client that waits for it gets none.
func (x *exchange) trace(ctx context.Context) context.Context {
	return httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{
		Got1xxResponse: func(code int, header textproto.MIMEHeader) error {
			x.informing.Lock()
			defer x.informing.Unlock()
			if code == http.StatusContinue || x.answered || x.mayWait() {
				return nil
			}
			h := x.w.Header()
			for k, v := range header {
				h[k] = v
			}
			prepareResponse(h, false)
			delete(h, "Content-Type")
			x.w.ResponseWriter.WriteHeader(code)
			clear(h)
			return nil
		},
	})
}

// mayWait tells whether the client may be waiting for 100 Continue. Over HTTP/2 the
// server hides that it does.
func (x *exchange) mayWait() bool {
	if x.r.ContentLength == 0 {
		return false
	}
	return x.r.ProtoMajor > 1 && x.up.Load() == 0 || x.r.Header["Expect"] != nil
}
