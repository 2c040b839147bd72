package suite

import (
	"encoding/base64"
	"fmt"
	"os"
	"path/filepath"
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

// A secret reaches the server that it is for, over TLS and on allowed requests only,
// and nothing that the command can read holds it.
func TestCredentials(t *testing.T) {
	asUsers(t, func(t *testing.T, u lab.User) {
		secret := "s3cret" + lab.Nonce()
		dir := lab.Scratch(t, u)
		file := filepath.Join(dir, "key")
		if err := os.WriteFile(file, []byte(secret+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		lab.Give(t, u, file)
		flags := []string{"--http-allow", "* allowed.test/echo/*", "--credential", "K=env:LAB_SECRET", "--credential", "F=file:" + file, "--credential", "D=fd:3",
			"--http-auth", "* allowed.test/echo/bearer bearer K", "--http-auth", "* allowed.test/echo/basic basic:me F", "--http-auth", "* allowed.test/echo/header header:X-Key D",
			"--http-auth", "* allowed.test/echo/query query:key K", "--http-auth", "* allowed.test/echo/keep bearer K add-only"}
		script := `exec 3<` + file + `; LAB_SECRET=` + secret + ` exec "$@"`
		run := func(args ...string) lab.Result {
			log := filepath.Join(lab.Scratch(t, u), "log")
			cmd := append([]string{"sh", "-c", script, "sh"}, lab.NetArgs(append([]string{"--log", log}, flags...), args...)...)
			r := lab.Run(t, u, cmd...)
			r.Log = lab.ReadLog(t, log)
			if text := fmt.Sprint(r.Log) + r.Stderr; strings.Contains(text, secret) {
				t.Errorf("%q: the secret is in the log: %s", args, text)
			}
			return r
		}
		for path, want := range map[string]string{"bearer": "Authorization: Bearer " + secret, "basic": "Authorization: Basic " + base64.StdEncoding.EncodeToString([]byte("me:"+secret)),
			"header": "X-Key: " + secret, "query?a=b&k%65y=old": "?a=b&key=" + secret} {
			for _, version := range []string{"--http1.1", "--http2"} {
				r := run("curl", "-sS", version, "-H", "Authorization: old", "-H", "X-Key: old", "https://allowed.test/echo/"+path)
				if !strings.Contains(r.Stdout, want) || strings.Contains(r.Stdout, "old") && !strings.Contains(want, "?") && strings.Contains(r.Stdout, strings.SplitN(want, " ", 2)[0]+" old") {
					t.Errorf("%s: %s%s", path, r.Stdout, r.Stderr)
				}
			}
		}
		for _, args := range [][]string{{"-H", "Authorization: own", "https://allowed.test/echo/keep"}, {"https://allowed.test/echo/none"}, {"http://allowed.test/echo/bearer"}} {
			r := run(append([]string{"curl", "-sS"}, args...)...)
			if strings.Contains(r.Stdout, secret) || !strings.Contains(r.Stdout, "echo /echo/") {
				t.Errorf("%q: %s%s", args, r.Stdout, r.Stderr)
			}
		}
		r := run("sh", "-c", `env; ls /proc/self/fd; cat /proc/$PPID/environ /proc/*/environ 2>/dev/null | tr '\0' '\n' | grep -a LAB_SECRET; grep -aq "$0" <&3 && echo FD3`, secret[:3])
		if strings.Contains(strings.ReplaceAll(r.Stdout, secret[:3]+"\n", ""), secret) || strings.Contains(r.Stdout, "FD3") {
			t.Errorf("the command sees the secret: %s", r.Stdout)
		}
	})
}

// With every endpoint open, a host with an HTTP rule is not reached by an address that
// the command knows by itself; others are, and their TLS is left alone.
func TestHTTPDenyBesideAllowAll(t *testing.T) {
	flags := []string{"--allow", "*", "--http-deny", "* evil.test/secret/*"}
	asUsers(t, func(t *testing.T, u lab.User) {
		n := lab.Nonce()
		for _, args := range [][]string{{"https://evil.test/secret/" + n}, {"--resolve", "evil.test:443:" + lab.Evil4.String(), "https://evil.test/secret/" + n},
			{"--resolve", "evil.test:80:" + lab.Evil4.String(), "http://evil.test/secret/" + n}, {"http://evil.test/secret/" + n}} {
			m := lab.Now()
			r := lab.Net(t, u, flags, append([]string{"curl", "-fksS", "-m", "10"}, args...)...)
			if r.Code == 0 {
				t.Errorf("%q succeeded: %s", args, r.Stdout)
			}
			for _, a := range m.Since(t) {
				if strings.Contains(a.Text, n) {
					t.Errorf("%q: %s reached %s: %q", args, a.Kind, a.Sink, a.Text)
				}
			}
		}
		for _, args := range [][]string{{"https://evil.test/open/" + n}, {"http://evil.test/open/" + n}, {"https://allowed.test/" + n}, {"-k", "https://" + lab.Allowed4.String() + "/" + n},
			{"--resolve", "shared.test:443:" + lab.Shared4.String(), "https://shared.test/" + n}} {
			r := lab.Net(t, u, flags, append([]string{"curl", "-fsS", "-m", "10"}, args...)...)
			if r.Code != 0 || !strings.Contains(r.Stdout, n) {
				t.Errorf("%q: code %d: %s%s", args, r.Code, r.Stdout, r.Stderr)
			}
		}
	})
}
