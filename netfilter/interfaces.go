package netfilter

import (
	"context"
	"encoding/binary"

	"github.com/sandlock/sandlock/dispatch"
	"github.com/sandlock/sandlock/internal/sys"
	"github.com/sandlock/sandlock/netfilter/rtnl"
	"golang.org/x/sys/unix"
)

// ioctls of linux/sockios.h and linux/wireless.h that x/sys/unix lacks.
const (
	siocAddRoute, siocDelRoute, siocRouteMessage = 0x890b, 0x890c, 0x890d
	siocOutQNSD                                  = 0x894b
	siocType, wirelessType                       = 0x8900, 0x8b00 // with the mask ioctlTypeMask
	ioctlTypeMask, ioctlSocketMask               = 0xff00, 0xfff0 // socket ioctls that concern no interface are below 0x8910
)

const maxIfconf = 4096 // bytes of a list of interfaces

// interfaceReads are the ioctls that read an interface's properties. They show
// the same namespace as netlink sockets do, whatever socket they are made on: a
// TCP socket by itself would show the host's interfaces.
var interfaceReads = []uint32{
	unix.SIOCGIFNAME, unix.SIOCGIFCONF, unix.SIOCGIFFLAGS, unix.SIOCGIFADDR, unix.SIOCGIFDSTADDR, unix.SIOCGIFBRDADDR,
	unix.SIOCGIFNETMASK, unix.SIOCGIFMETRIC, unix.SIOCGIFMTU, unix.SIOCGIFHWADDR, unix.SIOCGIFINDEX, unix.SIOCGIFPFLAGS,
	unix.SIOCGIFTXQLEN, unix.SIOCGIFMAP,
}

// interfaceRead is the guard of interfaceReads.
func interfaceRead() dispatch.Guard {
	var g dispatch.Guard
	for _, cmd := range interfaceReads {
		g = append(g, dispatch.When(dispatch.Eq(1, cmd))...)
	}
	return g
}

// interfaceIoctl performs one of interfaceReads in the empty namespace.
func (f *Filter) interfaceIoctl(c *dispatch.Call) dispatch.Action {
	return dispatch.Defer(func(context.Context) dispatch.Action {
		fd, err := c.FD(c.Int(0))
		if err != nil {
			return dispatch.Fail(err)
		}
		_, err = unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_TYPE)
		unix.Close(fd)
		if err != nil {
			return dispatch.Errno(unix.ENOTTY)
		}
		s, err := f.netlink.open(f)
		if err != nil {
			return dispatch.Errno(unix.EPERM)
		}
		if c.Int(1) == unix.SIOCGIFCONF {
			return ifconf(c, s)
		}
		var req [sys.SizeofIfreq]byte
		if err := c.Read(c.Arg(2), req[:]); err != nil {
			return dispatch.Fail(err)
		}
		name := req
		if err := s.Ifreq(c.Int(1), &req); err == unix.ENODEV && c.Int(1) == unix.SIOCGIFFLAGS && hostInterface(&name) {
			req = name // without flags: it is down
		} else if err != nil {
			return dispatch.Fail(err)
		}
		return dispatch.Result(0, c.Write(c.Arg(2), req[:]))
	})
}

// hostInterface tells whether the host has the interface that req names. Programs
// that read names in /proc/net (Java, ifconfig) see it as one that is down: "no
// such device" would be an error to them. It clears all but the name.
func hostInterface(req *[sys.SizeofIfreq]byte) bool {
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return false
	}
	defer unix.Close(fd)
	err = sys.Ifreq(fd, unix.SIOCGIFFLAGS, req)
	clear(req[unix.IFNAMSIZ:])
	return err == nil
}

// ifconf lists the interfaces' IPv4 addresses.
func ifconf(c *dispatch.Call, s *rtnl.Space) dispatch.Action {
	var conf [sys.SizeofIfconf]byte
	if err := c.Read(c.Arg(2), conf[:]); err != nil {
		return dispatch.Fail(err)
	}
	room, to := sys.ParseIfconf(&conf)
	var list []byte
	if to != 0 && room >= 0 {
		list = make([]byte, min(room, maxIfconf))
	}
	n, err := s.Ifconf(list)
	if err != nil {
		return dispatch.Fail(err)
	}
	if err := c.Write(to, list[:min(n, len(list))]); err != nil {
		return dispatch.Fail(err)
	}
	return dispatch.Result(0, c.Write(c.Arg(2), binary.NativeEndian.AppendUint32(nil, uint32(n))))
}

