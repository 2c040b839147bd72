package netfilter

import (
	"net/netip"
	"slices"

	"github.com/sandlock/sandlock/internal/event"
	"github.com/sandlock/sandlock/netfilter/endpoint"
	"github.com/sandlock/sandlock/netfilter/passthrough"
	"golang.org/x/sys/unix"
)

// Interceptor looks into the connections that rules for HTTP are about. Its
// methods are called on the loop and do not block.
type Interceptor interface {
	// Terminates tells whether a rule has to see inside the connections to a name
	// at an address, or to an address alone.
	Terminates(n endpoint.Name, a netip.Addr, port uint16) bool
	// Looks tells whether a rule speaks of a port.
	Looks(port uint16) bool
	// Intercept takes over a connection.
	Intercept(Intercepted)
}

// Intercepted is a connection that the policy lets through and whose requests
// the interceptor has to judge. It owns both descriptors, which are
// non-blocking.
type Intercepted struct {
	Client   int // our end of the caller's socket
	Upstream int // connected to Dst, or -1
	Dst      netip.AddrPort
	Names    []endpoint.Name // bound to Dst's address: what the client may ask for
	First    []byte          // what was read from the client, nil for nothing
	PID      int32
	// Ended has to be called once, when the connection is over, with the bytes that
	// the client sent and got.
	Ended func(up, down int64)
}

// inspectionOf says how a connection to at that v allows has to be looked at;
// nil means directly. bound are the names that led to the address.
func (f *Filter) inspectionOf(at netip.AddrPort, v endpoint.Verdict, bound []endpoint.Name) *inspection {
	var plain *inspection
	if v.Inspect {
		plain = &inspection{names: v.Names}
	}
	if f.Interceptor == nil {
		return plain
	}
	names := v.Names
	if len(names) == 0 {
		// A rule for the address allows it: any name that led there will do.
		names = bound
	}
	if f.Interceptor.Terminates(endpoint.Name{}, at.Addr(), at.Port()) {
		return &inspection{names: names, open: true}
	}
	var divert []endpoint.Name
	for _, n := range names {
		if f.Interceptor.Terminates(n, at.Addr(), at.Port()) {
			divert = append(divert, n)
		}
	}
	switch len(divert) {
	case 0:
		if plain == nil && len(v.Names) == 0 && f.Interceptor.Looks(at.Port()) {
			// The rule is for addresses, and the name that the client asks for may be one
			// that was looked up elsewhere.
			return &inspection{wary: true}
		}
		return plain
	case len(names):
		return &inspection{names: names, open: true}
	}
	return &inspection{names: names, divert: divert}
}

// intercept hands a redirected connection to the interceptor.
func (r *redirection) intercept(client, upstream int, first []byte) {
	f, cookie, dst, pid := r.f, r.cookie, canonical(r.to), r.pid
	f.Interceptor.Intercept(Intercepted{
		Client: client, Upstream: upstream, Dst: dst, Names: slices.Clone(r.look.names), First: first, PID: pid,
		Ended: func(up, down int64) {
			f.peers.drop(cookie)
			f.Emit(event.Event{Kind: event.Flow, PID: pid, Protocol: "tcp", Addr: dst.Addr(), Port: dst.Port(), BytesUp: up, BytesDown: down})
		},
	})
}

// passThrough hands a redirected connection to the engine, which gives it to the
// interceptor when the first message asks for one of look.divert.
func (r *redirection) passThrough(client int) {
	flow := passthrough.Flow{
		Client: client, Upstream: r.upstream, Names: r.look.names, Inspect: true,
		Audit: r.f.Audit && !r.chained, // the proxy can be asked for no other name
		Dst:   canonical(r.to), PID: r.pid, Tag: r.cookie,
	}
	if r.look.wary {
		flow.Forbidden = func(n endpoint.Name) bool {
			return r.f.Interceptor.Terminates(n, flow.Dst.Addr(), flow.Dst.Port())
		}
	}
	if len(r.look.divert) > 0 || r.chained {
		flow.Divert = r.divert
	}
	r.relay(flow)
}

// divert takes a connection from the engine when it is for the interceptor, or first
// needs a tunnel.
func (r *redirection) divert(h passthrough.Diverted) bool {
	// A later request of a plain connection may ask for any of the names.
	opened := len(r.look.divert) > 0 && (!h.TLS || slices.Contains(r.look.divert, h.Name))
	switch {
	case opened && r.chained:
		unix.Close(h.Upstream)
		r.intercept(h.Client, -1, h.First)
	case opened:
		r.intercept(h.Client, h.Upstream, h.First)
	case r.chained:
		r.f.wg.Go(func() { r.tunnel(h) })
	default:
		return false
	}
	return true
}

// relay hands a connection to the engine, which owns its descriptors from then on.
func (r *redirection) relay(flow passthrough.Flow) {
	if err := r.f.engine.Add(flow); err != nil {
		r.f.peers.drop(r.cookie)
		if r.f.ctx.Err() == nil {
			r.f.Emit(event.Event{Kind: event.Fault, PID: r.pid, Reason: "pass-through: " + err.Error()})
		}
	}
}
