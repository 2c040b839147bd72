package proxy

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"net/http"
	"strconv"
	"time"

	"github.com/sandlock/sandlock/netfilter/endpoint"
	"github.com/sandlock/sandlock/proxy/rule"
)

const (
	upstreamHandshake = 20 * time.Second
	// continueWait is how long a body that waits for 100 Continue is held back from a
	// server that does not know the expectation (RFC 9110 section 10.1.1); curl
	// takes the same second.
	continueWait = time.Second
	idleUpstream = 90 * time.Second // as net/http's default
	idlePerHost  = 64
	maxIdle      = 1024
	sessions     = 256 // TLS sessions to resume
	pingAfter    = 30 * time.Second
)

// newTransport makes the one pool of connections to upstreams. Its key is scheme,
// host and port of the canonical request: a connection is used again only for what
// it was judged and dialled for.
func (p *Proxy) newTransport() *http.Transport {
	protocols := new(http.Protocols)
	protocols.SetHTTP1(true)
	protocols.SetHTTP2(true)
	return &http.Transport{
		DialContext: p.dial, Protocols: protocols, DisableCompression: true,
		TLSClientConfig: &tls.Config{RootCAs: p.config.Roots(), MinVersion: tls.VersionTLS12,
			ClientSessionCache: tls.NewLRUClientSessionCache(sessions)},
		TLSHandshakeTimeout: upstreamHandshake, ExpectContinueTimeout: continueWait,
		IdleConnTimeout: idleUpstream, MaxIdleConnsPerHost: idlePerHost, MaxIdleConns: maxIdle,
		ReadBufferSize: 16 << 10, WriteBufferSize: 16 << 10,
		HTTP2: &http.HTTP2Config{MaxReadFrameSize: 256 << 10, MaxReceiveBufferPerStream: 2 << 20, MaxReceiveBufferPerConnection: 4<<20 - 1, SendPingTimeout: pingAfter},
	}
}

// dial connects for the request in ctx, which net/http has put into the pool's key.
func (p *Proxy) dial(ctx context.Context, _, addr string) (net.Conn, error) {
	x, ok := ctx.Value(exchangeKey{}).(*exchange)
	if !ok {
		return nil, fmt.Errorf("a connection to %s without a request", addr)
	}
	host, digits, err := net.SplitHostPort(addr)
	if err != nil {
		return nil, err
	}
	port, err := strconv.ParseUint(digits, 10, 16)
	if err != nil {
		return nil, err
	}
	h, _, err := rule.ParseAuthority(addr)
	if err != nil || h != x.req.Host || uint16(port) != x.req.Port {
		return nil, fmt.Errorf("a connection to %s for a request to %s", host, x.req.Host)
	}
	name := endpoint.Name{}
	if !h.Name.IsZero() {
		name = h.Name
	}
	// The connection that was made along with the client's was judged for the names
	// of its address.
	if x.req.Port == x.f.dst.Port() && x.f.spare != nil && h.Name.IsZero() == (len(x.f.names) == 0) {
		if c := x.f.spare.take(); c != nil {
			return c, nil
		}
	}
	return p.config.Dial(ctx, x.f.id, name, x.req.Port)
}
