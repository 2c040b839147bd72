package rtnl

import (
	"net"
	"net/netip"

	"github.com/sandlock/sandlock/internal/launch"
)

// The addresses that stand for those that the host has: the dummy address of RFC
// 7600 section 4.8 and one of the discard prefix of RFC 6666.
var (
	standIn4 = netip.MustParseAddr("192.0.0.8")
	standIn6 = netip.MustParseAddr("100::8")
)

// addStandIns gives lo one address in each family of which the host has one
// beside loopback. glibc's getaddrinfo resolves nothing of a family, when it is
// asked with AI_ADDRCONFIG, without one.
func addStandIns(h *launch.NetHelper) error {
	addrs, err := net.InterfaceAddrs()
	if err != nil {
		return err
	}
	var v4, v6 bool
	for _, a := range addrs {
		n, ok := a.(*net.IPNet)
		if !ok || n.IP.IsLoopback() {
			continue
		}
		if n.IP.To4() != nil {
			v4 = true
		} else {
			v6 = true
		}
	}
	if v4 {
		err = h.AddAddress(standIn4)
	}
	if err == nil && v6 {
		err = h.AddAddress(standIn6)
	}
	return err
}
