package rtnl

import (
	"encoding/binary"

	"github.com/sandlock/sandlock/internal/sys"
	"golang.org/x/sys/unix"
)

// parse reads struct sockaddr_nl (netlink(7)); ok is false for another family
// or a shorter address.
func parse(sa []byte) (nl unix.SockaddrNetlink, ok bool) {
	if len(sa) < unix.SizeofSockaddrNetlink || sys.Family(sa) != unix.AF_NETLINK {
		return nl, false
	}
	return unix.SockaddrNetlink{Family: unix.AF_NETLINK, Pid: binary.NativeEndian.Uint32(sa[4:]), Groups: binary.NativeEndian.Uint32(sa[8:])}, true
}

// Encode returns struct sockaddr_nl for a.
func Encode(a *unix.SockaddrNetlink) []byte {
	sa := make([]byte, unix.SizeofSockaddrNetlink)
	binary.NativeEndian.PutUint16(sa, unix.AF_NETLINK)
	binary.NativeEndian.PutUint32(sa[4:], a.Pid)
	binary.NativeEndian.PutUint32(sa[8:], a.Groups)
	return sa
}
