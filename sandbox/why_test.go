package sandbox

import (
	"strings"
	"testing"

	"github.com/sandlock/sandlock/netfilter/resolver"
)

func TestWhyHostsFile(t *testing.T) {
	const hosts = "10.0.0.5 db.example DB2.example # 10.0.0.6 db.example\nbad db.example\n2001:db8::5 db.example\n"
	c, err := (&Policy{Allow: rule("db.example:5432"), Deny: rule("2001:db8::/32")}).Compile()
	if err != nil {
		t.Fatal(err)
	}
	_, _, _, names := resolver.ReadHost(nil, []byte(hosts))
	got, err := c.why("db.example:5432", names)
	if err != nil {
		t.Fatal(err)
	}
	if len(got) != 2 || !got[0].Verdict.Allowed || got[1].Verdict.Allowed {
		t.Fatalf("%+v", got)
	}
	if !strings.Contains(got[0].Endpoint, "10.0.0.5") || got[1].Verdict.Rule == nil || got[1].Verdict.Rule.Text != "2001:db8::/32" {
		t.Errorf("%+v", got)
	}
}

// An allow rule for the range that stands in for an unknown answer must not
// speak for a name.
func TestWhyUnknownAddress(t *testing.T) {
	c, err := (&Policy{Allow: append(rule("192.0.2.0/24"), rule("a.example")...)}).Compile()
	if err != nil {
		t.Fatal(err)
	}
	for place, want := range map[string]bool{"a.example:443": true, "a.example:22": false} {
		got, err := c.why(place, nil)
		if err != nil || len(got) != 1 || got[0].Verdict.Allowed != want {
			t.Errorf("%s: %+v, %v", place, got, err)
		}
	}
	got, _ := c.why("a.example:443", nil)
	if !got[0].Verdict.Inspect || !strings.Contains(strings.Join(got[0].Notes, " "), "Rules for addresses") {
		t.Errorf("%+v", got)
	}
}

func FuzzWhy(f *testing.F) {
	for _, s := range []string{"a.example:443", "[::1]:80", "udp://192.0.2.1:53", "icmp://a.example", "localhost", "::", "[", "tcp://:", "x:y:z"} {
		f.Add(s)
	}
	c, err := (&Policy{}).Compile()
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, text string) {
		answers, err := c.why(text, nil)
		if err == nil && len(answers) == 0 {
			t.Fatal("neither an answer nor an error")
		}
		for _, a := range answers {
			if a.Verdict.Allowed {
				t.Errorf("an empty policy allows %q", text)
			}
		}
	})
}
