package lab

import (
	"fmt"
	"net"
	"net/netip"

	"github.com/vishvananda/netlink"
)

// The lab's addresses. The first three pairs stand for public servers.
var (
	Allowed4 = netip.MustParseAddr("93.184.216.34")
	Allowed6 = netip.MustParseAddr("2600:1f18::34")
	Evil4    = netip.MustParseAddr("151.101.1.69")
	Evil6    = netip.MustParseAddr("2600:9000::69")
	Shared4  = netip.MustParseAddr("104.16.132.229") // serves allowed and other names
	Shared6  = netip.MustParseAddr("2606:4700::6810:84e5")

	Resolver = netip.MustParseAddr("10.0.0.53")       // resolv.conf names it
	Public53 = netip.MustParseAddr("8.8.8.8")         // a server that programs hard-code
	Metadata = netip.MustParseAddr("169.254.169.254") // cloud metadata
	Private4 = netip.MustParseAddr("10.0.0.5")
	Private6 = netip.MustParseAddr("fd00::5")
	CGNAT4   = netip.MustParseAddr("100.64.0.1")
	InHosts  = netip.MustParseAddr("10.0.0.77")   // HostsName in /etc/hosts
	Near4    = netip.MustParseAddr("192.168.9.1") // the lab's side of the link to outside
	Outside4 = netip.MustParseAddr("192.168.9.2") // the only address that is not the lab's own
	Host4    = netip.MustParseAddr("192.168.7.9")
	Black4   = netip.MustParseAddr("203.0.112.7") // what is sent there is lost on the way
)

// HostsName is a name that only the lab's /etc/hosts gives.
const HostsName = "intern.test"

// addresses brings lo up with all addresses of the lab.
func addresses() error {
	lo, err := netlink.LinkByName("lo")
	if err != nil {
		return err
	}
	if err := netlink.LinkSetUp(lo); err != nil {
		return fmt.Errorf("lo up: %w", err)
	}
	for _, a := range []netip.Addr{Allowed4, Allowed6, Evil4, Evil6, Shared4, Shared6, Resolver, Public53, Metadata, Private4,
		Private6, CGNAT4, InHosts, Host4, netip.MustParseAddr("fd00:ec2::254")} {
		n := net.IPNet{IP: a.AsSlice(), Mask: net.CIDRMask(a.BitLen(), a.BitLen())}
		if err := netlink.AddrAdd(lo, &netlink.Addr{IPNet: &n, Flags: 0x02 /* IFA_F_NODAD */}); err != nil {
			return fmt.Errorf("add %s: %w", a, err)
		}
	}
	// Multicast goes to the lab itself as well: mDNS and LLMNR have sinks.
	multicast := net.IPNet{IP: net.IPv4(224, 0, 0, 0).To4(), Mask: net.CIDRMask(4, 32)}
	if err := netlink.RouteAdd(&netlink.Route{LinkIndex: lo.Attrs().Index, Dst: &multicast, Scope: netlink.SCOPE_LINK}); err != nil {
		return fmt.Errorf("route %s: %w", &multicast, err)
	}
	return nil
}
