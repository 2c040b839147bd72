package suite

import (
	"net/netip"
	"testing"

	"github.com/sandlock/sandlock/internal/lab"
)

// A ClientHello is understood however it is cut, padded and decorated, and one
// that does not say exactly one allowed name never reaches the server.
func TestClientHellos(t *testing.T) {
	for _, c := range []struct {
		variant, name string
		passes        bool
	}{
		{"plain", "shared.test", true}, {"byte-by-byte", "shared.test", true}, {"fragmented", "shared.test", true}, {"fragments-byte", "shared.test", true},
		{"padded", "shared.test", true}, {"grease", "shared.test", true}, {"plain", "SHARED.test", true},
		{"ech", "shared.test", true}, // the outer name is the allowed one; whether its server opens the inner one is the server's affair
		{"plain", "neighbour.test", false}, {"byte-by-byte", "neighbour.test", false}, {"fragmented", "neighbour.test", false},
		{"padded", "neighbour.test", false}, {"grease", "neighbour.test", false}, {"ech", "neighbour.test", false},
		{"no-name", "shared.test", false}, {"two-names", "shared.test", false}, {"two-names-evil-first", "shared.test", false},
		{"two-extensions", "shared.test", false}, {"trailing-dot", "shared.test", false}, {"nul", "shared.test", false}, {"address", "shared.test", false},
		{"plain", "a.shared.test", false}, {"plain", "xshared.test", false},
	} {
		t.Run(c.variant+"/"+c.name, func(t *testing.T) {
			places := []netip.Addr{lab.Shared4}
			if c.variant == "plain" {
				places = append(places, lab.Shared6)
			}
			for _, a := range places {
				at := netip.AddrPortFrom(a, 443).String()
				look := append([]string{"sh", "-c", `getent ahosts shared.test >/dev/null; exec "$@"`, "sh"}, lab.Hello(t, c.variant, c.name, at)...)
				m := lab.Now()
				if lab.Run(t, lab.Ordinary, look...); !handshook(m.Since(t), at) {
					t.Fatal("control: the hello does not reach the server without a sandbox")
				}
				m = lab.Now()
				r := lab.Net(t, lab.Ordinary, []string{"--allow", "shared.test:443"}, look...)
				arrived := false
				for _, a := range m.Since(t) {
					arrived = arrived || a.Kind != "query"
				}
				if arrived != c.passes || (r.Code == 0) != c.passes {
					t.Errorf("%s: arrived %v, code %d, want it to pass: %v: %s", at, arrived, r.Code, c.passes, r.Stderr)
				}
				if !c.passes && !r.Denied(a.String()) {
					t.Errorf("%s: the log has no denial: %v", at, r.Log)
				}
			}
		})
	}
}

// handshook tells whether the server at an address got as many bytes as say who
// sent them.
func handshook(as []lab.Arrival, at string) bool {
	for _, a := range as {
		if a.Sink == "tcp "+at && a.Kind == "data" {
			return true
		}
	}
	return false
}
