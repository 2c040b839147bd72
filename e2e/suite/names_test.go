package suite

import (
	"strings"
	"testing"

	"github.com/sandlock/sandlock/internal/lab"
)

// A client that names an allowed host and goes elsewhere, or goes there and names
// another, gains nothing.
func TestNameMismatch(t *testing.T) {
	n := lab.Nonce()
	for name, c := range map[string]struct{ rule, url, args string }{
		"other SNI":             {"shared.test:443", "https://neighbour.test/" + n, "--connect-to neighbour.test:443:shared.test:443"},
		"SNI elsewhere":         {"allowed.test:443", "https://allowed.test/" + n, "--resolve allowed.test:443:" + lab.Evil4.String()},
		"SNI elsewhere, 6":      {"allowed.test:443", "https://allowed.test/" + n, "--resolve allowed.test:443:[" + lab.Evil6.String() + "]"},
		"other Host":            {"shared.test:80", "http://shared.test/" + n, "-H Host:neighbour.test"},
		"Host elsewhere":        {"allowed.test:80", "http://allowed.test/" + n, "--resolve allowed.test:80:" + lab.Evil4.String()},
		"an address, no name":   {"shared.test:443", "https://" + lab.Shared4.String() + "/" + n, "-k"},
		"another allowed names": {"shared.test:443", "https://evil.test/" + n, "--resolve evil.test:443:" + lab.Shared4.String()},
	} {
		t.Run(name, func(t *testing.T) {
			cmd := append([]string{"curl", "-fsS", "-m", "5", c.url}, strings.Fields(c.args)...)
			asUsers(t, func(t *testing.T, u lab.User) {
				lab.Bare(t, u, n, cmd...)
				m := lab.Now()
				r := lab.Net(t, u, []string{"--allow", c.rule}, cmd...)
				if r.Code == 0 {
					t.Errorf("it succeeded: %s", r.Stdout)
				}
				for _, a := range m.Since(t) {
					if a.Kind != "query" {
						t.Errorf("%s reached %s: %q", a.Kind, a.Sink, a.Text)
					}
				}
			})
		})
	}
}

// An allowed name whose owner points it at the host or its neighbours.
func TestRebinding(t *testing.T) {
	for _, name := range []string{"loop.test", "mapped.test", "nat64.test", "sixtofour.test", "metadata.test", "private.test", "cgnat.test", "alias.test"} {
		t.Run(name, func(t *testing.T) {
			asUsers(t, func(t *testing.T, u lab.User) {
				m := lab.Now()
				r := lab.Net(t, u, []string{"--allow", name + ":80"}, "curl", "-sS", "-m", "5", "http://"+name+"/")
				if r.Code == 0 {
					t.Errorf("it succeeded: %s", r.Stdout)
				}
				for _, a := range m.Since(t) {
					if a.Kind != "query" {
						t.Errorf("%s reached %s: %q", a.Kind, a.Sink, a.Text)
					}
				}
			})
		})
	}
	m := lab.Now()
	if r := lab.Net(t, lab.Ordinary, []string{"--allow-private", "--allow", "private.test:80"}, "curl", "-sS", "http://private.test/control"); r.Code != 0 {
		t.Fatalf("control: %+v", r)
	}
	m.Arrived(t, "/control")
}

// No query for a name without a rule leaves, whatever server is asked.
func TestQueriesStay(t *testing.T) {
	asUsers(t, func(t *testing.T, u lab.User) {
		for _, args := range [][]string{{}, {"+tcp"}, {"TXT"}, {"ANY"}, {"@8.8.8.8"}, {"@8.8.8.8", "+tcp"}} {
			t.Run(strings.Join(args, " "), func(t *testing.T) {
				n := lab.Nonce() + ".evil.test"
				cmd := append([]string{"dig", "+tries=1", "+time=3", n}, args...)
				lab.Bare(t, u, n, cmd...)
				m := lab.Now()
				r := lab.Net(t, u, []string{"--allow", "allowed.test:443"}, cmd...)
				for _, a := range m.Since(t) {
					t.Errorf("%s reached %s: %q", a.Kind, a.Sink, a.Text)
				}
				if !strings.Contains(r.Stdout, "NXDOMAIN") && !strings.Contains(r.Stdout, "REFUSED") {
					t.Errorf("no quick answer: %s%s", r.Stdout, r.Stderr)
				}
			})
		}
		for _, server := range []string{"@10.0.0.53", "@8.8.8.8"} {
			r := lab.Net(t, u, []string{"--allow", "four.test:443"}, "dig", "+short", "four.test", server)
			if strings.TrimSpace(r.Stdout) != lab.Allowed4.String() {
				t.Errorf("control: dig %s answers %q", server, r.Stdout)
			}
		}
	})
}
