// Package sockdiag asks the kernel who listens where, through
// NETLINK_SOCK_DIAG (sock_diag(7)). Its answers name sockets by cookie, which is
// never used again, unlike a port or a path.
package sockdiag

import (
	"encoding/binary"
	"fmt"
	"net/netip"

	"golang.org/x/sys/unix"
)

const (
	sockDiagByFamily = 20 // SOCK_DIAG_BY_FAMILY of linux/sock_diag.h
	tcpListen        = 10 // TCP_LISTEN of net/tcp_states.h
	tcpBoundInactive = 13 // TCP_BOUND_INACTIVE of the same
	anyState         = ^uint32(0)
	unixShowVFS      = 2  // UDIAG_SHOW_VFS of linux/unix_diag.h
	unixAttrVFS      = 1  // UNIX_DIAG_VFS of linux/unix_diag.h
	inetAttrV6Only   = 11 // INET_DIAG_SKV6ONLY of linux/inet_diag.h
	inetMsgSize      = 72 // sizeof(struct inet_diag_msg)
	maxReply         = 64 << 10
)

// Listener is a TCP socket that listens, or a UDP socket that is bound.
type Listener struct {
	Addr   netip.AddrPort
	V6Only bool // for [::]: it takes no IPv4 connections
	Cookie uint64
	Inode  uint32         // of sockfs, as /proc/PID/fd shows it
	Peer   netip.AddrPort // of a connected UDP socket, else invalid
}

// Covers tells whether a connection to a reaches the listener, as far as its
// address says.
func (l Listener) Covers(a netip.AddrPort) bool {
	if l.Addr.Port() != a.Port() {
		return false
	}
	bound, to := l.Addr.Addr(), a.Addr().Unmap()
	if bound.IsUnspecified() {
		return to.Is4() && !l.V6Only || to.Is6() && bound.Is6()
	}
	return bound.Unmap() == to
}

// Overlaps tells whether some connection could reach either listener.
func (l Listener) Overlaps(o Listener) bool {
	return l.Covers(o.Addr) || o.Covers(l.Addr) ||
		l.Addr.Port() == o.Addr.Port() && l.Addr.Addr().IsUnspecified() && o.Addr.Addr().IsUnspecified() && !l.V6Only && !o.V6Only
}

// TCP returns the listening TCP sockets of the caller's network namespace that
// use the port. It does not block.
func TCP(port uint16) ([]Listener, error) {
	return inet(unix.IPPROTO_TCP, 1<<tcpListen, port)
}

// TCPBound is TCP with the sockets that are bound and neither listen nor are
// connected, which kernels before 6.8 do not list.
func TCPBound(port uint16) ([]Listener, error) {
	return inet(unix.IPPROTO_TCP, 1<<tcpListen|1<<tcpBoundInactive, port)
}

// UDP returns the UDP sockets of the caller's network namespace that are bound to
// the port, connected ones too; with port 0 all that are bound. It does not block.
func UDP(port uint16) ([]Listener, error) { return inet(unix.IPPROTO_UDP, anyState, port) }

func inet(protocol byte, states uint32, port uint16) ([]Listener, error) {
	var out []Listener
	for _, family := range []byte{unix.AF_INET, unix.AF_INET6} {
		// struct inet_diag_req_v2: family, protocol, ext, pad, states, id (48 bytes).
		req := make([]byte, 56)
		req[0], req[1] = family, protocol
		binary.NativeEndian.PutUint32(req[4:], states)
		binary.BigEndian.PutUint16(req[8:], port) // id.sport: the kernel leaves out the others
		err := dump(req, func(msg []byte) {
			// struct inet_diag_msg: family, state, timer, retrans, then id:
			// sport, dport (network order), src[16], dst[16], if, cookie[2]; expires,
			// rqueue, wqueue, uid, inode.
			if len(msg) < inetMsgSize {
				return
			}
			at := endOf(msg, msg[4:6], msg[8:24])
			if port != 0 && at.Port() != port {
				return
			}
			only := attribute(msg[inetMsgSize:], inetAttrV6Only)
			l := Listener{Addr: at, V6Only: len(only) > 0 && only[0] != 0, Cookie: cookie(msg[44:52]), Inode: binary.NativeEndian.Uint32(msg[68:])}
			if peer := endOf(msg, msg[6:8], msg[24:40]); peer.Port() != 0 {
				l.Peer = peer
			}
			out = append(out, l)
		})
		if err != nil {
			return nil, fmt.Errorf("list sockets of protocol %d: %w", protocol, err)
		}
	}
	return out, nil
}

// endOf reads a port and an address of a message of the family in its first byte.
func endOf(msg, port, addr []byte) netip.AddrPort {
	a := netip.AddrFrom16([16]byte(addr))
	if msg[0] == unix.AF_INET {
		a = netip.AddrFrom4([4]byte(addr[:4]))
	}
	return netip.AddrPortFrom(a, binary.BigEndian.Uint16(port))
}

