package netfilter

import (
	"encoding/binary"
	"net/netip"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// localAddress tells whether what is sent to a stays on this machine, as the
// kernel's routes say now (rtnetlink(7)). It does not block.
func localAddress(a netip.Addr) bool {
	if a = a.Unmap(); a.IsLoopback() {
		return true
	}
	s, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_ROUTE)
	if err != nil {
		return false
	}
	defer unix.Close(s)
	req := nl.NewNetlinkRequest(unix.RTM_GETROUTE, 0)
	m := nl.NewRtMsg()
	m.Family, m.Dst_len = unix.AF_INET, uint8(a.BitLen())
	if a.Is6() {
		m.Family = unix.AF_INET6
	}
	req.AddData(m)
	req.AddData(nl.NewRtAttr(unix.RTA_DST, a.AsSlice()))
	if err := unix.Sendto(s, req.Serialize(), 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		return false
	}
	buf := make([]byte, 4096)
	n, _, err := unix.Recvfrom(s, buf, unix.MSG_DONTWAIT)
	if err != nil || n < unix.NLMSG_HDRLEN+unix.SizeofRtMsg || binary.NativeEndian.Uint16(buf[4:]) != unix.RTM_NEWROUTE {
		return false
	}
	return buf[unix.NLMSG_HDRLEN+7] == unix.RTN_LOCAL // rtm_type
}
