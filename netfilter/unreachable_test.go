package netfilter

import (
	"encoding/binary"
	"net/netip"
	"slices"
	"testing"
)

// unreachable4 is an IPv4 packet that says that no port took a datagram.
func unreachable4(options int, protocol byte) []byte {
	outer := make([]byte, ipv4Header)
	outer[0] = 0x45
	inner := make([]byte, ipv4Header+options)
	inner[0] = 0x45 + byte(options/4)
	inner[9] = protocol
	copy(inner[16:], []byte{192, 0, 2, 7})
	udp := binary.BigEndian.AppendUint16(binary.BigEndian.AppendUint16(nil, 40000), 443)
	return slices.Concat(outer, []byte{3, 3, 0, 0, 0, 0, 0, 0}, inner, udp)
}

func TestParseUnreachable(t *testing.T) {
	want := netip.MustParseAddrPort("192.0.2.7:443")
	for _, options := range []int{0, 8} {
		if from, to, ok := parseUnreachable(unreachable4(options, 17)); !ok || from != 40000 || to != want {
			t.Errorf("%d bytes of options: %d %s %v", options, from, to, ok)
		}
	}
	if _, _, ok := parseUnreachable(unreachable4(0, 6)); ok {
		t.Error("a TCP segment is taken for a datagram")
	}
	full := unreachable4(0, 17)
	for n := range full {
		if _, _, ok := parseUnreachable(full[:n]); ok {
			t.Errorf("%d of %d bytes are enough", n, len(full))
		}
	}
	six := make([]byte, icmpHeader+ipv6Header)
	six[0], six[1], six[icmpHeader+6] = icmp6Error, icmp6Port, 17
	copy(six[icmpHeader+24:], netip.MustParseAddr("2001:db8::7").AsSlice())
	six = binary.BigEndian.AppendUint16(binary.BigEndian.AppendUint16(six, 40000), 443)
	if from, to, ok := parseUnreachable6(six); !ok || from != 40000 || to != netip.MustParseAddrPort("[2001:db8::7]:443") {
		t.Errorf("IPv6: %d %s %v", from, to, ok)
	}
	for n := range six {
		if _, _, ok := parseUnreachable6(six[:n]); ok {
			t.Errorf("IPv6: %d of %d bytes are enough", n, len(six))
		}
	}
}

func FuzzUnreachable(f *testing.F) {
	f.Add(unreachable4(8, 17))
	f.Fuzz(func(t *testing.T, b []byte) {
		for _, parse := range []func([]byte) (uint16, netip.AddrPort, bool){parseUnreachable, parseUnreachable6} {
			if _, to, ok := parse(b); ok && !to.Addr().IsValid() {
				t.Fatal("a datagram to nowhere")
			}
		}
	})
}

// The oldest entry goes first, and an entry that is there keeps its place.
func TestBounded(t *testing.T) {
	b := bounded[int, string]{limit: 3}
	for i := range 3 {
		b.put(i, "old")
	}
	b.put(1, "new")
	b.put(3, "")
	b.put(4, "")
	for k, want := range map[int]bool{0: false, 1: false, 2: true, 3: true, 4: true} {
		if _, ok := b.get(k); ok != want {
			t.Errorf("%d: %v", k, ok)
		}
	}
	if len(b.set) != 3 || len(b.order) != 3 {
		t.Errorf("%d entries, %d in order", len(b.set), len(b.order))
	}
}
