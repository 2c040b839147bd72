package netfilter

import (
	"net/netip"

	"github.com/sandlock/sandlock/dispatch"
	"github.com/sandlock/sandlock/internal/event"
	"github.com/sandlock/sandlock/internal/sockdiag"
	"github.com/sandlock/sandlock/internal/sys"
	"github.com/sandlock/sandlock/netfilter/endpoint"
	"golang.org/x/sys/unix"
)

// Mode is how datagram sockets are kept to the policy. It is chosen once, at the
// start, and neither mode is looser than the other.
type Mode uint8

const (
	// Contained: they are born in an empty network namespace, where only the
	// resolver answers, and no send is trapped. There are no unix ones.
	Contained Mode = iota
	// Mediated: they are the kernel's own, and each send that may carry an
	// address is judged and performed by the supervisor.
	Mediated
)

// String returns "contained" or "mediated".
func (m Mode) String() string {
	if m == Mediated {
		return "mediated"
	}
	return "contained"
}

// passage is where a datagram that was judged goes.
type passage uint8

const (
	refused    passage = iota
	direct             // to its address: a rule allows it
	inside             // to its address: a socket of the sandbox is there
	byResolver         // to the embedded resolver
	audited            // to its address, once it was reported
)

// judge decides about a datagram, or about the peer of a datagram socket.
func (f *Filter) judge(proto endpoint.Protocol, at netip.AddrPort) (passage, endpoint.Verdict) {
	v := f.Policy.Connect(proto, at, f.Resolver.Names(at.Addr()))
	udp := proto == endpoint.UDP
	switch {
	case v.Allowed:
		return direct, v
	case udp && at.Port() == dnsPort && v.Reason.Unruled():
		return byResolver, v
	case udp && f.ownReceiver(at):
		return inside, v
	case f.Audit:
		return audited, v
	}
	return refused, v
}

// ownReceiver tells whether a datagram to a stays on this machine and the sockets
// that it could reach are ones that the sandbox bound, as the kernel says now.
func (f *Filter) ownReceiver(a netip.AddrPort) bool {
	all, err := sockdiag.UDP(a.Port())
	if err != nil || len(all) == 0 || linkLocal(a.Addr()) || !localAddress(a.Addr()) {
		return false
	}
	found := false
	for _, s := range all {
		if !s.Covers(a) {
			continue
		}
		if !f.isReceiver(s.Cookie) {
			return false
		}
		found = true
	}
	return found
}

func (f *Filter) isReceiver(cookie uint64) bool {
	_, ok := f.receivers.get(cookie)
	return ok
}

// datagramProtocol maps a socket's protocol to what rules speak of.
func datagramProtocol(proto int) (endpoint.Protocol, bool) {
	switch proto {
	case unix.IPPROTO_UDP:
		return endpoint.UDP, true
	case unix.IPPROTO_ICMP, unix.IPPROTO_ICMPV6:
		return endpoint.ICMP, true
	}
	return 0, false
}

// connectDatagram owns fd. It judges connect(2) on an IP datagram socket, after
// which sends without an address need no judgement.
func (f *Filter) connectDatagram(c *dispatch.Call, fd, number int, to netip.AddrPort) dispatch.Action {
	proto, known := datagramProtocol(number)
	cookie, err := sys.Cookie(fd)
	if err != nil || !known {
		unix.Close(fd)
		return dispatch.Errno(unix.ECONNREFUSED)
	}
	at := canonical(to)
	way, v := f.judge(proto, at)
	if way == refused && proto == endpoint.UDP {
		return f.connectDecoy(c, fd, cookie, to, v)
	}
	f.forget(cookie)
	if way == inside {
		return f.connectInside(c, fd, cookie, at, to)
	}
	defer unix.Close(fd)
	end := endpoint.Endpoint{Protocol: proto, Addr: at.Addr(), Port: at.Port()}
	switch way {
	case refused:
		f.report(c, end, v)
		return dispatch.Errno(unix.ECONNREFUSED)
	case byResolver:
		server, err := f.servers.standIn(f, at)
		if err != nil {
			return f.noServer(c, err)
		}
		if err := sys.Connect(fd, sys.EncodeInet(server, to.Addr().Is6())); err != nil {
			return dispatch.Fail(err)
		}
		f.asked.put(cookie, to)
		f.asks(c, fd, cookie)
		return dispatch.Return(0)
	case audited:
		f.report(c, end, v)
	}
	return dispatch.Result(0, sys.Connect(fd, sys.EncodeInet(reachable(to), to.Addr().Is6())))
}

