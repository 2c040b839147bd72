package launch

import (
	"encoding/binary"
	"fmt"
	"net/netip"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// AddAddress gives lo of the helper's namespace one more address, without a
// route. It blocks while the kernel works.
func (h *NetHelper) AddAddress(a netip.Addr) error {
	s, err := h.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_ROUTE)
	if err != nil {
		return err
	}
	defer unix.Close(s)
	r := nl.NewNetlinkRequest(unix.RTM_NEWADDR, unix.NLM_F_ACK|unix.NLM_F_CREATE)
	family := unix.AF_INET
	if a.Is6() {
		family = unix.AF_INET6
	}
	m := nl.NewIfAddrmsg(family)
	m.Prefixlen, m.Index = uint8(a.BitLen()), loopbackIndex
	r.AddData(m)
	r.AddData(nl.NewRtAttr(unix.IFA_LOCAL, a.AsSlice()))
	r.AddData(nl.NewRtAttr(unix.IFA_ADDRESS, a.AsSlice()))
	flags := binary.NativeEndian.AppendUint32(nil, unix.IFA_F_NOPREFIXROUTE|unix.IFA_F_NODAD)
	r.AddData(nl.NewRtAttr(unix.IFA_FLAGS, flags))
	if err := request(s, r); err != nil {
		return fmt.Errorf("add %s to lo: %w", a, err)
	}
	return nil
}
