package sandbox

import (
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"
)

const wholePolicy = `
[network]
allow = ["a.example", 'b.example:5432',
	"""c.example""",
]
deny = [ "d.example" ]
allow_unix = ["/run/x.sock"]
allow_bind = ["8080"]
deny_bind = ["1-1023"]
allow_private = true
dns_server = ["192.0.2.53"]
audit = true

[program]
clean_env = true
cwd = "/"
timeout = "1m30s"
name = "job"
pass_fd = [5]
[program.env]
B = "2"
A = "1"

[log]
file = "events"
quiet = true
`

func TestWholePolicyFile(t *testing.T) {
	got, err := ParsePolicy("p.toml", []byte(wholePolicy))
	if err != nil {
		t.Fatal(err)
	}
	want := &Policy{
		Allow:     []RuleText{{"a.example", "p.toml:3"}, {"b.example:5432", "p.toml:3"}, {"c.example", "p.toml:4"}},
		Deny:      []RuleText{{"d.example", "p.toml:6"}},
		AllowUnix: []string{"/run/x.sock"}, AllowBind: []RuleText{{"8080", "p.toml:8"}}, DenyBind: []RuleText{{"1-1023", "p.toml:9"}},
		AllowPrivate: true, DNSServers: []netip.AddrPort{netip.MustParseAddrPort("192.0.2.53:53")}, Audit: true, Quiet: true,
		LogFile: "events", Name: "job", Env: []string{"A=1", "B=2"}, CleanEnv: true, Dir: "/", PassFDs: []int{5},
		Timeout: 90 * time.Second,
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
}

// Dotted keys and inline tables are TOML as well.
func TestOtherSpellings(t *testing.T) {
	for _, text := range []string{"network.allow = [\"a.example\"]", "[\"network\"]\nallow = ['a.example']", "network = { allow = ['a.example'] }"} {
		p, err := ParsePolicy("p", []byte(text))
		if err != nil || len(p.Allow) != 1 || p.Allow[0].Text != "a.example" || !strings.HasPrefix(p.Allow[0].Source, "p") {
			t.Errorf("%s: %+v, %v", text, p, err)
		}
	}
}

func TestUnknownKeys(t *testing.T) {
	for text, want := range map[string]string{
		"[network]\nalow = []":              `p:2: unknown key "alow" in [network]; did you mean "allow"?`,
		"[program]\nallow_private = true":   `p:2: unknown key "allow_private" in [program]; it belongs into [network]`,
		"allow = []":                        `p:1: unknown key "allow" in the top level; it belongs into [network]`,
		"[log]\ncolour = true":              `p:2: unknown key "colour" in [log]; known are file, quiet`,
		"[https]\nallow = []":               `p:1: unknown key "https" in the top level; did you mean "http"?`,
		"[[network.rules]]\nx = 1":          `unknown key "rules" in [network]`,
		"network.audi = true":               `p:1: unknown key "audi" in [network]; did you mean "audit"?`,
		"[network.allow_unix2]\na.b = \"\"": `unknown key "allow_unix2" in [network]; did you mean "allow_unix"?`,
	} {
		_, err := ParsePolicy("p", []byte(text))
		if err == nil || !strings.HasPrefix(err.Error(), want) && !strings.Contains(err.Error(), want) {
			t.Errorf("%q:\n%v\nwant %s", text, err, want)
		}
	}
}

func TestOneNameServer(t *testing.T) {
	p, err := ParsePolicy("p", []byte("[network]\ndns_server = '192.0.2.53:5353'"))
	if err != nil || len(p.DNSServers) != 1 || p.DNSServers[0].Port() != 5353 {
		t.Errorf("%+v, %v", p, err)
	}
}

func TestWrongTypes(t *testing.T) {
	for text, want := range map[string]string{
		"[network]\nallow = 5":            "p:2:9: network.allow: there is a TOML integer where a list of strings is wanted",
		"[network]\nallow = [5]":          "a string is wanted",
		"[network]\naudit = 'yes'":        "p:2:9: network.audit: there is a TOML string where true or false is wanted",
		"[program]\npass_fd = ['a']":      "a number is wanted",
		"[program]\nenv = 'A=1'":          "a table of strings is wanted",
		"[program.env]\nA = 1":            "a string is wanted",
		"[network]\nupstream_proxy = ''":  "p:2: upstream_proxy is empty; write \"http://HOST:PORT\", or leave it out",
		"[network]\ndns_server = [5]":     "p: network.dns_server: there is something else where a string or a list of strings is wanted",
		"network = 5":                     "p:1:",
		"[program]\ntimeout = 90":         "a string is wanted",
		"[network]\nallow = ['a.example'": "p:2:",
	} {
		_, err := ParsePolicy("p", []byte(text))
		if err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "struct") {
			t.Errorf("%q:\n%v\nwant %s", text, err, want)
		}
	}
}

func TestReadPolicyBounds(t *testing.T) {
	path := filepath.Join(t.TempDir(), "big.toml")
	if err := os.WriteFile(path, []byte(strings.Repeat("#", maxPolicyFile+1)), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := ReadPolicy(path); err == nil || !strings.Contains(err.Error(), "longer than") {
		t.Errorf("a file over the limit: %v", err)
	}
	if err := os.WriteFile(path, []byte(strings.Repeat("#", maxPolicyFile)), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := ReadPolicy(path); err != nil {
		t.Errorf("a file at the limit: %v", err)
	}
}

func FuzzParsePolicy(f *testing.F) {
	f.Add([]byte(wholePolicy))
	f.Add([]byte("network = { allow = ['x'] }"))
	f.Add([]byte("[[network]]\nallow = [[]]"))
	f.Fuzz(func(t *testing.T, text []byte) {
		p, err := ParsePolicy("p", text)
		if (p == nil) == (err == nil) {
			t.Fatalf("policy %v, error %v", p, err)
		}
		if err != nil {
			for line := range strings.SplitSeq(err.Error(), "\n") {
				if !strings.HasPrefix(line, "p") {
					t.Errorf("a line without the file's name: %q", line)
				}
			}
		}
	})
}

func TestHTTPTable(t *testing.T) {
	p, err := ParsePolicy("p.toml", []byte("[http]\nallow = [\n\"GET a.example\",\n\"read b.example\"]\ndeny = [\"* a.example/x\"]\ntls = \"intercept\"\ninject_ca = [\"/x\"]\nca = \"c\"\nca_key = \"k\"\nca_out = \"o\"\n"))
	if err != nil {
		t.Fatal(err)
	}
	if len(p.HTTPAllow) != 2 || p.HTTPAllow[1].Source != "p.toml:4" || p.HTTPDeny[0].Source != "p.toml:5" || p.TLS != TLSIntercept ||
		len(p.InjectCA) != 1 || p.CAFile != "c" || p.CAKeyFile != "k" || p.CAOut != "o" {
		t.Errorf("%+v", p)
	}
	for text, want := range map[string]string{
		"[http]\nallow = [\"a.example\"]":                          "p.toml:2",
		"[http]\ntls = \"on\"":                                     "none of auto, intercept and passthrough",
		"[http]\nca_out = \"o\"":                                   "--ca-out has no use",
		"[http]\nallow = [\"* a.example\"]\nca = \"c\"":            "go together",
		"[http]\nallow = [\"* a.example\"]\ntls = \"passthrough\"": "--tls passthrough forbids it",
	} {
		p, err := ParsePolicy("p.toml", []byte(text))
		if err == nil {
			_, err = p.Compile()
		}
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v", text, err)
		}
	}
}
