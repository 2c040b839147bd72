package netfilter

import (
	"net/netip"
	"os"
	"strconv"
	"strings"

	"github.com/sandlock/sandlock/dispatch"
	"github.com/sandlock/sandlock/internal/event"
	"github.com/sandlock/sandlock/internal/sockdiag"
	"github.com/sandlock/sandlock/internal/sys"
	"github.com/sandlock/sandlock/netfilter/neighbour"
	"golang.org/x/sys/unix"
)

const capNetBindService = 10 // CAP_NET_BIND_SERVICE of linux/capability.h

// bind judges bind(2) on IP sockets and performs it on a copy of the socket.
// Where datagrams are contained other families are the kernel's business: were
// the address exchanged for an IP one meanwhile, Landlock would refuse it. It
// knows no datagrams, so the mediated mode performs what it can.
func (f *Filter) bind(c *dispatch.Call) dispatch.Action {
	sa, act, ok := sockaddr(c, 1, 2)
	if !ok {
		return act
	}
	asInet(sa)
	to, ok := sys.ParseInet(sa)
	switch {
	case !ok && f.Datagrams == Mediated:
		return f.bindOther(c, sa)
	case !ok:
		return dispatch.Continue()
	case to.Port() != 0:
		c.ReleaseClosed()
	}
	fd, err := c.FD(c.Int(0))
	if err != nil {
		return dispatch.Fail(err)
	}
	defer unix.Close(fd)
	proto, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_PROTOCOL)
	if err != nil {
		return dispatch.Fail(err)
	}
	if to.Port() != 0 && int(to.Port()) < f.loPort && !capable(c.PID(), capNetBindService) {
		return dispatch.Errno(unix.EACCES)
	}
	if proto == unix.IPPROTO_TCP {
		ip := to.Addr().Unmap().WithZone("")
		v := f.Binds.Listen(to.Port())
		open := v.Allowed || ip.IsUnspecified() || ip.IsLoopback()
		if to.Port() != 0 && v.Denied || !open {
			f.reportBind(c, "tcp", to.Port(), v.Denied)
			if !f.Audit {
				return dispatch.Errno(unix.EACCES)
			}
		}
		err := f.bindTCP(fd, sa, to)
		if err == nil && f.PortRemap {
			f.noteBound(fd)
		}
		return dispatch.Result(0, err)
	}
	if f.Datagrams == Mediated {
		return dispatch.Result(0, f.bindDatagram(c, fd, proto, sa, to))
	}
	if !f.contain.holds(fd) {
		return dispatch.Errno(unix.EACCES)
	}
	err = sys.Bind(fd, sa)
	if err == nil && proto == unix.IPPROTO_UDP {
		f.remember(fd, c.PID())
	}
	return dispatch.Result(0, err)
}

// asInet gives an address of no family the one that bind(2) takes it for: IPv4's,
// when it is 0.0.0.0 (__inet_bind of net/ipv4/af_inet.c).
func asInet(sa []byte) {
	if sys.Family(sa) == unix.AF_UNSPEC && len(sa) >= unix.SizeofSockaddrInet4 && [4]byte(sa[4:8]) == [4]byte{} {
		sys.SetFamily(sa, unix.AF_INET)
	}
}

// foreign keeps a socket that is or will be bound to at from sharing its port
// with a socket of the host's. The caller can turn SO_REUSEPORT on whenever it
// likes, so the option's state says nothing. That of IPV6_V6ONLY does for TCP, for
// it is fixed when listen asks.
func (f *Filter) foreign(fd, proto int, at netip.AddrPort) unix.Errno {
	ours := sockdiag.Listener{Addr: at}
	list := sockdiag.UDP
	switch {
	case at.Port() == 0, proto == unix.IPPROTO_ICMP, proto == unix.IPPROTO_ICMPV6:
		return 0 // the kernel picks one that is free; a ping socket's number is no port
	case proto == unix.IPPROTO_TCP:
		only, err := unix.GetsockoptInt(fd, unix.SOL_IPV6, unix.IPV6_V6ONLY)
		list, ours.V6Only = sockdiag.TCP, err == nil && only != 0
	}
	all, err := list(at.Port())
	if err != nil {
		return unix.EADDRINUSE
	}
	for _, l := range all {
		if l.Overlaps(ours) && !f.own.has(l.Cookie) && !f.isReceiver(l.Cookie) {
			return unix.EADDRINUSE
		}
	}
	return 0
}