// interfaceDenials are the ioctls on sockets that change interfaces, routes and
// neighbours, and those of wireless devices, which lo is not. What only reads is
// let through to interfaceIoctl.
func interfaceDenials() []dispatch.Denial {
	of := func(kind uint64) dispatch.Test { return dispatch.Test{Arg: 1, Mask: ioctlTypeMask, Value: kind} }
	low := dispatch.Test{Arg: 1, Mask: ioctlSocketMask, Value: siocType, Not: true}
	others := []dispatch.Test{of(siocType), low, dispatch.Ne(1, siocOutQNSD)}
	for _, cmd := range interfaceReads {
		others = append(others, dispatch.Ne(1, cmd))
	}
	deny := func(g dispatch.Guard, e unix.Errno) dispatch.Denial {
		return dispatch.Denial{Syscall: unix.SYS_IOCTL, Guard: g, Errno: e}
	}
	return []dispatch.Denial{
		deny(dispatch.When(dispatch.Eq(1, unix.SIOCETHTOOL)), unix.EOPNOTSUPP),
		deny(dispatch.When(of(wirelessType)), unix.EOPNOTSUPP),
		deny(dispatch.When(others...), unix.EPERM),
		deny(dispatch.When(dispatch.Eq(1, siocAddRoute)).Or(dispatch.When(dispatch.Eq(1, siocDelRoute))).
			Or(dispatch.When(dispatch.Eq(1, siocRouteMessage))), unix.EPERM),
	}
}

// adminDenials are the socket options that configure packet filters and IPsec.
// The program owns the empty namespaces' user namespace, so on a socket that was
// born there the kernel itself would allow them (user_namespaces(7)).
func adminDenials() []dispatch.Denial {
	const (
		ipOptions = 0x3f       // the options of ip(7) are below; packet filters, IPVS and multicast routing above
		ip6Tables = 64         // IP6T_BASE_CTL of linux/netfilter_ipv6/ip6_tables.h, two to set and two to get
		ip6TGet   = 68         // IP6T_SO_GET_REVISION_MATCH
		pairs     = ^uint64(1) // either of two neighbouring options
	)
	var out []dispatch.Denial
	for _, nr := range []int{unix.SYS_SETSOCKOPT, unix.SYS_GETSOCKOPT} {
		for _, g := range []dispatch.Guard{
			dispatch.When(dispatch.Eq(1, unix.SOL_IP), dispatch.AnyBit(2, ^uint32(ipOptions))),
			dispatch.When(dispatch.Eq(1, unix.SOL_IP), dispatch.Test{Arg: 2, Mask: pairs, Value: unix.IP_IPSEC_POLICY}), // and IP_XFRM_POLICY
			dispatch.When(dispatch.Eq(1, unix.SOL_IPV6), dispatch.Test{Arg: 2, Mask: pairs, Value: ip6Tables}),
			dispatch.When(dispatch.Eq(1, unix.SOL_IPV6), dispatch.Test{Arg: 2, Mask: pairs, Value: ip6TGet}),
			dispatch.When(dispatch.Eq(1, unix.SOL_IPV6), dispatch.Test{Arg: 2, Mask: pairs, Value: unix.IPV6_IPSEC_POLICY}), // and IPV6_XFRM_POLICY
		} {
			out = append(out, dispatch.Denial{Syscall: nr, Guard: g, Errno: unix.EPERM})
		}
	}
	for _, name := range []uint32{unix.SO_SNDBUFFORCE, unix.SO_RCVBUFFORCE} {
		out = append(out, dispatch.Denial{Syscall: unix.SYS_SETSOCKOPT, Errno: unix.EPERM,
			Guard: dispatch.When(dispatch.Eq(1, unix.SOL_SOCKET), dispatch.Eq(2, name))})
	}
	return out
}
