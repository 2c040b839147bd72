// Package e2e is the short form of the suite next to it: a quick look at
// whether the built program does what it is for.
package e2e

import (
	"strings"
	"testing"

	"github.com/sandlock/sandlock/internal/lab"
)

func TestMain(m *testing.M) { lab.Main(m, "..") }

func TestSmoke(t *testing.T) {
	for _, u := range lab.Users {
		t.Run(string(u), func(t *testing.T) {
			for _, url := range []string{"https://allowed.test/", "http://allowed.test/"} {
				n, m := lab.Nonce(), lab.Now()
				if r := lab.Net(t, u, []string{"--allow", "allowed.test"}, "curl", "-fsS", url+n); r.Code != 0 || r.Stderr != "" {
					t.Fatalf("%s: code %d: %s%s", url, r.Code, r.Stdout, r.Stderr)
				}
				m.Arrived(t, n)
			}
			n := lab.Nonce()
			r := lab.Denied(t, lab.Denial{User: u, Flags: []string{"--allow", "allowed.test"}, Nonce: n,
				Command: []string{"curl", "-sS", "https://evil.test/" + n}, Answer: "Could not resolve host", Log: "--allow evil.test:443"})
			if !strings.Contains(r.Stderr, "sandlock: denied dns evil.test by curl[") {
				t.Errorf("no explanation: %s", r.Stderr)
			}
			lab.Denied(t, lab.Denial{User: u, Flags: []string{"--allow", "allowed.test"}, Nonce: n,
				Command: []string{"curl", "-sS", "http://" + lab.Evil4.String() + "/" + n}, Log: lab.Evil4.String()})
			if r := lab.Net(t, u, nil, "sh", "-c", "exit 5"); r.Code != 5 || r.Stderr != "" {
				t.Errorf("code %d: %s", r.Code, r.Stderr)
			}
			if r := lab.Run(t, u, lab.Sandlock(), "net", "--allow", "a..b:443", "--", "true"); r.Code != 2 || strings.Count(r.Stderr, "\n") != 1 {
				t.Errorf("a malformed rule: code %d: %s", r.Code, r.Stderr)
			}
		})
	}
}
