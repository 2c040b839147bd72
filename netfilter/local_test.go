package netfilter

import (
	"net/netip"
	"testing"
)

func TestLocalAddress(t *testing.T) {
	for text, want := range map[string]bool{"127.0.0.1": true, "127.9.9.9": true, "::1": true, "::ffff:127.0.0.1": true,
		"198.51.100.1": false, "2001:db8::1": false, "::ffff:198.51.100.1": false, "255.255.255.255": false, "224.0.0.1": false} {
		if got := localAddress(netip.MustParseAddr(text)); got != want {
			t.Errorf("%s: %v, want %v", text, got, want)
		}
	}
}
