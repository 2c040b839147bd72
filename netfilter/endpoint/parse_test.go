package endpoint

import (
	"reflect"
	"strings"
	"testing"
)

func mustRule(t testing.TB, a Action, text string) Rule {
	t.Helper()
	r, err := ParseRule(a, text, "--"+a.String())
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func TestParseRule(t *testing.T) {
	for _, c := range []struct{ text, allow, deny string }{
		{"a.test", "tcp://a.test", "a.test"},
		{"a.test:443", "tcp://a.test:443", "a.test:443"},
		{"A.Test.:443,80", "tcp://a.test", "a.test:80,443"},
		{"a.test:*", "tcp://a.test:*", "a.test"},
		{"a.test:80, 443", "tcp://a.test", "a.test:80,443"},
		{"tcp://a.test:1-9", "tcp://a.test:1-9", "tcp://a.test:1-9"},
		{"raw://a.test:443", "raw://a.test:443", ""},
		{"udp://*.a.test:53", "udp://*.a.test:53", "udp://*.a.test:53"},
		{"icmp://a.test", "icmp://a.test", "icmp://a.test"},
		{"icmp://[::1]", "icmp://::1", "icmp://::1"},
		{"icmp://*", "icmp://*", "icmp://*"},
		{"*", "tcp://*", "*"},
		{"*:443", "tcp://*:443", "*:443"},
		{"localhost:5432", "tcp://localhost:5432", "localhost:5432"},
		{"LOCALHOST.", "tcp://localhost", "localhost"},
		{"192.0.2.1", "tcp://192.0.2.1", "192.0.2.1"},
		{"192.0.2.1:80", "tcp://192.0.2.1:80", "192.0.2.1:80"},
		{"192.0.2.9/24:80", "tcp://192.0.2.0/24:80", "192.0.2.0/24:80"},
		{"::1", "tcp://::1", "::1"},
		{"fc00::/7", "tcp://fc00::/7", "fc00::/7"},
		{"[fc00::/7]:80", "tcp://[fc00::/7]:80", "[fc00::/7]:80"},
		{"[2001:DB8::1]:443", "tcp://[2001:db8::1]:443", "[2001:db8::1]:443"},
		{"[::ffff:127.0.0.1]:80", "tcp://127.0.0.1:80", "127.0.0.1:80"},
		{"[::ffff:7f00:1]", "tcp://127.0.0.1", "127.0.0.1"},
		{"::ffff:10.0.0.0/104", "tcp://10.0.0.0/8", "10.0.0.0/8"},
		{"0.0.0.0/0", "tcp://0.0.0.0/0", "0.0.0.0/0"},
		{"::/0", "tcp://::/0", "::/0"},
		{"ａllowed。test:22", "tcp://allowed.test:22", "allowed.test:22"},
	} {
		for action, want := range map[Action]string{Allow: c.allow, Deny: c.deny} {
			r, err := ParseRule(action, c.text, "--x")
			if want == "" {
				if err == nil {
					t.Errorf("%v %q became %v", action, c.text, r)
				}
				continue
			}
			if err != nil || r.String() != want || r.Text != c.text || r.Source != "--x" {
				t.Errorf("%v %q: %q, %v; want %q", action, c.text, r, err, want)
			}
		}
	}
}

func TestRulesThatAreRefused(t *testing.T) {
	for text, remedy := range map[string]string{
		"": "empty", " ": "empty", "tcp://": "empty", "icmp://": "empty",
		"ftp://a.test:1": "use tcp, raw, udp or icmp", "TCP://a.test": "use tcp", "://a.test": "scheme",
		"https://a.test/x?y": "write a.test:443", "http://A.test": "write a.test:80", "https://u@b/": "write NAME:443",
		"a.test/path": "--http-allow", "a.test:443/path": "--http-allow", "//a.test": "--http-allow", "a.test/": "--http-allow",
		"u@a.test:1": "follows the @", "u:p@a.test": "follows the @", "http://a.test@b.test/": "NAME:80",
		"a.test:0": "1 to 65535", "a.test:x": "1 to 65535", "a.test:": "1 to 65535", "a.test:70000": "1 to 65535", "a.test:9-8": "write 8-9",
		"a.test:80,": "1 to 65535", "a.test:007": "1 to 65535", "a.test:-12": "1 to 65535", "a.test:80,*": "mixes", ":443": "*:PORT",
		"g*.com:1": "first label", "*.*:1": "first label", "a.*.b:1": "first label", "*com:1": "first label", "**": "first label", "*.a.*": "first label",
		"*.": "empty", "*..a": "empty", ".github.com": "empty",
		"[[::1]]:1": "brackets", "[a.test]:1337": "brackets", "[[a.test]]:1": "brackets", "[1.2.3.4]:5": "brackets", "[::1": "brackets", "[]:1": "brackets",
		"[::1]443": "colon", "2001:db8::1::443": "brackets", "fc00::/7:443": "brackets", "a:b:c": "brackets",
		"1.2.3.4/33": "range", "1.2.3.4/": "range", "::1/129": "range", "1.2.3.4/255.0.0.0": "range", "fe80::1%eth0": "%", "[fe80::1%lo]:1": "%",
		"raw://1.2.3.4:5": "leave it out", "raw://*": "leave it out", "raw://localhost:1": "leave it out", "raw://10.0.0.0/8": "leave it out",
		"icmp://1.2.3.4:5": "no ports", "icmp://a.test:7": "no ports", "icmp://*:1": "no ports",
		"2130706433:80": "192.0.2.1", "0x7f.1": "192.0.2.1", "127.1:80": "192.0.2.1", "0177.0.0.1": "192.0.2.1", "*.1": "192.0.2.1",
		"0.0.0.0:80": "write localhost", "[::]:80": "write localhost", "::ffff:0.0.0.0": "write localhost", "0.0.0.0/32": "write localhost",
		"a b:1": "characters", "a.test :1": "characters", "a.test\x00:1": "characters", "a%2e.test": "characters", "a.test\\@b:1": "@",
	} {
		r, err := ParseRule(Allow, text, "policy.toml:12")
		if err == nil {
			t.Errorf("%q became %v", text, r)
			continue
		}
		if msg := err.Error(); !strings.Contains(msg, remedy) || !strings.HasPrefix(msg, "policy.toml:12 \"") || strings.ContainsAny(msg, "\n\x00") {
			t.Errorf("%q: %v; want %q in it", text, err, remedy)
		}
	}
	if _, err := ParseRule(Deny, "raw://a.test", ""); err == nil || !strings.Contains(err.Error(), "tcp://") || !strings.HasPrefix(err.Error(), "deny rule") {
		t.Error(err)
	}
	if _, err := ParseRule(0, "a.test", ""); err == nil {
		t.Error("a rule without an action")
	}
}

func FuzzParseRule(f *testing.F) {
	for _, s := range []string{"a.test:443", "raw://*.ü.test", "udp://[fc00::/7]:1-9,20", "icmp://::1", "*", "localhost:1", "::ffff:0:0/96", "https://a/", "::ffff:1.2.3.4/1:2", "10.0.0.0/8:*"} {
		f.Add(s, true)
		f.Add(s, false)
	}
	f.Fuzz(func(t *testing.T, s string, deny bool) {
		a := Allow
		if deny {
			a = Deny
		}
		r, err := ParseRule(a, s, "f")
		if err != nil {
			return
		}
		again, err := ParseRule(a, r.String(), "f")
		if err != nil {
			t.Fatalf("%q became %q: %v", s, r, err)
		}
		again.Text = r.Text
		if !reflect.DeepEqual(r, again) || again.String() != r.String() {
			t.Fatalf("%q became %+v, then %+v", s, r, again)
		}
		for _, c := range []byte(r.String()) {
			if c <= ' ' || c >= 0x7f {
				t.Fatalf("%q became %q", s, r)
			}
		}
		if _, err := NewPolicy([]Rule{r}, Options{}); err != nil {
			t.Fatalf("%q: %v", s, err)
		}
	})
}

func TestEndpointString(t *testing.T) {
	v4, v6 := mustRule(t, Allow, "203.0.113.5").Prefix.Addr(), mustRule(t, Allow, "2001:db8::1").Prefix.Addr()
	for _, c := range []struct {
		e    Endpoint
		want string
	}{
		{Endpoint{TCP, mustName(t, "api.example.com"), v4, 443}, "tcp api.example.com:443 (203.0.113.5)"},
		{Endpoint{Protocol: UDP, Addr: v6, Port: 53}, "udp [2001:db8::1]:53"},
		{Endpoint{Protocol: ICMP, Addr: v6}, "icmp 2001:db8::1"},
		{Endpoint{Protocol: TCP, Port: 1}, "tcp ?:1"},
	} {
		if got := c.e.String(); got != c.want {
			t.Errorf("%q, want %q", got, c.want)
		}
	}
}