// reachable is canonical, but keeps the form and the zone that the program used.
func reachable(a netip.AddrPort) netip.AddrPort {
	if a.Addr().Unmap().WithZone("").IsUnspecified() {
		return canonical(a)
	}
	return a
}

// forget drops what is known about the peer of a socket that gets another one.
func (f *Filter) forget(cookie uint64) {
	if _, there := f.asked.get(cookie); there {
		f.asked.put(cookie, netip.AddrPort{})
	}
}

// disconnect performs connect(2) with AF_UNSPEC, which ends an association and
// can make none. It owns fd.
func (f *Filter) disconnect(fd int, sa []byte) dispatch.Action {
	defer unix.Close(fd)
	if cookie, err := sys.Cookie(fd); err == nil {
		f.forget(cookie)
	}
	return dispatch.Result(0, sys.Connect(fd, sa))
}

// asks notes that a socket of the caller's asks the resolver.
func (f *Filter) asks(c *dispatch.Call, fd int, cookie uint64) {
	if local, err := sys.LocalAddr(fd); err == nil {
		f.ports.put(local.Port(), int32(c.TGID()))
	}
	f.askers.put(cookie, struct{}{})
}

func (f *Filter) noServer(c *dispatch.Call, err error) dispatch.Action {
	f.Emit(event.Event{Kind: event.Fault, PID: int32(c.PID()), Reason: "resolver: " + err.Error()})
	return dispatch.Errno(unix.ECONNREFUSED)
}

// bindDatagram performs bind(2) of an IP datagram socket on a copy of it. Any
// local address will do where the kernel chooses the port. A port that the
// program chooses is a server: without a rule it serves loopback only.
func (f *Filter) bindDatagram(c *dispatch.Call, fd, proto int, sa []byte, to netip.AddrPort) error {
	if proto != unix.IPPROTO_UDP {
		return sys.Bind(fd, sa)
	}
	cookie, err := sys.Cookie(fd)
	if err != nil {
		return err
	}
	if to.Port() == 0 {
		if err = sys.Bind(fd, sa); err == nil {
			f.receivers.put(cookie, struct{}{})
		}
		return err
	}
	ip := to.Addr().Unmap().WithZone("")
	v := f.Binds.Listen(to.Port())
	if v.Denied || !v.Allowed && !ip.IsUnspecified() && !ip.IsLoopback() {
		f.reportBind(c, "udp", to.Port(), v.Denied)
		if !f.Audit {
			return unix.EACCES
		}
	}
	if e := f.foreign(fd, proto, to); e != 0 {
		return e
	}
	// Before the bind, so that nothing from elsewhere is ever received.
	if !v.Allowed && !f.Audit {
		if err := loopbackOnly(fd); err != nil {
			return err
		}
	}
	if err = f.bindBeside(fd, sa, to.Port()); err == nil {
		f.receivers.put(cookie, struct{}{})
	}
	return err
}

// bindOther performs bind(2) with an address that is no IP one on a copy of the
// socket. Only a unix socket's path is left to the kernel, for it means what it
// means to the caller, whose umask the file gets.
func (f *Filter) bindOther(c *dispatch.Call, sa []byte) dispatch.Action {
	fd, err := c.FD(c.Int(0))
	if err != nil {
		return dispatch.Fail(err)
	}
	defer unix.Close(fd)
	domain, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_DOMAIN)
	if err != nil {
		return dispatch.Fail(err)
	}
	path := sa[unixPathAt:]
	named := domain == unix.AF_UNIX && sys.Family(sa) == unix.AF_UNIX
	if named {
		f.noteUnix(fd)
	}
	if named && len(path) > 0 && path[0] != 0 {
		return dispatch.Continue()
	}
	return dispatch.Result(0, sys.Bind(fd, sa))
}

// noteUnix notes a unix datagram socket that is about to get a name: others of
// the sandbox may send to it.
func (f *Filter) noteUnix(fd int) {
	typ, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_TYPE)
	if err != nil || typ != unix.SOCK_DGRAM {
		return
	}
	if cookie, err := sys.Cookie(fd); err == nil && !f.own.add(cookie) {
		f.Emit(event.Event{Kind: event.Fault, Reason: "too many servers: the sandbox cannot reach this one"})
	}
}
