package suite

import (
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sandlock/sandlock/internal/lab"
)

func openUnix(t *testing.T, network, kind string) string {
	t.Helper()
	if kind == "abstract" {
		name := "@" + lab.Nonce()
		lab.Unix(t, network, name)
		return name
	}
	dir := lab.Scratch(t, lab.Ordinary)
	path := filepath.Join(dir, "s")
	lab.Unix(t, network, path)
	for _, f := range []string{dir, path} {
		if err := os.Chmod(f, 0o777); err != nil {
			t.Fatal(err)
		}
	}
	switch kind {
	case "symlink":
		link := filepath.Join(dir, "l")
		if err := os.Symlink(path, link); err != nil {
			t.Fatal(err)
		}
		return link
	case "root":
		return "/proc/self/root" + path
	}
	return path
}

// A thread rewrites the address during the call; only the allowed sink may see
// anything.
func TestAddressRaces(t *testing.T) {
	p := lab.Probe(t)
	for _, c := range []string{"race-connect", "race-sendto", "race-sendmsg", "race-sendmmsg", "race-udp", "race-header", "race-socket"} {
		t.Run(c, func(t *testing.T) {
			good, bad := netip.AddrPortFrom(lab.Allowed4, 0), netip.AddrPortFrom(lab.Evil4, 0)
			if c == "race-connect" {
				good, bad = lab.TCP(t, good), lab.TCP(t, bad)
			} else {
				good, bad = lab.UDP(t, good), lab.UDP(t, bad)
			}
			gip, gport := hostPort(good)
			bip, bport := hostPort(bad)
			asUsers(t, func(t *testing.T, u lab.User) {
				n, m := lab.Nonce(), lab.Now()
				lab.Bare(t, u, n, p, c, "1", gip, gport, bip, bport, n)
				if !reached(m.Since(t), bad) {
					t.Fatal("control: the race is never won without a sandbox")
				}
				schemes := []string{"", "udp://"} // for datagrams, each mode
				if c == "race-connect" {
					schemes = schemes[:1]
				}
				for _, scheme := range schemes {
					m = lab.Now()
					r := lab.Net(t, u, []string{"--quiet", "--allow", scheme + good.String()}, p, c, raceSeconds(), gip, gport, bip, bport, n)
					if r.Code != 0 {
						t.Fatalf("code %d: %s%s", r.Code, r.Stdout, r.Stderr)
					}
					if reached(m.Since(t), bad) {
						t.Errorf("%q: the denied sink was reached", scheme)
					}
					t.Log(scheme, strings.TrimSpace(r.Stdout))
				}
			})
		})
	}
}

func reached(as []lab.Arrival, at netip.AddrPort) bool {
	for _, a := range as {
		if strings.HasSuffix(a.Sink, " "+at.String()) {
			return true
		}
	}
	return false
}
