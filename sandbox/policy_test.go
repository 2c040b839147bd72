package sandbox

import (
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

func rule(text string) []RuleText { return []RuleText{{text, "test"}} }

func TestEmptyPolicyDenies(t *testing.T) {
	c, err := (&Policy{}).Compile()
	if err != nil {
		t.Fatal(err)
	}
	for _, place := range []string{"example.com:443", "192.0.2.1:22", "localhost:80"} {
		answers, err := c.why(place, nil)
		if err != nil {
			t.Fatal(err)
		}
		for _, a := range answers {
			if a.Verdict.Allowed {
				t.Errorf("%s is allowed by an empty policy", a.Endpoint)
			}
		}
	}
}

func TestCompileJoinsEveryError(t *testing.T) {
	_, err := (&Policy{
		Allow: []RuleText{{"", "a:1"}, {"good.example", "a:2"}}, Deny: rule("x y"), AllowBind: rule("0"), DenyBind: rule("9-1"),
		AllowUnix: []string{"relative", "@abstract", ""}, Env: []string{"=x", "A\x00=1"}, Name: "-x",
		Dir: "/does/not/exist", Timeout: -time.Second, PassFDs: []int{2, 1 << 20},
	}).Compile()
	if err == nil {
		t.Fatal("accepted")
	}
	got := strings.Split(err.Error(), "\n")
	if want := 14; len(got) != want {
		t.Errorf("%d lines, want %d:\n%s", len(got), want, err)
	}
	if slices.ContainsFunc(got, func(l string) bool { return !strings.Contains(l, ":") }) {
		t.Errorf("a line names no input:\n%s", err)
	}
}

func TestNames(t *testing.T) {
	for name, ok := range map[string]bool{"": true, "a": true, "Job-1.x_y": true, strings.Repeat("a", maxNameLen): true,
		strings.Repeat("a", maxNameLen+1): false, ".": false, "..": false, "a/b": false, "a\n": false, "ä": false} {
		if _, err := (&Policy{Name: name}).Compile(); (err == nil) != ok {
			t.Errorf("name %q: %v", name, err)
		}
	}
}

func TestEnvironment(t *testing.T) {
	base := []string{"PATH=/bin", "SECRET=1", "LC_ALL=C", "LCX=1", "TERM=x"}
	for _, tc := range []struct {
		clean bool
		add   []string
		want  []string
	}{
		{false, nil, base},
		{true, nil, []string{"PATH=/bin", "LC_ALL=C", "TERM=x"}},
		{true, []string{"TERM=y", "NEW=a=b", "NEW=2"}, []string{"PATH=/bin", "LC_ALL=C", "TERM=y", "NEW=2"}},
		{false, []string{"SECRET="}, []string{"PATH=/bin", "SECRET=", "LC_ALL=C", "LCX=1", "TERM=x"}},
	} {
		if got := environment(base, tc.add, tc.clean); !slices.Equal(got, tc.want) {
			t.Errorf("clean %v, %q: %q, want %q", tc.clean, tc.add, got, tc.want)
		}
	}
}

func TestBinds(t *testing.T) {
	c, err := (&Policy{AllowBind: append(rule("80"), rule("8000-8010,9000")...), DenyBind: rule("8005")}).Compile()
	if err != nil {
		t.Fatal(err)
	}
	for port, want := range map[uint16]bool{80: true, 8000: true, 9000: true, 81: false, 8005: false} {
		if got := c.Binds.Listen(port).Allowed; got != want {
			t.Errorf("port %d: %v, want %v", port, got, want)
		}
	}
	c, err = (&Policy{AllowBind: append(rule("80"), rule("*")...)}).Compile()
	if err != nil || !c.Binds.Listen(12345).Allowed {
		t.Errorf("80 and *: %v", err)
	}
}

func TestUnixPathsFollowLinks(t *testing.T) {
	dir, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(dir+"/run", 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("run", dir+"/var"); err != nil {
		t.Fatal(err)
	}
	c, err := (&Policy{AllowUnix: []string{dir + "/var/./x.sock", dir + "/run/y.sock"}}).Compile()
	if err != nil {
		t.Fatal(err)
	}
	want := []string{dir + "/var/x.sock", dir + "/run/x.sock", dir + "/run/y.sock"}
	if !slices.Equal(c.Unix, want) {
		t.Errorf("%q, want %q", c.Unix, want)
	}
}

func TestPassFDs(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	fd := int(r.Fd())
	if _, err := (&Policy{PassFDs: []int{fd}}).Compile(); err != nil {
		t.Error(err)
	}
	r.Close()
	if _, err := (&Policy{PassFDs: []int{fd}}).Compile(); err == nil || !strings.Contains(err.Error(), strconv.Itoa(fd)+" is not open") {
		t.Errorf("a closed descriptor: %v", err)
	}
}

func TestParseDNSServer(t *testing.T) {
	for text, want := range map[string]string{
		"192.0.2.53": "192.0.2.53:53", "192.0.2.53:5353": "192.0.2.53:5353", "2001:db8::53": "[2001:db8::53]:53",
		"[2001:db8::53]": "[2001:db8::53]:53", "[2001:db8::53]:5353": "[2001:db8::53]:5353",
		"": "", "dns.example": "", "192.0.2.53:0": "", "192.0.2.53:99999": "", "192.0.2": "",
	} {
		got, err := ParseDNSServer(text)
		if (err != nil) != (want == "") || err == nil && got.String() != want {
			t.Errorf("%q: %v, %v", text, got, err)
		}
	}
}
