package lab

import (
	"net"
	"net/netip"
	"os"
	"testing"
)

// pingGroups lets every user of the lab make ping sockets (icmp(7)).
func pingGroups() error {
	groups := "0 2147483647"
	if Nested() {
		groups = "0 0" // there is no other in the lab's user namespace
	}
	return os.WriteFile("/proc/sys/net/ipv4/ping_group_range", []byte(groups), 0)
}

// echoes are the kinds of echo requests, RFC 792 and RFC 4443.
var echoes = []struct {
	network string
	kind    byte
	at      string
}{{"ip4:icmp", 8, "127.0.0.1"}, {"ip6:ipv6-icmp", 128, "::1"}}

// ICMP opens sinks that record the payload of every echo request to whatever
// address of the lab. The kernel answers them.
func ICMP(t testing.TB) {
	t.Helper()
	for _, e := range echoes {
		c, err := net.ListenPacket(e.network, "")
		if err != nil {
			t.Fatal(err)
		}
		undo := addFence(func(mark string) error {
			request := append([]byte{e.kind, 0, 0, 0, 0, 0, 0, 0}, mark...)
			if e.kind == 8 {
				sum := checksum(request)
				request[2], request[3] = byte(sum>>8), byte(sum)
			}
			_, err := c.WriteTo(request, &net.IPAddr{IP: netip.MustParseAddr(e.at).AsSlice()})
			return err
		})
		go func() {
			buf := make([]byte, 64<<10)
			for {
				n, _, err := c.ReadFrom(buf)
				if err != nil {
					return
				}
				// net takes the IPv4 header away.
				if n > 8 && buf[0] == e.kind {
					record.add("icmp "+e.network, "data", string(buf[8:n]))
				}
			}
		}()
		t.Cleanup(func() { undo(); c.Close() })
	}
}

// checksum is that of RFC 1071.
func checksum(b []byte) uint16 {
	sum := uint32(0)
	for i, x := range b {
		sum += uint32(x) << (8 * (1 - uint(i)%2))
	}
	for sum>>16 != 0 {
		sum = sum&0xffff + sum>>16
	}
	return ^uint16(sum)
}

// NoUserNamespaces is the command line that runs args where no user namespace
// can be made.
func NoUserNamespaces(t testing.TB, args ...string) []string {
	return append([]string{Probe(t), "no-userns"}, args...)
}
