package netfilter

import (
	"context"
	"errors"
	"net/netip"
	"strconv"

	"github.com/sandlock/sandlock/dispatch"
	"github.com/sandlock/sandlock/internal/event"
	"github.com/sandlock/sandlock/internal/sys"
	"github.com/sandlock/sandlock/netfilter/endpoint"
	"github.com/sandlock/sandlock/netfilter/neighbour"
	"golang.org/x/sys/unix"
)

// maxNamed bounds the connections whose peer is shown as a neighbour's address.
const maxNamed = 65536

// ServeNeighbours tells other sandboxes of the user where this one, called name,
// serves its ports. Close ends it.
func (f *Filter) ServeNeighbours(name string) error {
	s, err := neighbour.Serve(name, f.servedAt)
	if err != nil {
		return err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.server = s
	return nil
}

// connectNeighbour connects to the server of another sandbox. It owns fd. The
// address only stands for the name: of what allows, only a rule for the name itself
// counts.
func (f *Filter) connectNeighbour(c *dispatch.Call, fd int, at netip.AddrPort, name string, v endpoint.Verdict) dispatch.Action {
	full := name + "." + neighbour.Suffix
	n, err := endpoint.ParseName(full)
	if v.Allowed && (err != nil || !f.Policy.AllowsItself(endpoint.TCP, n, at.Port())) {
		v = endpoint.Verdict{Reason: endpoint.OtherPort, AllowWith: "--allow " + full + ":" + strconv.Itoa(int(at.Port()))}
	}
	if !v.Allowed {
		f.report(c, tcp(at), v)
		if !f.Audit {
			unix.Close(fd)
			return dispatch.Errno(unix.ECONNREFUSED)
		}
	}
	return dispatch.Defer(func(ctx context.Context) dispatch.Action {
		defer unix.Close(fd)
		real, err := neighbour.Find(ctx, name, at.Port())
		if err != nil {
			if !errors.Is(err, neighbour.ErrNone) {
				f.Emit(event.Event{Kind: event.Fault, PID: int32(c.PID()), Reason: err.Error()})
			}
			return dispatch.Errno(unix.ECONNREFUSED)
		}
		v6 := domainV6(fd)
		if !v6 && !real.Addr().Is4() {
			return dispatch.Errno(unix.ECONNREFUSED)
		}
		cookie, err := sys.Cookie(fd)
		if err != nil {
			return dispatch.Fail(err)
		}
		f.named.put(cookie, at)
		return dispatch.Result(0, sys.Connect(fd, sys.EncodeInet(real, v6)))
	})
}
