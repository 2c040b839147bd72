package lab

import (
	"net"
	"net/netip"
	"testing"
)

// Multicast opens a sink that records the datagrams to a group, over lo.
func Multicast(t testing.TB, group netip.AddrPort) {
	t.Helper()
	lo, err := net.InterfaceByName("lo")
	if err != nil {
		t.Fatal(err)
	}
	c, err := net.ListenMulticastUDP("udp4", lo, net.UDPAddrFromAddrPort(group))
	if err != nil {
		t.Fatal(err)
	}
	servePackets(t, "udp "+group.String(), c)
}
