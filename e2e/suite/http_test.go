package suite

import (
	"strings"
	"testing"

	"github.com/sandlock/sandlock/internal/lab"
)

// Rules see inside TLS: what they allow arrives, and what they do not is refused
// before any byte of it leaves.
func TestHTTPRules(t *testing.T) {
	asUsers(t, func(t *testing.T, u lab.User) {
		for _, url := range []string{"https://allowed.test", "http://allowed.test"} {
			for _, version := range []string{"--http1.1", "--http2"} {
				n, m := lab.Nonce(), lab.Now()
				flags := []string{"--http-allow", "GET allowed.test/ok/*", "--http-deny", "* allowed.test/ok/secret"}
				curl := []string{"curl", "-ksS", version, "-w", " %{http_code}"}
				r := lab.Net(t, u, flags, append(curl, url+"/ok/"+n)...)
				if r.Code != 0 || !strings.HasSuffix(r.Stdout, " 200") {
					t.Fatalf("%s %s: code %d: %s%s", version, url, r.Code, r.Stdout, r.Stderr)
				}
				m.Arrived(t, "/ok/"+n)
				for _, args := range [][]string{{url + "/no/" + n}, {url + "/ok/secret?" + n}, {"-X", "POST", url + "/ok/" + n}, {"--path-as-is", url + "/ok/%2e%2e/" + n}} {
					m := lab.Now()
					r := lab.Net(t, u, flags, append(curl, args...)...)
					if !strings.HasSuffix(r.Stdout, " 403") && !strings.HasSuffix(r.Stdout, " 400") {
						t.Errorf("%s %q: code %d: %s%s", version, args, r.Code, r.Stdout, r.Stderr)
					}
					for _, a := range m.Since(t) {
						if a.Kind != "query" {
							t.Errorf("%s %q: %s reached %s: %q", version, args, a.Kind, a.Sink, a.Text)
						}
					}
					if !r.Denied("allowed.test") {
						t.Errorf("%s %q: no denial in the log: %v", version, args, r.Log)
					}
				}
			}
		}
	})
}

// A host with an endpoint rule alone is passed through, beside one with HTTP rules:
// on the same address too.
func TestPassthroughBesideHTTPRules(t *testing.T) {
	flags := []string{"--allow", "shared.test:443", "--http-allow", "GET neighbour.test/ok/*"}
	asUsers(t, func(t *testing.T, u lab.User) {
		issuer := func(url string) string {
			r := lab.Net(t, u, flags, "curl", "-ksS", "-v", "-o", "/dev/null", "-w", "code %{http_code}", url)
			for line := range strings.SplitSeq(r.Stderr, "\n") {
				if _, cn, ok := strings.Cut(line, "issuer: "); ok {
					return cn + " " + r.Stdout
				}
			}
			return r.Stderr
		}
		// The second name is asked for first, so that both are bound to the address.
		if got := issuer("https://neighbour.test/ok/x"); !strings.Contains(got, "sandlock") || !strings.Contains(got, "code 200") {
			t.Errorf("neighbour.test: %s", got)
		}
		r := lab.Net(t, u, flags, "sh", "-c", "curl -ksS -v https://neighbour.test/no https://shared.test/x 2>&1; getent ahosts neighbour.test; curl -ksSv https://shared.test/x 2>&1")
		if strings.Count(r.Stdout, "issuer: CN=lab CA") != 2 || !strings.Contains(r.Stdout, "lab shared.test /x") || !strings.Contains(r.Stdout, "no HTTP rule allows this path") {
			t.Errorf("%s%s", r.Stdout, r.Stderr)
		}
	})
}

// Every client takes the connection for the server's own, without one option for
// certificates, and is refused on the rule's other side.
func TestHTTPClients(t *testing.T) {
	for _, c := range clients {
		t.Run(c.name, func(t *testing.T) {
			asUsers(t, func(t *testing.T, u lab.User) {
				n, m := lab.Nonce(), lab.Now()
				flags := []string{"--http-allow", "GET four.test/" + n}
				switch c.name {
				case "java":
					flags = append(flags, "--inject-ca", lab.Dir()+"/etc/java.p12")
				case "git":
					flags[1] = "git-fetch four.test/git/" + n + "/repo.git"
				}
				r := lab.Net(t, u, flags, c.command(t, "four.test", n)...)
				if r.Code != 0 {
					t.Fatalf("code %d: %s%s", r.Code, r.Stdout, r.Stderr)
				}
				m.Arrived(t, n)
				other := lab.Nonce()
				m = lab.Now()
				r = lab.Net(t, u, flags, c.command(t, "four.test", other)...)
				for _, a := range m.Since(t) {
					if a.Kind != "query" {
						t.Errorf("%s reached %s: %q", a.Kind, a.Sink, a.Text)
					}
				}
				if !r.Denied(other) {
					t.Errorf("no denial in the log: %v: %s%s", r.Log, r.Stdout, r.Stderr)
				}
			})
		})
	}
}