// listen performs listen(2) on a copy of the socket. Without a rule for its
// port an IP socket then serves loopback only.
func (f *Filter) listen(c *dispatch.Call) dispatch.Action {
	fd, err := c.FD(c.Int(0))
	if err != nil {
		return dispatch.Fail(err)
	}
	defer unix.Close(fd)
	domain, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_DOMAIN)
	if err != nil {
		return dispatch.Fail(err)
	}
	if domain == unix.AF_INET || domain == unix.AF_INET6 {
		local, err := sys.LocalAddr(fd)
		if err != nil {
			return dispatch.Fail(err)
		}
		port := f.remap.seen(local.Port())
		v := f.Binds.Listen(port)
		if v.Denied {
			f.reportBind(c, "tcp", port, true)
			if !f.Audit {
				return dispatch.Errno(unix.EACCES)
			}
		}
		if e := f.foreign(fd, unix.IPPROTO_TCP, local); e != 0 {
			return dispatch.Errno(e)
		}
		if !v.Allowed && !f.Audit {
			if err := loopbackOnly(fd); err != nil {
				return dispatch.Fail(err)
			}
		}
	}
	if domain == unix.AF_UNIX {
		sa, err := unix.Getsockname(fd)
		un, ok := sa.(*unix.SockaddrUnix)
		switch {
		case err != nil, ok && neighbour.Reserved(un.Name):
			return dispatch.Errno(unix.EACCES)
		case ok && (un.Name == "" || un.Name == "@"):
			// As unix(7) does without a name: it could still get any.
			return dispatch.Errno(unix.EINVAL)
		}
	}
	if err := unix.Listen(fd, c.Int(1)); err != nil {
		return dispatch.Fail(err)
	}
	if !f.PortRemap && f.Datagrams == Contained { // else getsockname or accept has to find it
		c.Release(fd)
	}
	if at, err := sys.LocalAddr(fd); err == nil {
		f.served.add(at.Port())
	}
	if cookie, err := sys.Cookie(fd); err == nil && !f.own.add(cookie) {
		f.Emit(event.Event{Kind: event.Fault, Reason: "too many listeners: the sandbox cannot reach this one"})
	}
	return dispatch.Return(0)
}

// loopbackOnly makes a socket deaf to what does not come over the loopback
// device or is not addressed to a loopback address. The caller can undo neither:
// the filter is locked and SO_BINDTODEVICE is refused to it.
func loopbackOnly(fd int) error {
	if err := unix.SetsockoptString(fd, unix.SOL_SOCKET, unix.SO_BINDTODEVICE, "lo"); err != nil && err != unix.EPERM {
		return err
	}
	if err := sys.AttachFilter(fd, toLoopback); err != nil && err != unix.EPERM {
		return err
	}
	return unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_LOCK_FILTER, 1)
}

// toLoopback passes a packet whose IP destination is 127.0.0.0/8 or ::1. Loads
// at SKF_NET_OFF read the IP header (linux/filter.h).
var toLoopback = func() []unix.SockFilter {
	const (
		net  = 0xfff00000 // SKF_NET_OFF
		ldB  = unix.BPF_LD | unix.BPF_B | unix.BPF_ABS
		ldW  = unix.BPF_LD | unix.BPF_W | unix.BPF_ABS
		rsh  = unix.BPF_ALU | unix.BPF_RSH | unix.BPF_K
		jeq  = unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K
		ret  = unix.BPF_RET | unix.BPF_K
		pass = 0xffffffff
	)
	return []unix.SockFilter{
		{Code: ldB, K: net}, // version in the high half
		{Code: rsh, K: 4},
		{Code: jeq, K: 6, Jt: 2, Jf: 0},
		{Code: ldB, K: net + 16}, // first byte of the IPv4 destination
		{Code: jeq, K: 127, Jt: 8, Jf: 9},
		{Code: ldW, K: net + 24}, // ::1 word by word
		{Code: jeq, K: 0, Jt: 0, Jf: 7},
		{Code: ldW, K: net + 28},
		{Code: jeq, K: 0, Jt: 0, Jf: 5},
		{Code: ldW, K: net + 32},
		{Code: jeq, K: 0, Jt: 0, Jf: 3},
		{Code: ldW, K: net + 36},
		{Code: jeq, K: 1, Jt: 0, Jf: 1},
		{Code: ret, K: pass},
		{Code: ret, K: 0},
	}
}()

func (f *Filter) reportBind(c *dispatch.Call, protocol string, port uint16, denied bool) {
	reason := "no rule allows to serve others than the sandbox on this port"
	ev := event.Event{Kind: f.denial(), PID: int32(c.TGID()), Syscall: c.Name(), Protocol: protocol, Port: port}
	if denied {
		reason = "a --deny-bind rule closes this port"
	} else {
		ev.AllowWith = "--allow-bind " + strconv.Itoa(int(port))
	}
	ev.Reason = reason
	f.Emit(ev)
}

// capable tells whether a thread holds a capability, from /proc/pid/status
// (proc(5)).
func capable(pid, capability int) bool {
	text, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/status")
	if err != nil {
		return false
	}
	_, rest, _ := strings.Cut(string(text), "\nCapEff:")
	line, _, _ := strings.Cut(rest, "\n")
	set, err := strconv.ParseUint(strings.TrimSpace(line), 16, 64)
	return err == nil && set&(1<<capability) != 0
}