// UnixSocket is a unix socket that is bound to a file.
type UnixSocket struct {
	Cookie uint64
	// Dev is the number of the file system's super block, as the kernel holds it:
	// 20 bits of minor number below the major one (MINORBITS of linux/kdev_t.h).
	// stat(2) may show another one, on btrfs for example; mountinfo shows this.
	Dev uint32
}

// Unix returns the listening unix sockets of the caller's network namespace that
// are bound to a file whose inode number has the low 32 bits of ino. Another file
// system may have a file of the same number: compare Dev. It does not block.
func Unix(ino uint64) ([]UnixSocket, error) {
	return unixSockets(ino, 1<<tcpListen, func(typ byte) bool { return true })
}

// UnixDatagram is Unix for datagram sockets, which need not listen.
func UnixDatagram(ino uint64) ([]UnixSocket, error) {
	return unixSockets(ino, anyState, func(typ byte) bool { return typ == unix.SOCK_DGRAM })
}

func unixSockets(ino uint64, states uint32, wanted func(typ byte) bool) ([]UnixSocket, error) {
	var out []UnixSocket
	// struct unix_diag_req: family, protocol, pad, states, ino, show, cookie[2].
	req := make([]byte, 24)
	req[0] = unix.AF_UNIX
	binary.NativeEndian.PutUint32(req[4:], states)
	binary.NativeEndian.PutUint32(req[12:], unixShowVFS)
	err := dump(req, func(msg []byte) {
		// struct unix_diag_msg: family, type, state, pad, ino, cookie[2]; attributes.
		if len(msg) < 16 || !wanted(msg[1]) {
			return
		}
		for attrs := msg[16:]; len(attrs) >= 4; {
			n := int(binary.NativeEndian.Uint16(attrs))
			if n < 4 || n > len(attrs) {
				return
			}
			// struct unix_diag_vfs: ino, dev.
			if binary.NativeEndian.Uint16(attrs[2:]) == unixAttrVFS && n >= 12 &&
				binary.NativeEndian.Uint32(attrs[4:]) == uint32(ino) {
				out = append(out, UnixSocket{cookie(msg[8:16]), binary.NativeEndian.Uint32(attrs[8:])})
			}
			attrs = attrs[min((n+3)&^3, len(attrs)):]
		}
	})
	if err != nil {
		return nil, fmt.Errorf("list unix sockets: %w", err)
	}
	return out, nil
}

// attribute returns the value of a netlink attribute, nil if there is none.
func attribute(attrs []byte, kind uint16) []byte {
	for len(attrs) >= unix.NLA_HDRLEN {
		n := int(binary.NativeEndian.Uint16(attrs))
		if n < unix.NLA_HDRLEN || n > len(attrs) {
			return nil
		}
		if binary.NativeEndian.Uint16(attrs[2:]) == kind {
			return attrs[unix.NLA_HDRLEN:n]
		}
		attrs = attrs[min((n+3)&^3, len(attrs)):]
	}
	return nil
}

func cookie(b []byte) uint64 {
	return uint64(binary.NativeEndian.Uint32(b)) | uint64(binary.NativeEndian.Uint32(b[4:]))<<32
}

func dump(req []byte, each func([]byte)) error {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_SOCK_DIAG)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	msg := make([]byte, unix.NLMSG_HDRLEN, unix.NLMSG_HDRLEN+len(req))
	binary.NativeEndian.PutUint32(msg, uint32(unix.NLMSG_HDRLEN+len(req)))
	binary.NativeEndian.PutUint16(msg[4:], sockDiagByFamily)
	binary.NativeEndian.PutUint16(msg[6:], unix.NLM_F_REQUEST|unix.NLM_F_DUMP)
	if err := unix.Sendto(fd, append(msg, req...), 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		return err
	}
	buf := make([]byte, maxReply)
	for {
		n, _, err := unix.Recvfrom(fd, buf, 0)
		if err != nil {
			return err
		}
		for b := buf[:n]; len(b) >= unix.NLMSG_HDRLEN; {
			size := int(binary.NativeEndian.Uint32(b))
			if size < unix.NLMSG_HDRLEN || size > len(b) {
				return unix.EBADMSG
			}
			switch binary.NativeEndian.Uint16(b[4:]) {
			case unix.NLMSG_DONE:
				return nil
			case unix.NLMSG_ERROR:
				if size >= unix.NLMSG_HDRLEN+4 {
					if e := -int32(binary.NativeEndian.Uint32(b[unix.NLMSG_HDRLEN:])); e != 0 {
						return unix.Errno(e)
					}
				}
				return nil
			default:
				each(b[unix.NLMSG_HDRLEN:size])
			}
			b = b[min((size+3)&^3, len(b)):]
		}
	}
}
