package netfilter

import (
	"slices"

	"github.com/sandlock/sandlock/dispatch"
	"github.com/sandlock/sandlock/netfilter/endpoint"
	"golang.org/x/sys/unix"
)

// denials are the refusals that the filter makes by itself, from registers.
func (f *Filter) denials() []dispatch.Denial {
	eq, ne, any := dispatch.Eq, dispatch.Ne, dispatch.AnyBit
	when := dispatch.When
	inet := func(tests ...dispatch.Test) dispatch.Guard {
		v4 := append([]dispatch.Test{eq(0, unix.AF_INET)}, tests...)
		v6 := append([]dispatch.Test{eq(0, unix.AF_INET6)}, tests...)
		return when(v4...).Or(when(v6...))
	}
	d := func(nr int, g dispatch.Guard, e unix.Errno) dispatch.Denial {
		return dispatch.Denial{Syscall: nr, Guard: g, Errno: e}
	}
	out := []dispatch.Denial{
		d(unix.SYS_SOCKET, when(ne(0, unix.AF_UNIX), ne(0, unix.AF_INET), ne(0, unix.AF_INET6), ne(0, unix.AF_NETLINK)), unix.EAFNOSUPPORT),
		d(unix.SYS_SOCKET, inet(sockType(unix.SOCK_STREAM), ne(2, 0), ne(2, unix.IPPROTO_TCP)), unix.EPROTONOSUPPORT),
		d(unix.SYS_SOCKET, inet(notType(unix.SOCK_STREAM), notType(unix.SOCK_DGRAM)), unix.EPERM),
		d(unix.SYS_SOCKET, inet(sockType(unix.SOCK_DGRAM), ne(2, 0), ne(2, unix.IPPROTO_UDP), ne(2, unix.IPPROTO_ICMP), ne(2, unix.IPPROTO_ICMPV6)), unix.EPROTONOSUPPORT),
		// SOCK_RAW means datagram there (unix(7)).
		d(unix.SYS_SOCKET, when(eq(0, unix.AF_UNIX), notType(unix.SOCK_STREAM), notType(unix.SOCK_SEQPACKET), notType(unix.SOCK_DGRAM)), unix.EPERM),
		d(unix.SYS_SOCKETPAIR, when(ne(0, unix.AF_UNIX)), unix.EOPNOTSUPP),
		d(unix.SYS_SENDTO, when(any(3, unix.MSG_FASTOPEN)), unix.EOPNOTSUPP),
		d(unix.SYS_SENDMSG, when(any(2, unix.MSG_FASTOPEN)), unix.EOPNOTSUPP),
		d(unix.SYS_SENDMMSG, when(any(3, unix.MSG_FASTOPEN)), unix.EOPNOTSUPP),
	}
	options := slices.Concat(socketOptions, joins)
	if f.Datagrams == Mediated {
		options = append(options, mediatedOptions...)
		// The kernel would tell of the end of a copy that the program does not have.
		const zerocopy = unix.MSG_ZEROCOPY
		out = append(out,
			d(unix.SYS_SETSOCKOPT, when(eq(1, unix.SOL_SOCKET), eq(2, unix.SO_ZEROCOPY)), unix.EOPNOTSUPP),
			d(unix.SYS_SENDTO, when(dispatch.NonNull(4), any(3, zerocopy)), unix.EOPNOTSUPP),
			d(unix.SYS_SENDMSG, when(any(2, zerocopy)), unix.EOPNOTSUPP),
			d(unix.SYS_SENDMMSG, when(any(3, zerocopy)), unix.EOPNOTSUPP))
	} else {
		// sendmsg is not trapped, so no unix datagram socket may exist: it could
		// send to any path.
		out = append(out, d(unix.SYS_SOCKET, when(eq(0, unix.AF_UNIX), sockType(unix.SOCK_DGRAM)), unix.EPERM))
	}
	if f.Datagrams == Contained || !f.Audit && !f.Policy.HasRules(endpoint.ICMP) {
		out = append(out,
			d(unix.SYS_SOCKET, inet(sockType(unix.SOCK_DGRAM), eq(2, unix.IPPROTO_ICMP)), unix.EPERM),
			d(unix.SYS_SOCKET, inet(sockType(unix.SOCK_DGRAM), eq(2, unix.IPPROTO_ICMPV6)), unix.EPERM))
	}
	for _, o := range options {
		out = append(out, d(unix.SYS_SETSOCKOPT, when(eq(1, o.level), eq(2, o.name)), unix.EPERM))
	}
	return out
}

