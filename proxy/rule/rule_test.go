package rule

import (
	"errors"
	"maps"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/sandlock/sandlock/netfilter/endpoint"
)

func mustRule(t testing.TB, a endpoint.Action, text string) Rule {
	t.Helper()
	r, err := Parse(a, text, "--http-"+a.String())
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func mustPolicy(t testing.TB, allow, deny []string) *Policy {
	t.Helper()
	var rules []Rule
	for _, text := range allow {
		rules = append(rules, mustRule(t, endpoint.Allow, text))
	}
	for _, text := range deny {
		rules = append(rules, mustRule(t, endpoint.Deny, text))
	}
	p, err := NewPolicy(rules)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// mustRequest reads "METHOD URL".
func mustRequest(t testing.TB, text string) Request {
	t.Helper()
	r, err := readRequest(text)
	if err != nil {
		t.Fatalf("%q: %v", text, err)
	}
	return r
}

func readRequest(text string) (Request, error) {
	method, url, _ := strings.Cut(text, " ")
	scheme, rest, _ := strings.Cut(url, "://")
	authority, target := rest, "/"
	if i := strings.IndexByte(rest, '/'); i >= 0 {
		authority, target = rest[:i], rest[i:]
	}
	port := uint16(80)
	if scheme == "https" {
		port = 443
	}
	if _, said, err := ParseAuthority(authority); err == nil && said != 0 {
		port = said
	}
	return NewRequest(method, scheme == "https", authority, target, port)
}

func lines(s string) []string {
	var out []string
	for l := range strings.SplitSeq(s, ";") {
		if l = strings.TrimSpace(l); l != "" {
			out = append(out, l)
		}
	}
	return out
}

func TestRules(t *testing.T) {
	for _, c := range []struct{ allow, deny, request, want string }{
		{"GET a.test/x", "", "GET https://a.test/x", "allow"},
		{"GET a.test/x", "", "GET http://a.test/x?q=1", "allow"},
		{"get,Post a.test/x", "", "POST https://a.test/x", "allow"},
		{"GET a.test/x", "", "HEAD https://a.test/x", "method"},
		{"GET a.test/x", "", "GET https://a.test/X", "path"},
		{"GET a.test/x", "", "GET https://a.test/x/", "path"},
		{"GET a.test/x", "", "GET https://b.test/x", "endpoint"},
		{"GET a.test/x", "", "GET https://a.test:8443/x", "endpoint"},
		{"GET a.test:8443/x", "", "GET https://a.test:8443/x", "allow"},
		{"GET a.test:8000-8010,443/x", "", "GET http://a.test:8005/x", "allow"},
		{"GET a.test", "", "GET https://a.test/", "allow"},
		{"GET a.test", "", "GET https://a.test/any/thing", "allow"},
		{"GET a.test/", "", "GET https://a.test/", "allow"},
		{"GET a.test/", "", "GET https://a.test/any", "path"},
		{"GET a.test/r/*", "", "GET https://a.test/r/a/b", "allow"},
		{"GET a.test/r/*", "", "GET https://a.test/r/", "allow"},
		{"GET a.test/r/*", "", "GET https://a.test/r", "path"},
		{"GET a.test/r/*", "", "GET https://a.test/rx", "path"},
		{"GET a.test/r/*/i", "", "GET https://a.test/r/a/i", "allow"},
		{"GET a.test/r/*/i", "", "GET https://a.test/r/a/b/i", "path"},
		{"GET a.test/r/*/i", "", "GET https://a.test/r//i", "path"},
		{"GET a.test/*/i/*", "", "GET https://a.test/r/i/x/y", "allow"},
		{"GET a.test/%2A/*", "", "GET https://a.test/*/y", "allow"},
		{"GET a.test/%2A/*", "", "GET https://a.test/x/y", "path"},
		{"* a.test/x", "", "BREW https://a.test/x", "allow"},
		{"* */x", "", "GET https://any.test/x", "allow"},
		{"* */x", "", "GET http://192.0.2.7/x", "allow"},
		{"read a.test/*", "", "OPTIONS https://a.test/x", "allow"},
		{"read a.test/*", "", "OPTIONS https://a.test/x", "allow"},
		{"read a.test/*", "", "POST https://a.test/x", "method"},
		{"* *.a.test/*", "", "GET https://b.c.a.test/x", "allow"},
		{"* *.a.test/*", "", "GET https://a.test/x", "endpoint"},
		{"* *.a.test/*", "", "GET https://xa.test/x", "endpoint"},
		{"* a.test", "", "GET https://a.test.evil.test/x", "endpoint"},
		{"* A.Test./x", "", "GET https://a.TEST./x", "allow"},
		{"* bücher.test/x", "", "GET https://xn--bcher-kva.test/x", "allow"},
		{"* 192.0.2.1/x", "", "GET http://192.0.2.1/x", "allow"},
		{"* 192.0.2.1/x", "", "GET http://[::ffff:192.0.2.1]/x", "allow"},
		{"* [2001:db8::1]:8080/x", "", "GET http://[2001:DB8:0::1]:8080/x", "allow"},
		{"* localhost:8080/x", "", "GET http://localhost:8080/x", "allow"},
		{"* localhost:8080/x", "", "GET http://127.0.0.1:8080/x", "allow"},
		{"* localhost:8080/x", "", "GET http://0.0.0.0:8080/x", "allow"},
		{"* https://a.test/x", "", "GET https://a.test/x", "allow"},
		{"* https://a.test/x", "", "GET http://a.test/x", "endpoint"},
		{"* https://a.test:8080/x", "", "GET http://a.test:8080/x", "path"},
		{"* http://a.test/x", "", "GET https://a.test/x", "endpoint"},
		{"* a.test/caf%c3%a9/*", "", "GET https://a.test/café/x", "allow"},
		{"* a.test/café/*", "", "GET https://a.test/caf%C3%A9/x", "allow"},
		{"OPTIONS a.test/*", "", "OPTIONS https://a.test/x", "allow"},
		// Deny wins, and is generous.
		{"* a.test", "* a.test/x", "GET https://a.test/x", "deny"},
		{"* a.test", "POST a.test/x", "GET https://a.test/x", "allow"},
		{"* a.test", "* a.test/x", "GET https://a.test/X", "deny"},
		{"* a.test", "* a.test/x", "GET https://a.test/x/", "deny"},
		{"* a.test", "* a.test/x/", "GET https://a.test/x", "deny"},
		{"* a.test", "* a.test/x", "GET https://a.test/y/", "allow"},
		{"* a.test", "* a.test/", "GET https://a.test/", "deny"},
		{"* a.test", "* a.test/", "GET https://a.test/x", "allow"},
		{"* a.test", "* */x/*", "GET https://a.test/x/y", "deny"},
		{"* a.test:8443/*", "* a.test/x", "GET https://a.test:8443/x", "deny"},
		{"* a.test:8443/*", "* a.test:443/x", "GET https://a.test:8443/x", "allow"},
		{"* a.test", "* http://a.test/x", "GET https://a.test/x", "allow"},
		{"", "* a.test/x", "GET https://a.test/x", "deny"},
		{"", "* a.test/x", "GET https://a.test/y", "endpoint"},
		{"* */*", "* 10.0.0.5/x", "GET http://[64:ff9b::a00:5]/x", "deny"},
		{"* */*", "* localhost/x", "GET http://127.0.0.2/x", "deny"},
		// An encoded slash is judged in both readings.
		{"* r.test/*", "", "GET https://r.test/@s%2fp", "allow"},
		{"* r.test/*/latest", "", "GET https://r.test/@s%2fp/latest", "path"},
		{"* r.test/*/latest;* r.test/*/*/latest", "", "GET https://r.test/@s%2fp/latest", "allow"},
		{"* r.test/@s%2fp", "", "GET https://r.test/@s%2Fp", "allow"},
		{"* r.test/@s%2fp", "", "GET https://r.test/@s/p", "allow"},
		{"* r.test/@s/p", "", "GET https://r.test/@s%2Fp", "path"},
		{"* r.test/a/*", "", "GET https://r.test/a%2Fb", "path"},
		{"* r.test/a/*", "", "GET https://r.test/a;b/c", "path"},
		{"* r.test/a;b/*", "", "GET https://r.test/a;b/c", "allow"},
		{"* r.test/a/*", "", "GET https://r.test/a//c", "allow"},
		{"* r.test/a/*", "", "GET https://r.test//a/c", "path"},
		// Cloning, and not pushing.
		{"git-fetch g.test/o/r", "", "GET https://g.test/o/r/info/refs?service=git-upload-pack", "allow"},
		{"git-fetch g.test/o/r", "", "GET https://g.test/o/r.git/info/refs?service=git-upload-pack", "allow"},
		{"git-fetch g.test/o/r.git", "", "POST https://g.test/o/r/git-upload-pack", "allow"},
		{"git-fetch g.test/o/r/", "", "POST https://g.test/o/r.git/git-upload-pack", "allow"},
		{"git-fetch g.test/o/r", "", "GET https://g.test/o/r/info/refs?service=git-receive-pack", "path"},
		{"git-fetch g.test/o/r", "", "GET https://g.test/o/r/info/refs?service=git-upload-pack&service=git-receive-pack", "path"},
		{"git-fetch g.test/o/r", "", "GET https://g.test/o/r/info/refs", "path"},
		{"git-fetch g.test/o/r", "", "POST https://g.test/o/r/git-receive-pack", "path"},
		{"git-fetch g.test/o/r", "", "GET https://g.test/o/x/info/refs?service=git-upload-pack", "path"},
		{"git-fetch g.test/o/*", "", "GET https://g.test/o/r/info/refs?service=git-upload-pack", "allow"},
		{"git-fetch g.test/o/*", "", "POST https://g.test/o/a/b.git/git-upload-pack", "allow"},
		{"git-fetch g.test/o/*", "", "POST https://g.test/o/git-upload-pack", "path"},
		{"git-fetch g.test/*", "", "POST https://g.test/o/a/git-receive-pack", "path"},
		{"git-fetch g.test/*/r", "", "POST https://g.test/o/r/git-upload-pack", "allow"},
	} {
		p := mustPolicy(t, lines(strings.ReplaceAll(c.allow, "a;b", "a%3Bb")), lines(c.deny))
		v := p.Decide(mustRequest(t, c.request), Destination{})
		got := map[Reason]string{NoRule: "none", OtherMethod: "method", OtherPath: "path", DenyRule: "deny", AllowRule: "allow", EndpointRules: "endpoint"}[v.Reason]
		if got != c.want || v.Allowed != (got == "allow" || got == "endpoint") || (v.Rule != nil) != (got == "allow" || got == "deny") {
			t.Errorf("%s, deny %s: %s: %+v, want %s", c.allow, c.deny, c.request, v, c.want)
		}
	}
}

func TestRulesThatAreErrors(t *testing.T) {
	for in, remedy := range map[string]string{
		"": "write METHOD HOST/PATH", "  ": "write METHOD HOST/PATH", "a.test/x": "GET a.test/x", "GET": "GET GET",
		"GET  a.test/x y": "%20", "GET,POST": "", "GET, POST a.test/": "separated by commas", "*,GET a.test/": "mixes *", "GET,read a.test/": "mixes a word",
		"frob a.test/": "is not a method", "GE(T a.test/": "is not a method", "GET, a.test/": "is not a method", "CONNECT a.test/": "tunnels",
		"GET /x": "no host", "GET ftp://a.test/x": "leave it out", "GET ://a.test/x": "leave it out", "GET wss://a.test/": "leave it out", "GET u@a.test/x": "the @",
		"GET a.test?x": "path only", "GET a.test/x?y": "%3F", "GET a.test/x#y": "%23", "GET a.test:0/x": "port", "GET a.test:http/": "port", "GET a.test:/": "port",
		"GET 10.0.0.0/8": "10.0.0.0:80/8", "GET [2001:db8::]/32": "[2001:db8::]:80/32", "GET 2001:db8::1/x": "[2001:db8::1]", "GET [2001:db8::/32]/x": "brackets hold",
		"GET 127.1/x": "192.0.2.1", "GET 0.0.0.0/x": "localhost", "GET a..test/x": "empty label", "GET *.*/x": "* stands", "GET a*.test/x": "* stands",
		"GET a.test/x*": "%2A", "GET a.test/*x/y": "%2A", "GET a.test/x/../y": "dot segments", "GET a.test/%2e%2e/y": "dot segment", "GET a.test/..%2fy": "dot segment",
		"GET a.test/\\x": "backslash", "GET a.test/%zz": "%25", "GET a.test/%00": "control", "GET a.test/\ue001": "U+E001", "GET a.test/%ff": "UTF-8",
		"git-fetch a.test": "HOST/OWNER/REPO", "git-fetch a.test/": "HOST/OWNER/REPO", "git-fetch a.test/o/r*": "%2A",
	} {
		_, err := Parse(endpoint.Allow, in, "--http-allow")
		if err == nil || !strings.Contains(err.Error(), remedy) || !strings.HasPrefix(err.Error(), "--http-allow \""+strings.Trim(strconv.Quote(in), `"`)) {
			t.Errorf("%q: %v, want %q", in, err, remedy)
		}
	}
	if _, err := Parse(endpoint.Deny, "git-fetch a.test/o/r", ""); err == nil {
		t.Error("git-fetch denies")
	}
	if _, err := Parse(0, "GET a.test/", ""); err == nil {
		t.Error("no action")
	}
	if _, err := NewPolicy([]Rule{{Action: endpoint.Allow, Text: "GET a.test/"}}); err == nil {
		t.Error("a rule made by hand")
	}
}

func TestRulesThatCanNeverMatch(t *testing.T) {
	for _, c := range []struct {
		allow, deny string
		ok          bool
	}{
		{"GET a.test/x", "GET a.test/x", false}, {"GET a.test/x", "* */*", false}, {"GET,HEAD a.test/x/y", "read *.test/x/*", false},
		{"GET a.test/x", "GET a.test/X/", true}, {"GET a.test/*", "GET a.test/x", true}, {"* a.test/x", "GET a.test/x", true}, {"GET a.test/x", "GET a.test:80/x", true},
		{"GET a.test/x", "GET http://a.test/x", true}, {"GET http://a.test/x", "GET http://a.test/x", false}, {"GET a.test/*/x", "GET a.test/*/*", false},
		{"GET a.test/*/x", "GET a.test/y/x", true}, {"git-fetch a.test/o/r", "* a.test/o/*", false}, {"git-fetch a.test/o/r", "POST a.test/o/*", true}, {"GET a.test:8443/x", "* a.test/x", false},
	} {
		_, err := NewPolicy([]Rule{mustRule(t, endpoint.Allow, c.allow), mustRule(t, endpoint.Deny, c.deny)})
		if (err == nil) != c.ok {
			t.Errorf("%s, deny %s: %v", c.allow, c.deny, err)
		}
	}
}

// A request for an address, or on a connection to it, is one for the names and the
// addresses behind it.
func TestDestinations(t *testing.T) {
	a, b := netip.MustParseAddr("203.0.113.5"), netip.MustParseAddr("10.0.0.5")
	bound := []endpoint.Name{mustName(t, "a.test")}
	for _, c := range []struct {
		allow, deny, request string
		to                   Destination
		want                 Reason
	}{
		{"", "* a.test/x", "GET http://203.0.113.5/x", Destination{a, bound}, DenyRule},
		{"", "* a.test/x", "GET http://203.0.113.5/y", Destination{a, bound}, EndpointRules},
		{"", "* 203.0.113.5/x", "GET http://a.test/x", Destination{a, bound}, DenyRule},
		{"", "* a.test/x", "GET http://b.test/x", Destination{a, bound}, EndpointRules},
		// What is restricted by its name is not open by its address, nor the other way round.
		{"GET a.test/x", "", "GET http://203.0.113.5/x", Destination{a, bound}, NoRule},
		{"GET a.test/x", "", "GET http://203.0.113.5/x", Destination{a, nil}, EndpointRules},
		{"GET 10.0.0.5/x", "", "GET http://other.test/x", Destination{b, nil}, NoRule},
		{"GET 10.0.0.5/x", "", "GET http://10.0.0.5/x", Destination{b, nil}, AllowRule},
		{"GET a.test/x", "", "GET http://b.test/x", Destination{a, bound}, EndpointRules},
	} {
		p := mustPolicy(t, lines(c.allow), lines(c.deny))
		if v := p.Decide(mustRequest(t, c.request), c.to); v.Reason != c.want {
			t.Errorf("%s, deny %s: %s: %+v", c.allow, c.deny, c.request, v)
		}
	}
}

func mustName(t testing.TB, s string) endpoint.Name {
	t.Helper()
	n, err := endpoint.ParseName(s)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func TestTerminates(t *testing.T) {
	p := mustPolicy(t, lines("GET a.test/x; GET *.b.test:8443/; GET 10.0.0.5/"), lines("* d.test/x"))
	addr := netip.MustParseAddr("203.0.113.5")
	for _, c := range []struct {
		name, addr, bound string
		port              uint16
		want              bool
	}{
		{"a.test", "203.0.113.5", "a.test", 443, true}, {"a.test", "203.0.113.5", "a.test", 80, true}, {"a.test", "203.0.113.5", "", 22, false},
		{"c.test", "203.0.113.5", "a.test", 443, false}, {"x.b.test", "203.0.113.5", "", 8443, true}, {"x.b.test", "203.0.113.5", "", 443, false},
		{"", "203.0.113.5", "a.test", 443, true}, {"", "203.0.113.5", "c.test", 443, false}, {"", "10.0.0.5", "", 80, true}, {"c.test", "10.0.0.5", "", 80, true},
		{"d.test", "203.0.113.5", "", 443, true}, {"d.test", "203.0.113.5", "", 8443, false}, {"", "::ffff:10.0.0.5", "", 80, true},
	} {
		to := Destination{Addr: netip.MustParseAddr(c.addr)}
		if c.bound != "" {
			to.Bound = []endpoint.Name{mustName(t, c.bound)}
		}
		var n endpoint.Name
		if c.name != "" {
			n = mustName(t, c.name)
		}
		if got := p.Terminates(n, to, c.port); got != c.want {
			t.Errorf("%+v: %v", c, got)
		}
		if c.want && !p.Looks(c.port) {
			t.Errorf("port %d is not looked at", c.port)
		}
	}
	if p.Looks(22) || p.IsEmpty() || !mustPolicy(t, nil, nil).IsEmpty() || !mustPolicy(t, lines("GET */"), nil).Terminates(endpoint.Name{}, Destination{Addr: addr}, 443) {
		t.Error("ports, or emptiness")
	}
}

func TestImplied(t *testing.T) {
	p := mustPolicy(t, lines("GET a.test/x; POST https://*.b.test/; GET 10.0.0.5/; * [2001:db8::1]:81/; read localhost:3000; git-fetch */o/r"), lines("* d.test/x"))
	var got []string
	for _, r := range p.Implied() {
		got = append(got, r.String())
		if r.Action != endpoint.Allow || r.Text == "" || r.Source != "--http-allow" {
			t.Errorf("%+v", r)
		}
	}
	want := []string{"tcp://a.test", "tcp://*.b.test:443", "tcp://10.0.0.5:80,443", "tcp://[2001:db8::1]:81", "tcp://localhost:3000", "tcp://*:80,443"}
	if !slices.Equal(got, want) {
		t.Errorf("%q", got)
	}
	if _, err := endpoint.NewPolicy(p.Implied(), endpoint.Options{}); err != nil {
		t.Error(err)
	}
}

func TestRequests(t *testing.T) {
	for _, c := range []struct {
		method, authority, target string
		tls                       bool
		port                      uint16
		status                    int // 0: accepted
		want                      string
	}{
		{"GET", "A.test", "/x?y=%zz", true, 443, 0, "GET https://a.test/x a.test /x?y=%zz"},
		{"get", "a.test:443", "/", true, 443, 0, "GET https://a.test/ a.test:443 /"},
		{"GET", "a.test", "/", true, 8443, 0, "GET https://a.test:8443/ a.test /"},
		{"GET", "a.test:8443", "/", true, 8443, 0, "GET https://a.test:8443/ a.test:8443 /"},
		{"GET", "a.test:8443", "/", true, 443, 421, ""},
		{"GET", "a.test:80", "/", true, 443, 421, ""},
		{"GET", "a.test.", "/", false, 80, 0, "GET http://a.test/ a.test /"},
		{"GET", "a.test", "http://A.test:80/x", false, 80, 0, "GET http://a.test/x a.test /x"},
		{"GET", "a.test", "HTTP://a.test?q", false, 80, 0, "GET http://a.test/ a.test /?q"},
		{"GET", "a.test", "http://b.test/x", false, 80, 400, ""},
		{"GET", "a.test", "http://a.test:81/x", false, 80, 400, ""},
		{"GET", "a.test", "https://a.test/x", false, 80, 400, ""},
		{"GET", "a.test", "http://a.test@evil.test/", false, 80, 400, ""},
		{"GET", "a.test", "http://evil.test\\@a.test/", false, 80, 400, ""},
		{"GET", "a.test", "//evil.test/", false, 80, 0, "GET http://a.test//evil.test/ a.test //evil.test/"},
		{"OPTIONS", "a.test", "*", false, 80, 0, "OPTIONS http://a.test a.test *"},
		{"GET", "a.test", "*", false, 80, 400, ""},
		{"OPTIONS", "a.test", "*?x", false, 80, 400, ""},
		{"CONNECT", "a.test:443", "a.test:443", false, 80, 400, ""},
		{"G ET", "a.test", "/", false, 80, 400, ""},
		{"", "a.test", "/", false, 80, 400, ""},
		{"GET", "", "/", false, 80, 400, ""},
		{"GET", "a.test", "", false, 80, 400, ""},
		{"GET", "a.test", "x", false, 80, 400, ""},
		{"GET", "a.test", "/x#y", false, 80, 400, ""},
		{"GET", "a.test", "/x?y#z", false, 80, 400, ""},
		{"GET", "a.test", "/x?y z", false, 80, 400, ""},
		{"GET", "a.test", "/x?\xff", false, 80, 0, "GET http://a.test/x a.test /x?%FF"},
		{"GET", "127.0.0.1:8080", "/", false, 8080, 0, "GET http://127.0.0.1:8080/ 127.0.0.1:8080 /"},
		{"GET", "[::1]", "/", false, 80, 0, "GET http://[::1]/ [::1] /"},
		{"GET", "[::FFFF:7f00:1]", "/", false, 80, 0, "GET http://127.0.0.1/ 127.0.0.1 /"},
	} {
		r, err := NewRequest(c.method, c.tls, c.authority, c.target, c.port)
		var e *Error
		if c.status == 0 && err != nil || c.status != 0 && (!errors.As(err, &e) || e.Status != c.status) {
			t.Errorf("%+v: %v", c, err)
			continue
		}
		if got := r.String() + " " + r.Authority() + " " + r.Target(); err == nil && got != c.want {
			t.Errorf("%+v: %s", c, got)
		}
	}
	for _, host := range []string{"a.test\x00.evil.test", "a.test\t", " a.test", "a.test ", "a.test%00", "%61.test", "a.test%2e", `a\.test`, "u@a.test", "a.test#", "a.test/", "a..test", ".",
		"[a.test]", "[[::1]]", "[::1", "::1", "[127.0.0.1]", "[::1%lo]", "[fe80::1%25lo]", "127.1", "0x7f.1", "0177.0.0.1", "2130706433", "ä.test", "ａ.test",
		"a.test:", "a.test:0", "a.test:007", "a.test:-1", "a.test:+80", "a.test:65536", "a.test:80:80", "a.test,b.test", ":80", "a.test:80 ", "-a.test"} {
		if h, _, err := ParseAuthority(host); err == nil {
			t.Errorf("%q became %v", host, h)
		}
	}
}

func TestBelongs(t *testing.T) {
	for _, c := range []struct {
		request, sni, to string
		ok               bool
	}{
		{"GET https://a.test/", "a.test", "203.0.113.5", true}, {"GET https://a.test/", "A.TEST", "203.0.113.5", true}, {"GET https://a.test/", "b.test", "203.0.113.5", false}, {"GET https://a.test/", "", "203.0.113.5", false},
		{"GET http://a.test/", "", "203.0.113.5", true}, {"GET http://203.0.113.5/", "", "203.0.113.5", true}, {"GET http://203.0.113.6/", "", "203.0.113.5", false},
		{"GET https://203.0.113.5/", "", "::ffff:203.0.113.5", true}, {"GET https://203.0.113.5/", "a.test", "203.0.113.5", false}, {"GET http://0.0.0.0/", "", "127.0.0.1", true},
	} {
		sni, err := ParseServerName(c.sni)
		if err != nil {
			t.Fatal(err)
		}
		var e *Error
		err = mustRequest(t, c.request).Belongs(sni, netip.MustParseAddr(c.to))
		if c.ok != (err == nil) || err != nil && (!errors.As(err, &e) || e.Status != 421) {
			t.Errorf("%+v: %v", c, err)
		}
	}
	for _, sni := range []string{"a.test.", "127.0.0.1", "[::1]", "a..test", "a.test\x00", "ä.test"} {
		if n, err := ParseServerName(sni); err == nil {
			t.Errorf("%q became %q", sni, n)
		}
	}
}

func TestOverrides(t *testing.T) {
	r := mustRequest(t, "POST https://a.test/x?q")
	for _, c := range []struct {
		field, value, want string
	}{
		{"X-Http-Method-Override", " delete ", "DELETE https://a.test/x"},
		{"X-Http-Method", "PUT", "PUT https://a.test/x"},
		{"x_http-Method_override", "PUT", "PUT https://a.test/x"},
		{"X-Method-Override", "GE T", "400"},
		{"X-Original-Url", "/x/../y?z", "POST https://a.test/y"},
		{"X-Rewrite-Url", "https://a.test/z", "POST https://a.test/z"},
		{"X-Rewrite-Url", "https://b.test/z", "400"},
		{"X-Rewrite-Url", "z", "400"},
		{"X-Other", "z", ""},
	} {
		others, err := r.Overrides(maps.All(map[string][]string{c.field: {c.value}, "X": nil, "": nil}))
		got := ""
		var e *Error
		switch {
		case errors.As(err, &e) && e.Status == 400:
			got = "400"
		case len(others) == 1:
			got = others[0].String()
		}
		if got != c.want {
			t.Errorf("%s: %s: %q, %v", c.field, c.value, got, err)
		}
	}
}
