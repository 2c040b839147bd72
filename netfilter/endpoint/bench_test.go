package endpoint

import (
	"net/netip"
	"testing"
)

func connectCase(tb testing.TB) (*Policy, netip.AddrPort) {
	p := mustPolicy(tb, []string{"a.test", "*.b.test:1-9", "10.0.0.0/8", "[2001:db8::1]:443"}, []string{"169.254.0.0/16", "bad.test"})
	return p, netip.MustParseAddrPort("[2001:db8::1]:443")
}

func TestConnectToAnAddressDoesNotAllocate(t *testing.T) {
	p, v6 := connectCase(t)
	bound := []Name{mustName(t, "c.test")}
	for _, to := range []netip.AddrPort{v6, netip.MustParseAddrPort("10.1.2.3:80"), netip.MustParseAddrPort("[::ffff:10.1.2.3]:80")} {
		for _, b := range [][]Name{nil, bound} {
			if n := testing.AllocsPerRun(100, func() {
				if !p.Connect(TCP, to, b).Allowed {
					t.Fatal("denied")
				}
			}); n != 0 {
				t.Errorf("%s, %v: %v allocations", to, b, n)
			}
		}
	}
}

func BenchmarkConnectAddress(b *testing.B) {
	p, to := connectCase(b)
	b.ReportAllocs()
	for b.Loop() {
		p.Connect(TCP, to, nil)
	}
}

func BenchmarkConnectName(b *testing.B) {
	p, _ := connectCase(b)
	to, bound := netip.MustParseAddrPort("203.0.113.5:443"), []Name{mustName(b, "a.test")}
	b.ReportAllocs()
	for b.Loop() {
		p.Connect(TCP, to, bound)
	}
}

func BenchmarkConnectDenied(b *testing.B) {
	p, _ := connectCase(b)
	to := netip.MustParseAddrPort("203.0.113.5:443")
	b.ReportAllocs()
	for b.Loop() {
		p.Connect(TCP, to, nil)
	}
}
