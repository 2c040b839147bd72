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
		return f.connectTCP(c, fd, to)
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
func (f *Filter) connectTCP(c *dispatch.Call, fd int, to netip.AddrPort) dispatch.Action {
	at := canonical(to)
	bound := f.Resolver.Names(at.Addr())
	v := f.Policy.Connect(endpoint.TCP, at, bound)
	if name, ok := f.Neighbours[at.Addr()]; ok {
		return f.connectNeighbour(c, fd, at, name, v)
	}
	if own, ok := f.remappedServer(at); ok {
		return connectSocket(fd, sys.EncodeInet(own, domainV6(fd)))
	}
	switch {
	case v.Allowed:
		if look := f.inspectionOf(at, v, bound); look != nil {
			return f.redirect(c, fd, to, look)
		}
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
	// Not the caller's bytes: the kernel would read the unspecified address in the
	// light of what the socket is bound to, and go elsewhere than was judged.
	return connectSocket(fd, sys.EncodeInet(reachable(to), to.Addr().Is6()))
}

func tcp(a netip.AddrPort) endpoint.Endpoint {
	return endpoint.Endpoint{Protocol: endpoint.TCP, Addr: a.Addr(), Port: a.Port()}
}

// connectSocket connects fd, which it owns. The attempt begins on the loop: to a
// near address it also ends there, and a change of threads costs more than the
// whole call. What a blocking socket has to wait for is waited for off the loop.
// When the caller was interrupted the attempt goes on, as it does without us
// (connect(2)), until the kernel ends it.
func connectSocket(fd int, sa []byte) dispatch.Action {
	blocking, err := connectAtOnce(fd, sa)
	if !blocking || err != unix.EALREADY {
		unix.Close(fd)
		return dispatch.Result(0, err)
	}
	return dispatch.Defer(func(ctx context.Context) dispatch.Action {
		done := make(chan error, 1)
		go func() { done <- awaitConnect(fd, sa); unix.Close(fd) }()
		select {
		case err := <-done:
			return dispatch.Result(0, err)
		case <-ctx.Done():
			return dispatch.Errno(unix.EINTR)
		}
	})
}

// connectAtOnce starts to connect without waiting, and tells whether the socket
// is one that waits: it then returns EALREADY while the attempt is under way. For the moment of the call such a socket does not block for
// its owner either, who can do nothing with it before it is connected.
func connectAtOnce(fd int, sa []byte) (blocking bool, err error) {
	flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFL, 0)
	if err != nil {
		return false, err
	}
	blocking = flags&unix.O_NONBLOCK == 0
	if !blocking {
		return false, sys.Connect(fd, sa)
	}
	if _, err := unix.FcntlInt(uintptr(fd), unix.F_SETFL, flags|unix.O_NONBLOCK); err != nil {
		return true, err
	}
	if err = sys.Connect(fd, sa); err == unix.EINPROGRESS {
		// The answer over loopback comes within the call, but is read at its end.
		err = sys.Connect(fd, sa)
	}
	unix.FcntlInt(uintptr(fd), unix.F_SETFL, flags)
	return true, err
}

// awaitConnect blocks until an attempt that is under way has ended: a second
// connect(2) waits for the first and has its result, whatever its address.
func awaitConnect(fd int, sa []byte) error {
	err := sys.Connect(fd, sa)
	switch err {
	case unix.EALREADY: // SO_SNDTIMEO is over, which the first call calls so
		return unix.EINPROGRESS
	case unix.EISCONN: // it ended before we asked
		return nil
	}
	return err
}

func nonblocking(fd int) bool {
	flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFL, 0)
	return err == nil && flags&unix.O_NONBLOCK != 0
}

// ownListener tells whether the listener that a connection to a would reach is
// one that the sandbox made, as the kernel says now. A listener on all addresses
// is on those of this machine only. Of a link-local address nobody can tell: on
// another link it is another machine's.
func (f *Filter) ownListener(a netip.AddrPort) bool {
	if !f.served.has(a.Port()) || linkLocal(a.Addr()) {
		return false // and the kernel need not be asked
	}
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

func linkLocal(a netip.Addr) bool { return a.Is6() && a.IsLinkLocalUnicast() }
