package netfilter

import (
	"context"
	"net/netip"

	"github.com/sandlock/sandlock/dispatch"
	"github.com/sandlock/sandlock/internal/sockdiag"
	"github.com/sandlock/sandlock/internal/sys"
	"github.com/sandlock/sandlock/netfilter/endpoint"
	"golang.org/x/sys/unix"
)

const dnsPort = 53 // RFC 1035

// connect judges connect(2) and performs it on a copy of the socket.
func (f *Filter) connect(c *dispatch.Call) dispatch.Action {
	sa, act, ok := sockaddr(c, 1, 2)
	if !ok {
		return act
	}
	fd, err := c.FD(c.Int(0))
	if err != nil {
		return dispatch.Fail(err)
	}
	if sys.Family(sa) == unix.AF_UNIX {
		return f.connectUnix(c, fd, sa)
	}
	proto, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_PROTOCOL)
	if err != nil {
		unix.Close(fd)
		return dispatch.Fail(err)
	}
	if sys.Family(sa) == unix.AF_UNSPEC {
		return f.disconnect(fd, sa)
	}
	to, ok := sys.ParseInet(sa)
	switch {
	case !ok && sys.Family(sa) != unix.AF_INET && sys.Family(sa) != unix.AF_INET6:
		unix.Close(fd)
		return dispatch.Errno(unix.EAFNOSUPPORT)
	case !ok || proto == 0:
		unix.Close(fd)
		return dispatch.Errno(unix.EINVAL)
	case proto == unix.IPPROTO_TCP:
		return f.connectTCP(c, fd, sa, to)
	case f.Datagrams == Mediated:
		return f.connectDatagram(c, fd, proto, to)
	}
	defer unix.Close(fd)
	return f.connectContained(c, fd, sa)
}

// sockaddr reads the address in the registers at and length of a call. When ok
// is false the action answers the call.
func sockaddr(c *dispatch.Call, at, length int) (sa []byte, a dispatch.Action, ok bool) {
	n := c.Int(length)
	if n < 2 || n > sys.SockaddrMax {
		return nil, dispatch.Errno(unix.EINVAL), false
	}
	sa = make([]byte, n)
	if err := c.Read(c.Arg(at), sa); err != nil {
		return nil, dispatch.Fail(err), false
	}
	return sa, a, true
}

// connectTCP owns fd.
func (f *Filter) connectTCP(c *dispatch.Call, fd int, sa []byte, to netip.AddrPort) dispatch.Action {
	at := canonical(to)
	v := f.Policy.Connect(endpoint.TCP, at, f.Resolver.Names(at.Addr()))
	switch {
	case v.Allowed && v.Inspect:
		return f.redirect(c, fd, to, &inspection{names: v.Names})
	case v.Allowed:
	case at.Port() == dnsPort && v.Reason.Unruled():
		return f.redirect(c, fd, to, nil)
	case f.ownListener(at):
	case f.Audit:
		f.report(c, tcp(at), v)
	default:
		unix.Close(fd)
		f.report(c, tcp(at), v)
		return dispatch.Errno(unix.ECONNREFUSED)
	}
	return perform(fd, func() error { return sys.Connect(fd, sa) })
}

func tcp(a netip.AddrPort) endpoint.Endpoint {
	return endpoint.Endpoint{Protocol: endpoint.TCP, Addr: a.Addr(), Port: a.Port()}
}

// perform makes a call on fd, which it owns, at once on a non-blocking socket
// and off the loop on a blocking one. When the caller was interrupted the call
// goes on, as a connection attempt does (connect(2)), until the kernel ends it.
func perform(fd int, call func() error) dispatch.Action {
	if nonblocking(fd) {
		err := call()
		unix.Close(fd)
		return dispatch.Result(0, err)
	}
	return dispatch.Defer(func(ctx context.Context) dispatch.Action {
		done := make(chan error, 1)
		go func() { done <- call(); unix.Close(fd) }()
		select {
		case err := <-done:
			return dispatch.Result(0, err)
		case <-ctx.Done():
			return dispatch.Errno(unix.EINTR)
		}
	})
}

func nonblocking(fd int) bool {
	flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFL, 0)
	return err == nil && flags&unix.O_NONBLOCK != 0
}

// ownListener tells whether the listener that a connection to a would reach is
// one that the sandbox made, as the kernel says now. A listener on all addresses
// is on those of this machine only.
func (f *Filter) ownListener(a netip.AddrPort) bool {
	all, err := sockdiag.TCP(a.Port())
	if err != nil || len(all) == 0 || !localAddress(a.Addr()) {
		return false
	}
	found := false
	for _, l := range all {
		if !l.Covers(a) {
			continue
		}
		if !f.own.has(l.Cookie) {
			return false
		}
		found = true
	}
	return found
}
