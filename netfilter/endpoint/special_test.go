package endpoint

import (
	"net/netip"
	"testing"
)

func TestSpecial(t *testing.T) {
	for in, want := range map[string]Class{
		"127.0.0.1": Loopback, "127.255.255.255": Loopback, "::1": Loopback, "::ffff:127.0.0.1": Loopback, "::ffff:7f00:1": Loopback,
		"0.0.0.0": Unspecified, "0.1.2.3": Unspecified, "::": Unspecified, "::ffff:0.0.0.0": Unspecified,
		"169.254.169.254": LinkLocal, "169.254.170.2": LinkLocal, "fe80::1": LinkLocal, "fe80::1%lo": LinkLocal, "febf::1": LinkLocal,
		"10.0.0.1": Private, "172.16.0.1": Private, "172.31.255.255": Private, "192.168.1.1": Private, "fd00:ec2::254": Private, "fec0::1": Private,
		"100.64.0.1": CarrierNAT, "100.100.100.200": CarrierNAT, "100.127.255.255": CarrierNAT,
		"224.0.0.1": Multicast, "239.255.255.255": Multicast, "ff02::1": Multicast, "ff0e::1": Multicast,
		"255.255.255.255": Reserved, "240.0.0.1": Reserved, "192.0.0.192": Reserved, "198.18.0.1": Reserved, "198.19.255.255": Reserved, "100::1": Reserved,
		"168.63.129.16": Platform,
		// Embedded: compatible, translated, NAT64, 6to4, Teredo.
		"::127.0.0.1": Loopback, "::10.0.0.1": Private, "::2": Unspecified, "::ffff:0:127.0.0.1": Loopback, "::ffff:0:8.8.8.8": Public,
		"64:ff9b::7f00:1": Loopback, "64:ff9b::a9fe:a9fe": LinkLocal, "64:ff9b::808:808": Public, "64:ff9b::": Unspecified,
		"64:ff9b:1::7f00:1": Loopback, "64:ff9b:1::a9fe:a9fe": LinkLocal, "64:ff9b:1::808:808": Public, "64:ff9b:1::": Unspecified, "64:ff9b:1:abcd::a00:1": Private,
		"64:ff9b:1:7f00:0:100::": Loopback, "64:ff9b:1:a9fe:a9:fe00::": LinkLocal, "64:ff9b:1:7f:0:1::": Loopback, "64:ff9b:1:0:7f:0:100:0": Loopback,
		"2002:7f00:1::": Loopback, "2002:a9fe:a9fe::1": LinkLocal, "2002:808:808::1": Public,
		"2001:0:808:808::80ff:fffe": Loopback, "2001:0:808:808::5601:5601": LinkLocal, "2001:0:808:808::f7f7:f7f7": Public,
		// The neighbours of the ranges.
		"1.0.0.0": Public, "126.255.255.255": Public, "128.0.0.0": Public, "9.255.255.255": Public, "11.0.0.0": Public, "172.15.255.255": Public, "172.32.0.0": Public,
		"100.63.255.255": Public, "100.128.0.0": Public, "169.253.255.255": Public, "169.255.0.0": Public, "192.167.255.255": Public, "192.169.0.0": Public,
		"192.0.1.0": Public, "198.17.255.255": Public, "198.20.0.0": Public, "223.255.255.255": Public, "168.63.129.17": Public, "8.8.8.8": Public, "203.0.113.5": Public,
		"2001:4860:4860::8888": Public, "2606:4700::1": Public, "2001:db8::1": Public, "fbff::1": Public, "2003::1": Public, "64:ff9c::7f00:1": Public, "64:ff9b:2::7f00:1": Public,
	} {
		got, special := Special(netip.MustParseAddr(in))
		if got != want || special != (want != Public) {
			t.Errorf("%s: %v, %v; want %v", in, got, special, want)
		}
	}
	if c, special := Special(netip.Addr{}); c != Reserved || !special {
		t.Errorf("no address: %v", c)
	}
}

// Whatever is embedded in a form, the IPv6 address is as special as it.
func FuzzSpecialEmbedding(f *testing.F) {
	f.Add([]byte{127, 0, 0, 1})
	f.Add([]byte{169, 254, 169, 254})
	f.Add([]byte{8, 8, 8, 8})
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) != 4 {
			return
		}
		v4 := [4]byte(b)
		want, _ := Special(netip.AddrFrom4(v4))
		for prefix, at := range map[string]int{"::ffff:0:0": 12, "64:ff9b::": 12, "2002::": 2, "::ffff:0:0:0": 12} {
			v6 := netip.MustParseAddr(prefix).As16()
			copy(v6[at:], v4[:])
			if got, _ := Special(netip.AddrFrom16(v6)); got != want {
				t.Fatalf("%v: %v, want %v", netip.AddrFrom16(v6), got, want)
			}
		}
	})
}