func notType(t uint32) dispatch.Test {
	s := sockType(t)
	s.Not = true
	return s
}

type option struct{ level, name uint32 }

// mediatedOptions send packets that nobody judged (see joins), choose another way to a judged address, or take packets
// out of the hands of the socket. In the empty namespace they do no harm.
var mediatedOptions = []option{
	{unix.SOL_IP, unix.IP_ADD_MEMBERSHIP}, {unix.SOL_IP, unix.IP_MSFILTER}, {unix.SOL_IP, unix.MCAST_MSFILTER},
	{unix.SOL_IPV6, unix.IPV6_JOIN_GROUP}, {unix.SOL_IPV6, unix.MCAST_MSFILTER},
	{unix.SOL_IP, unix.IP_UNICAST_IF}, {unix.SOL_IPV6, unix.IPV6_UNICAST_IF},
	{unix.SOL_IPV6, unix.IPV6_PKTINFO}, {unix.SOL_UDP, unix.UDP_ENCAP},
}

// joins make the host tell the network the address of a group. The kernel takes
// them on TCP sockets too, which are the host's in each mode.
var joins = []option{
	{unix.SOL_IP, unix.IP_ADD_SOURCE_MEMBERSHIP}, {unix.SOL_IP, unix.MCAST_JOIN_GROUP}, {unix.SOL_IP, unix.MCAST_JOIN_SOURCE_GROUP},
	{unix.SOL_IPV6, unix.IPV6_JOIN_ANYCAST}, {unix.SOL_IPV6, unix.MCAST_JOIN_GROUP}, {unix.SOL_IPV6, unix.MCAST_JOIN_SOURCE_GROUP},
}

// ipv6FlowLabelMgr is IPV6_FLOWLABEL_MGR of linux/in6.h. A flow label can hold a
// routing header, which a datagram then takes from the label in its address.
const ipv6FlowLabelMgr = 32

// socketOptions lead traffic elsewhere than the judged address says, or steer
// sockets that are not the sandbox's.
var socketOptions = []option{
	{unix.SOL_IPV6, unix.IPV6_RTHDR}, {unix.SOL_IPV6, unix.IPV6_HOPOPTS},
	{unix.SOL_IPV6, unix.IPV6_DSTOPTS}, {unix.SOL_IPV6, unix.IPV6_RTHDRDSTOPTS},
	{unix.SOL_IPV6, unix.IPV6_2292RTHDR}, {unix.SOL_IPV6, unix.IPV6_2292HOPOPTS},
	{unix.SOL_IPV6, unix.IPV6_2292DSTOPTS}, {unix.SOL_IPV6, unix.IPV6_2292PKTOPTIONS},
	{unix.SOL_IPV6, unix.IPV6_TRANSPARENT}, {unix.SOL_IPV6, ipv6FlowLabelMgr},
	{unix.SOL_IP, unix.IP_OPTIONS}, {unix.SOL_IP, unix.IP_TRANSPARENT},
	{unix.SOL_SOCKET, unix.SO_MARK}, {unix.SOL_SOCKET, unix.SO_BINDTODEVICE},
	{unix.SOL_SOCKET, unix.SO_BINDTOIFINDEX},
	{unix.SOL_SOCKET, unix.SO_ATTACH_REUSEPORT_CBPF}, {unix.SOL_SOCKET, unix.SO_ATTACH_REUSEPORT_EBPF},
	{unix.SOL_TCP, unix.TCP_REPAIR}, {unix.SOL_TCP, unix.TCP_FASTOPEN_CONNECT}, {unix.SOL_TCP, unix.TCP_ULP},
}
