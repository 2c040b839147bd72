package sys

import (
	"encoding/binary"
	"net/netip"
	"strconv"
	"unsafe"

	"golang.org/x/sys/unix"
)

// SockaddrMax is sizeof(struct sockaddr_storage) of linux/socket.h.
const SockaddrMax = 128

// Connect is connect(2) with the address as bytes. It may block.
func Connect(fd int, sa []byte) error {
	_, _, e := unix.Syscall(unix.SYS_CONNECT, uintptr(fd), addr(sa), uintptr(len(sa)))
	return errno(e)
}

// Bind is bind(2) with the address as bytes.
func Bind(fd int, sa []byte) error {
	_, _, e := unix.Syscall(unix.SYS_BIND, uintptr(fd), addr(sa), uintptr(len(sa)))
	return errno(e)
}

// Accept is accept4(2); it returns the new descriptor, owned by the caller, and the
// peer's address as bytes. It may block.
func Accept(fd, flags int) (n int, sa []byte, err error) {
	sa = make([]byte, SockaddrMax)
	size := uint32(len(sa))
	r, _, e := unix.Syscall6(unix.SYS_ACCEPT4, uintptr(fd), addr(sa), uintptr(unsafe.Pointer(&size)), uintptr(flags), 0, 0)
	if e != 0 {
		return -1, nil, e
	}
	return int(r), sa[:min(int(size), len(sa))], nil
}

// AttachFilter attaches a classic BPF program to a socket (socket(7)).
func AttachFilter(fd int, prog []unix.SockFilter) error {
	return unix.SetsockoptSockFprog(fd, unix.SOL_SOCKET, unix.SO_ATTACH_FILTER,
		&unix.SockFprog{Len: uint16(len(prog)), Filter: &prog[0]})
}

func addr(b []byte) uintptr {
	if len(b) == 0 {
		return 0
	}
	return uintptr(unsafe.Pointer(&b[0]))
}

func errno(e unix.Errno) error {
	if e != 0 {
		return e
	}
	return nil
}

// Family returns the address family in sa, AF_UNSPEC if it has none. The field
// is in host byte order.
func Family(sa []byte) int {
	if len(sa) < 2 {
		return unix.AF_UNSPEC
	}
	return int(binary.NativeEndian.Uint16(sa))
}

// SetFamily stores the address family in sa, which has at least 2 bytes.
func SetFamily(sa []byte, family int) { binary.NativeEndian.PutUint16(sa, uint16(family)) }

// ParseInet reads struct sockaddr_in (at least 8 bytes) or sockaddr_in6 (at
// least 24 bytes); the port in them is in network byte order. A scope id becomes
// the zone's number. ok is false for any other family or a shorter address.
func ParseInet(sa []byte) (ap netip.AddrPort, ok bool) {
	switch Family(sa) {
	case unix.AF_INET:
		if len(sa) < 8 {
			return ap, false
		}
		return netip.AddrPortFrom(netip.AddrFrom4([4]byte(sa[4:8])), binary.BigEndian.Uint16(sa[2:])), true
	case unix.AF_INET6:
		if len(sa) < 24 {
			return ap, false
		}
		a := netip.AddrFrom16([16]byte(sa[8:24]))
		if len(sa) >= unix.SizeofSockaddrInet6 && !a.Is4In6() {
			if scope := binary.NativeEndian.Uint32(sa[24:]); scope != 0 {
				a = a.WithZone(strconv.FormatUint(uint64(scope), 10))
			}
		}
		return netip.AddrPortFrom(a, binary.BigEndian.Uint16(sa[2:])), true
	}
	return ap, false
}

// EncodeInet returns the struct sockaddr_in or, with v6 set, sockaddr_in6 (v4
// addresses then mapped) for ap. A zone that is a number becomes the scope id.
func EncodeInet(ap netip.AddrPort, v6 bool) []byte {
	if !v6 && ap.Addr().Unmap().Is4() {
		sa := make([]byte, unix.SizeofSockaddrInet4)
		binary.NativeEndian.PutUint16(sa, unix.AF_INET)
		binary.BigEndian.PutUint16(sa[2:], ap.Port())
		a := ap.Addr().Unmap().As4()
		copy(sa[4:], a[:])
		return sa
	}
	sa := make([]byte, unix.SizeofSockaddrInet6)
	binary.NativeEndian.PutUint16(sa, unix.AF_INET6)
	binary.BigEndian.PutUint16(sa[2:], ap.Port())
	a := ap.Addr().As16()
	copy(sa[8:], a[:])
	if scope, err := strconv.ParseUint(ap.Addr().Zone(), 10, 32); err == nil {
		binary.NativeEndian.PutUint32(sa[24:], uint32(scope))
	}
	return sa
}

// LocalAddr returns the address that an IP socket is bound to.
func LocalAddr(fd int) (netip.AddrPort, error) {
	sa, err := unix.Getsockname(fd)
	if err != nil {
		return netip.AddrPort{}, err
	}
	switch sa := sa.(type) {
	case *unix.SockaddrInet4:
		return netip.AddrPortFrom(netip.AddrFrom4(sa.Addr), uint16(sa.Port)), nil
	case *unix.SockaddrInet6:
		return netip.AddrPortFrom(netip.AddrFrom16(sa.Addr), uint16(sa.Port)), nil
	}
	return netip.AddrPort{}, unix.EAFNOSUPPORT
}

// Cookie returns the number of a socket that is never used again while its
// network namespace lives (SO_COOKIE, Linux 4.12).
func Cookie(fd int) (uint64, error) {
	return unix.GetsockoptUint64(fd, unix.SOL_SOCKET, unix.SO_COOKIE)
}
