package netfilter

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"github.com/sandlock/sandlock/netfilter/endpoint"
	"golang.org/x/sys/unix"
)

// dialTimeout is how long one address may take to answer. The kernel itself gives
// up after about 130 s (tcp(7), tcp_syn_retries); clients wait for less.
const dialTimeout = 20 * time.Second

// Upstream is where the interceptor wants a connection to.
type Upstream struct {
	Name endpoint.Name // zero: to Addr itself
	Addr netip.Addr    // tried first
	Port uint16
}

// RefusedError says that the policy does not let a connection through.
type RefusedError struct {
	Endpoint endpoint.Endpoint
	Verdict  endpoint.Verdict
}

// Error returns the endpoint and the reason.
func (e *RefusedError) Error() string {
	return e.Endpoint.String() + ": " + e.Verdict.Reason.String()
}

// Dial connects to an upstream as the policy lets the command: a name leads only
// to addresses that are bound to it, or through the upstream proxy. It returns a connected, non-blocking socket
// that the caller owns, a *RefusedError, or the network's errno. It blocks
// until an address answered or all failed, or ctx ended.
func (f *Filter) Dial(ctx context.Context, u Upstream) (int, error) {
	addrs := []netip.Addr{u.Addr}
	if !u.Name.IsZero() {
		addrs = slices.Clone(f.Resolver.Addrs(u.Name))
		if i := slices.Index(addrs, u.Addr); i > 0 {
			addrs[0], addrs[i] = addrs[i], addrs[0]
		}
	}
	last := error(&RefusedError{Endpoint: endpoint.Endpoint{Protocol: endpoint.TCP, Name: u.Name, Addr: u.Addr, Port: u.Port}})
	for _, a := range addrs {
		at := netip.AddrPortFrom(a, u.Port)
		v := f.Policy.Connect(endpoint.TCP, at, f.Resolver.Names(a))
		if u.Name.IsZero() && v.Allowed {
			v = f.Policy.Connect(endpoint.TCP, at, nil) // a rule for a name is not one for its address
		}
		leads := u.Name.IsZero() || len(v.Names) == 0 || slices.Contains(v.Names, u.Name)
		// An address that stands for another sandbox leads to a host's server here.
		_, standsIn := f.Neighbours[a.Unmap()]
		if standsIn || !(v.Allowed && leads) && !f.Audit {
			last = &RefusedError{Endpoint: endpoint.Endpoint{Protocol: endpoint.TCP, Name: u.Name, Addr: a, Port: u.Port}, Verdict: v}
			continue
		}
		if !u.Name.IsZero() && f.chained(at) {
			return f.through(ctx, u.Name, u.Port) // which finds the address itself
		}
		fd, err := f.reach(ctx, at)
		if err == nil {
			return fd, nil
		}
		last = fmt.Errorf("connect to %s: %w", at, err)
		if ctx.Err() != nil {
			break
		}
	}
	return -1, last
}

func (f *Filter) reach(ctx context.Context, at netip.AddrPort) (int, error) {
	fd, err := dial(at)
	if err != nil {
		return -1, err
	}
	timed, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	if err := await(timed, fd); err != nil {
		unix.Close(fd)
		if timed.Err() != nil && ctx.Err() == nil {
			err = unix.ETIMEDOUT
		}
		return -1, err
	}
	return fd, nil
}
