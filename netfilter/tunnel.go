package netfilter

import (
	"context"
	"fmt"
	"net/netip"

	"github.com/sandlock/sandlock/internal/event"
	"github.com/sandlock/sandlock/netfilter/endpoint"
	"github.com/sandlock/sandlock/netfilter/passthrough"
	"golang.org/x/sys/unix"
)

// chained tells whether connections to an address go through the upstream proxy.
// That one is for what lies outside: it knows nothing of our loopback, and
// another network's private addresses are not ours.
func (f *Filter) chained(to netip.AddrPort) bool {
	if f.Proxy == nil {
		return false
	}
	_, special := endpoint.Special(to.Addr())
	return !special
}

// through connects to a name by way of the upstream proxy, as Dial does, and reports
// what it could not do.
func (f *Filter) through(ctx context.Context, name endpoint.Name, port uint16) (int, error) {
	fd, err := f.reach(ctx, f.Proxy.Addr())
	if err != nil {
		err = f.unreached(err)
	} else if err = f.Proxy.Connect(ctx, fd, name, port); err != nil {
		unix.Close(fd)
	}
	if err != nil {
		if ctx.Err() == nil {
			f.Emit(event.Event{Kind: event.Fault, Protocol: "tcp", Name: name.String(), Port: port, Reason: err.Error()})
		}
		return -1, err
	}
	return fd, nil
}

func (f *Filter) unreached(err error) error {
	return fmt.Errorf("--upstream-proxy %s: %w", f.Proxy.Addr(), err)
}

// noProxy reports that the proxy was not reached for the caller's connect(2).
func (r *redirection) noProxy(err error) {
	if r.chained && r.f.ctx.Err() == nil && err != unix.EINTR {
		r.f.Emit(event.Event{Kind: event.Fault, PID: r.pid, Protocol: "tcp", Addr: r.to.Addr().Unmap(), Port: r.to.Port(), Reason: r.f.unreached(err).Error()})
	}
}

// tunnel passes a connection on whose first message was good. It owns both
// descriptors; that of the upstream is connected to the proxy, which has heard
// nothing so far.
func (r *redirection) tunnel(h passthrough.Diverted) {
	f, dst := r.f, canonical(r.to)
	if err := f.Proxy.Connect(f.ctx, h.Upstream, h.Name, dst.Port()); err != nil {
		f.peers.drop(r.cookie)
		if f.ctx.Err() == nil {
			f.Emit(event.Event{Kind: event.Fault, PID: r.pid, Protocol: "tcp", Name: h.Name.String(), Addr: dst.Addr(), Port: dst.Port(), Reason: err.Error()})
		}
		noTunnel(h, err)
		return
	}
	r.relay(passthrough.Flow{Client: h.Client, Upstream: h.Upstream, Names: []endpoint.Name{h.Name}, First: h.First,
		Dst: dst, PID: r.pid, Tag: r.cookie})
}

// noTunnel ends a connection that the proxy does not make: with a 502, or a reset
// where the client would not understand one.
func noTunnel(h passthrough.Diverted, why error) {
	unix.Close(h.Upstream)
	if h.TLS {
		unix.SetsockoptLinger(h.Client, unix.SOL_SOCKET, unix.SO_LINGER, &unix.Linger{Onoff: 1})
	} else {
		text := fmt.Sprintf("sandlock: %v\n", why)
		// It is far smaller than an empty send buffer: it fits or is lost.
		unix.SendmsgN(h.Client, fmt.Appendf(nil, "HTTP/1.1 502 Bad Gateway\r\nContent-Type: text/plain; charset=us-ascii\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%s",
			len(text), text), nil, nil, unix.MSG_NOSIGNAL|unix.MSG_DONTWAIT)
		unix.Shutdown(h.Client, unix.SHUT_WR)
	}
	unix.Close(h.Client)
}
