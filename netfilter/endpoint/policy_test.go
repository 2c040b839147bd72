package endpoint

import (
	"net/netip"
	"strings"
	"testing"
)

func rulesOf(t testing.TB, allow, deny []string) (rules []Rule) {
	t.Helper()
	for _, text := range allow {
		rules = append(rules, mustRule(t, Allow, text))
	}
	for _, text := range deny {
		rules = append(rules, mustRule(t, Deny, text))
	}
	return rules
}

func mustPolicy(t testing.TB, allow, deny []string) *Policy {
	t.Helper()
	p, err := NewPolicy(rulesOf(t, allow, deny), Options{})
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func words(s string) []string { return strings.Fields(s) }

func TestNamesAreComparedByLabel(t *testing.T) {
	for _, c := range []struct {
		allow, deny, name string
		want              bool
		reason            Reason
	}{
		{"", "", "github.com", false, NoRule},
		{"github.com", "", "github.com", true, AllowRule},
		{"github.com", "", "api.github.com", false, NoRule},
		{"github.com", "", "evil-github.com", false, NoRule},
		{"github.com", "", "github.com.evil.test", false, NoRule},
		{"github.com", "", "githubxcom", false, NoRule},
		{"*.github.com", "", "github.com", false, NoRule},
		{"*.github.com", "", "evilgithub.com", false, NoRule},
		{"*.github.com", "", "a.b.github.com", true, AllowRule},
		{"*.github.com", "", "a.github.com.evil.test", false, NoRule},
		{"*.com", "", "any.com", true, AllowRule},
		{"allowed.test", "", "аllowed.test", false, NoRule},
		{"allowed.test", "", "ａllowed.test", true, AllowRule},
		{"*", "", "any.test", true, AllowRule},
		{"udp://*:53", "", "any.test", true, AllowRule},
		{"127.0.0.1 10.0.0.0/8", "", "any.test", false, NoRule},
		{"localhost:80", "", "localhost", true, AllowRule},
		{"localhost:80", "", "a.localhost", false, NoRule},
		{"*", "bad.example", "bad.example", false, DenyRule},
		{"*", "bad.example:80", "bad.example", true, AllowRule},
		{"*", "tcp://bad.example", "bad.example", false, DenyRule},
		{"* udp://*", "tcp://bad.example", "bad.example", true, AllowRule},
		{"*.example", "bad.example:80", "bad.example", true, AllowRule},
		{"*.example", "bad.example:80,443", "bad.example", false, DenyRule},
		{"*.example", "bad.example:80 *.example:443", "bad.example", false, DenyRule},
		{"icmp://*.example", "bad.example:80", "bad.example", true, AllowRule},
		{"*", "*.example", "example", true, AllowRule},
		{"*", "10.0.0.0/8", "any.test", true, AllowRule},
		{"", "bad.example", "bad.example", false, DenyRule},
	} {
		v := mustPolicy(t, words(c.allow), words(c.deny)).Name(mustName(t, c.name))
		if v.Allowed != c.want || v.Reason != c.reason || (v.Rule == nil) != (c.reason == NoRule) {
			t.Errorf("%s, deny %s: %s: %+v", c.allow, c.deny, c.name, v)
		}
	}
	if v := mustPolicy(t, []string{"*"}, nil).Name(Name{}); v.Allowed {
		t.Error("no name is allowed")
	}
}

func TestConnect(t *testing.T) {
	for _, c := range []struct {
		allow, deny string
		proto       Protocol
		to, bound   string
		want        string // reason, and what is inspected for
	}{
		{"", "", TCP, "192.0.2.1:80", "", "no rule allows it"},
		{"192.0.2.1:80", "", TCP, "192.0.2.1:80", "", "direct"},
		{"192.0.2.1:80", "", TCP, "192.0.2.1:81", "", "no rule allows it on this port"},
		{"192.0.2.1:80", "", UDP, "192.0.2.1:80", "", "no rule allows it with this protocol"},
		{"192.0.2.1", "", TCP, "[::ffff:192.0.2.1]:80", "", "direct"},
		{"::ffff:192.0.2.1", "", TCP, "192.0.2.1:80", "", "direct"},
		{"192.0.2.1", "", TCP, "[64:ff9b::c000:201]:80", "", "no rule allows it"},
		{"192.0.2.0/24", "", TCP, "192.0.2.9:7", "", "direct"},
		{"192.0.2.0/24", "192.0.2.9", TCP, "192.0.2.9:7", "", "a deny rule covers it"},
		{"192.0.2.0/24", "192.0.2.9:8", TCP, "192.0.2.9:7", "", "direct"},
		{"0.0.0.0/0", "", TCP, "[2001:db8::1]:7", "", "no rule allows it"},
		{"::/0", "", TCP, "192.0.2.1:7", "", "no rule allows it"},
		{"fe80::/10", "", TCP, "[fe80::1%lo]:7", "", "direct"},
		{"*", "fe80::1", TCP, "[fe80::1%lo]:7", "", "a deny rule covers it"},
		{"*", "", TCP, "[2001:db8::1]:7", "", "direct"},
		{"*", "", UDP, "192.0.2.1:7", "", "no rule allows it with this protocol"},
		{"*:443", "", TCP, "192.0.2.1:443", "ok.test", "direct"},
		{"icmp://*", "192.0.2.1:80", ICMP, "192.0.2.1:0", "", "direct"},
		{"icmp://*", "192.0.2.1", ICMP, "192.0.2.1:0", "", "a deny rule covers it"},
		{"icmp://192.0.2.1", "", TCP, "192.0.2.1:0", "", "no rule allows it with this protocol"},
		// Loopback, and the ways to write it.
		{"localhost:5432", "", TCP, "127.0.0.1:5432", "", "direct"},
		{"localhost:5432", "", TCP, "[::1]:5432", "", "direct"},
		{"localhost:5432", "", TCP, "0.0.0.0:5432", "", "direct"},
		{"localhost:5432", "", TCP, "[::]:5432", "", "direct"},
		{"localhost:5432", "", TCP, "127.0.0.1:5433", "", "no rule allows it on this port"},
		{"[::1]:5432", "", TCP, "[::]:5432", "", "no rule allows it"},
		{"127.0.0.1:5432", "", TCP, "0.0.0.0:5432", "", "direct"},
		{"0.0.0.0/8", "", TCP, "0.0.0.0:5432", "", "no rule allows it"},
		{"*", "127.0.0.0/8", TCP, "0.0.0.0:80", "", "a deny rule covers it"},
		{"*", "127.0.0.1", TCP, "[::]:80", "", "a deny rule covers it"},
		{"*", "::1", TCP, "[::]:80", "", "a deny rule covers it"},
		{"*", "localhost", TCP, "[::ffff:0.0.0.0]:80", "", "a deny rule covers it"},
		{"*", "localhost", TCP, "[::ffff:7f00:1]:80", "", "a deny rule covers it"},
		// Denied addresses in other clothes.
		{"*", "169.254.169.254", TCP, "[::ffff:169.254.169.254]:80", "", "a deny rule covers it"},
		{"*", "169.254.169.254", TCP, "[64:ff9b::a9fe:a9fe]:80", "", "a deny rule covers it"},
		{"*", "169.254.169.254", TCP, "[64:ff9b:1::a9fe:a9fe]:80", "", "a deny rule covers it"},
		{"*", "169.254.169.254", TCP, "[2002:a9fe:a9fe::1]:80", "", "a deny rule covers it"},
		{"*", "169.254.169.254", TCP, "[2001:0:808:808::5601:5601]:80", "", "a deny rule covers it"},
		{"::/0", "10.0.0.0/8", UDP, "[64:ff9b::a00:1]:80", "", "a deny rule covers it"},
		// By name.
		{"ok.test", "", TCP, "192.0.2.1:443", "ok.test", "ok.test"},
		{"ok.test", "", TCP, "192.0.2.1:443", "", "no rule allows it"},
		{"ok.test", "", TCP, "192.0.2.1:443", "no.test", "no rule allows it"},
		{"ok.test", "", TCP, "192.0.2.1:22", "ok.test", "no rule allows it on this port"},
		{"ok.test:22", "", TCP, "192.0.2.1:22", "ok.test", "direct"},
		{"udp://ok.test", "", UDP, "192.0.2.1:443", "ok.test", "direct"},
		{"icmp://ok.test", "", ICMP, "192.0.2.1:0", "ok.test", "direct"},
		{"*.test", "", TCP, "192.0.2.1:80", "b.test a.test x.org", "b.test a.test"},
		{"raw://ok.test:443", "", TCP, "192.0.2.1:443", "ok.test", "direct"},
		{"ok.test raw://b.test", "", TCP, "192.0.2.1:443", "ok.test b.test", "direct"},
		{"ok.test 192.0.2.1:443", "", TCP, "192.0.2.1:443", "ok.test", "direct"},
		{"ok.test 192.0.2.1:22", "", TCP, "192.0.2.1:443", "ok.test", "ok.test"},
		{"localhost:80", "", TCP, "192.0.2.1:80", "localhost", "no rule allows it"},
		{"*.test", "ok.test:443", TCP, "192.0.2.1:443", "ok.test", "a deny rule covers it"},
		{"*.test", "ok.test:443", TCP, "192.0.2.1:80", "ok.test", "ok.test"},
		{"*.test", "ok.test:443", TCP, "192.0.2.1:443", "other.test ok.test", "a deny rule covers it"},
		{"*", "ok.test:443", TCP, "192.0.2.1:443", "ok.test", "a deny rule covers it"},
		{"192.0.2.1", "*.test", TCP, "192.0.2.1:443", "ok.test", "a deny rule covers it"},
		{"raw://ok.test", "192.0.2.0/24:443", TCP, "192.0.2.1:443", "ok.test", "a deny rule covers it"},
		{"*", "udp://ok.test", TCP, "192.0.2.1:443", "ok.test", "direct"},
		{"*", "", AnyProtocol, "192.0.2.1:443", "", "no rule allows it"},
	} {
		var bound []Name
		for _, n := range words(c.bound) {
			bound = append(bound, mustName(t, n))
		}
		v := mustPolicy(t, words(c.allow), words(c.deny)).Connect(c.proto, netip.MustParseAddrPort(c.to), bound)
		got := v.Reason.String()
		if v.Allowed && !v.Inspect {
			got = "direct"
		} else if v.Inspect {
			var names []string
			for _, n := range v.Names {
				names = append(names, n.String())
			}
			got = strings.Join(names, " ")
		}
		if got != c.want || v.Allowed != (v.Reason == AllowRule) || v.Allowed && v.Rule == nil || v.Inspect && !v.Allowed {
			t.Errorf("%s, deny %s: %v %s (%s): %q, want %q: %+v", c.allow, c.deny, c.proto, c.to, c.bound, got, c.want, v)
		}
	}
	if v := mustPolicy(t, []string{"*"}, nil).Connect(TCP, netip.AddrPort{}, nil); v.Allowed {
		t.Error("no address is allowed")
	}
}

func TestInspectPorts(t *testing.T) {
	rules := rulesOf(t, words("ok.test:*"), nil)
	for _, c := range []struct {
		ports   []uint16
		inspect string
	}{{nil, "80,443"}, {[]uint16{8443}, "8443"}, {[]uint16{}, ""}} {
		p, err := NewPolicy(rules, Options{InspectPorts: c.ports})
		if err != nil {
			t.Fatal(err)
		}
		want := PortSet{}
		if c.inspect != "" {
			want, _ = ParsePorts(c.inspect)
		}
		for _, port := range []uint16{80, 443, 8443, 22} {
			v := p.Connect(TCP, netip.AddrPortFrom(netip.MustParseAddr("192.0.2.1"), port), []Name{mustName(t, "ok.test")})
			if !v.Allowed || v.Inspect != want.Has(port) {
				t.Errorf("%v: port %d: %+v", c.ports, port, v)
			}
		}
	}
}

func TestAnswer(t *testing.T) {
	for _, c := range []struct {
		allow, deny, name, addr string
		private, hosts          bool
		want                    Reason
	}{
		{"ok.test", "", "ok.test", "203.0.113.5", false, false, PublicAddress},
		{"ok.test", "", "ok.test", "127.0.0.1", false, false, SpecialUse},
		{"ok.test", "", "ok.test", "169.254.169.254", false, false, SpecialUse},
		{"ok.test", "", "ok.test", "::ffff:169.254.169.254", false, false, SpecialUse},
		{"ok.test", "", "ok.test", "64:ff9b::a9fe:a9fe", false, false, SpecialUse},
		{"ok.test", "", "ok.test", "fd00:ec2::254", false, false, SpecialUse},
		{"ok.test", "", "ok.test", "100.100.100.200", false, false, SpecialUse},
		{"ok.test", "", "ok.test", "::", false, false, SpecialUse},
		{"*", "", "ok.test", "10.0.0.5", false, false, SpecialUse},
		{"* 0.0.0.0/0", "", "ok.test", "10.0.0.5", false, false, SpecialUse},
		{"ok.test ::/0", "", "ok.test", "::1", false, false, SpecialUse},
		{"ok.test 192.0.0.0/2", "", "ok.test", "192.168.0.1", false, false, SpecialUse},
		{"ok.test", "", "ok.test", "10.0.0.5", true, false, PrivateAllowed},
		{"ok.test", "", "ok.test", "10.0.0.5", false, true, HostsFile},
		{"ok.test 10.0.0.5", "", "ok.test", "10.0.0.5", false, false, AllowRule},
		{"ok.test 10.0.0.0/8", "", "ok.test", "::ffff:10.0.0.5", false, false, AllowRule},
		{"ok.test 10.0.0.0/16", "", "ok.test", "10.9.0.5", false, false, SpecialUse},
		{"ok.test:5432 10.0.0.5:5432", "", "ok.test", "10.0.0.5", false, false, AllowRule},
		// The name may not open ports that the address was not given.
		{"ok.test 10.0.0.5:5432", "", "ok.test", "10.0.0.5", false, false, SpecialUse},
		{"ok.test udp://10.0.0.5", "", "ok.test", "10.0.0.5", false, false, SpecialUse},
		{"ok.test localhost:5432", "", "ok.test", "127.0.0.1", false, false, SpecialUse},
		{"ok.test localhost", "", "ok.test", "127.0.0.1", false, false, AllowRule},
		{"localhost:5432", "", "localhost", "127.0.0.1", false, false, AllowRule},
		{"*.localhost:80", "", "a.localhost", "::1", false, false, AllowRule},
		{"*.localhost:80", "", "a.localhost", "10.0.0.5", false, false, SpecialUse},
		{"*", "10.0.0.0/9", "ok.test", "10.128.0.1", true, false, PrivateAllowed},
		{"*", "10.0.0.0/8", "ok.test", "10.128.0.1", true, true, DenyRule},
		{"*", "203.0.113.5", "ok.test", "::ffff:203.0.113.5", false, false, DenyRule},
		{"*", "203.0.113.5", "ok.test", "64:ff9b::cb00:7105", false, false, DenyRule},
		{"*", "203.0.113.5:80", "ok.test", "203.0.113.5", false, false, PublicAddress},
	} {
		rules := rulesOf(t, words(c.allow), words(c.deny))
		p, err := NewPolicy(rules, Options{AllowPrivate: c.private})
		if err != nil {
			t.Fatal(err)
		}
		v := p.Answer(mustName(t, c.name), netip.MustParseAddr(c.addr), c.hosts)
		allowed := c.want != SpecialUse && c.want != DenyRule
		if v.Reason != c.want || v.Allowed != allowed || (v.AllowWith == "--allow-private") != (c.want == SpecialUse) {
			t.Errorf("%+v: %+v", c, v)
		}
	}
	if v := mustPolicy(t, []string{"*"}, nil).Answer(mustName(t, "a.test"), netip.Addr{}, true); v.Allowed {
		t.Error("no address is an answer")
	}
}

func TestRulesThatCanNeverMatch(t *testing.T) {
	for _, c := range []struct {
		allow, deny string
		ok          bool
	}{
		{"a.test:443", "a.test", false}, {"a.test", "*.test", false}, {"*.a.test", "*.test", false}, {"a.test", "*", false}, {"*", "*", false},
		{"a.test", "a.test:80 *.test:443", false}, {"a.test:1-9", "a.test:1-5,6-9", false}, {"10.0.0.5:80", "10.0.0.0/8", false},
		{"10.1.0.0/16", "10.0.0.0/8:*", false}, {"localhost:1", "localhost", false}, {"127.0.0.0/8", "localhost", false}, {"::1", "localhost", false},
		{"udp://a.test", "udp://a.test", false}, {"icmp://a.test", "a.test", false}, {"64:ff9b::a00:1", "10.0.0.0/8", false}, {"raw://a.test", "tcp://a.test", false},
		{"a.test", "a.test:80", true}, {"a.test", "udp://a.test", true}, {"*.test", "a.test", true}, {"*.test", "*.a.test", true}, {"test", "*.test", true},
		{"10.0.0.0/8", "10.0.0.0/9", true}, {"10.0.0.5", "a.test", true}, {"a.test", "10.0.0.0/8", true}, {"localhost:1", "127.0.0.0/8", true},
		{"icmp://a.test", "a.test:80", true}, {"*", "a.test", true}, {"::/0", "0.0.0.0/0", true},
	} {
		_, err := NewPolicy(rulesOf(t, words(c.allow), words(c.deny)), Options{})
		if (err == nil) != c.ok {
			t.Errorf("%s, deny %s: %v", c.allow, c.deny, err)
		}
		if err != nil && !(strings.Contains(err.Error(), "--allow \""+c.allow) && strings.Contains(err.Error(), "--deny \"") && strings.Contains(err.Error(), "remove")) {
			t.Errorf("%v", err)
		}
	}
}

func TestRulesMadeByHand(t *testing.T) {
	good := mustRule(t, Deny, "a.test")
	for name, spoil := range map[string]func(*Rule){
		"action": func(r *Rule) { r.Action = 0 }, "kind": func(r *Rule) { r.Kind = 0 }, "name": func(r *Rule) { r.Name = Name{} },
		"ports": func(r *Rule) { r.Ports = PortSet{} }, "prefix": func(r *Rule) { r.Kind = KindPrefix }, "raw": func(r *Rule) { r.Raw = true },
		"allow any": func(r *Rule) { r.Action = Allow }, "protocol": func(r *Rule) { r.Protocol = 9 }, "icmp": func(r *Rule) { r.Protocol, r.Ports = ICMP, Ports(1) },
		"mapped": func(r *Rule) {
			r.Kind, r.Name, r.Prefix = KindPrefix, Name{}, netip.MustParsePrefix("::ffff:10.0.0.0/104")
		},
		"masked": func(r *Rule) { r.Kind, r.Name, r.Prefix = KindPrefix, Name{}, netip.MustParsePrefix("10.0.0.1/8") },
	} {
		r := good
		spoil(&r)
		if _, err := NewPolicy([]Rule{r}, Options{}); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	if _, err := NewPolicy([]Rule{good}, Options{}); err != nil {
		t.Error(err)
	}
}

func TestWarnings(t *testing.T) {
	for _, c := range []struct{ allow, deny, want string }{
		{"*.com", "", "*.example.com"}, {"", "a.test", "nothing is allowed"}, {"*.example.com", "", ""}, {"*.localhost", "", ""}, {"", "", ""}, {"*", "*.com", ""},
		{"::1:80", "", "[::1]:80"}, {"[::1]:80", "", ""}, {"::1", "", ""}, {"2001:db8::1", "", ""}, {"2001:db8:0:0:0:0:0:80", "", ""}, {"udp://fd00::5:53", "", "[fd00::5]:53"},
	} {
		w := mustPolicy(t, words(c.allow), words(c.deny)).Warnings()
		if len(w) > 1 || !strings.Contains(strings.Join(w, "\n"), c.want) || (len(w) == 0) != (c.want == "") {
			t.Errorf("%s, deny %s: %q", c.allow, c.deny, w)
		}
	}
}

func TestHasDatagramRules(t *testing.T) {
	for _, c := range []struct {
		allow, deny string
		want        bool
	}{{"a.test", "udp://a.test", false}, {"udp://a.test", "", true}, {"icmp://*", "", true}, {"*", "", false}} {
		if got := mustPolicy(t, words(c.allow), words(c.deny)).HasDatagramRules(); got != c.want {
			t.Errorf("%s: %v", c.allow, got)
		}
	}
}

// With another proxy on the way, a public address is reached by a name that the first
// message says, or not at all.
func TestChained(t *testing.T) {
	rules := rulesOf(t, words("a.test a.test:22,8443 raw://raw.test:443 8.8.8.8 udp://a.test:443 10.0.0.0/8 localhost b.test:9000 *:7000,443"), words("bad.test"))
	p, err := NewPolicy(rules, Options{Chained: func(port uint16) bool { return port == 8443 }})
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		proto   Protocol
		to      string
		bound   string
		reason  Reason
		inspect bool
	}{
		{TCP, "1.1.1.1:443", "a.test", AllowRule, true},
		{TCP, "1.1.1.1:8443", "a.test", AllowRule, true},
		{TCP, "1.1.1.1:22", "a.test", Unchained, false},
		{TCP, "1.1.1.1:443", "other.test", AllowRule, true}, // *
		{TCP, "1.1.1.1:443", "other.test bad.test", DenyRule, false},
		{TCP, "1.1.1.1:443", "", Unchained, false},
		{TCP, "1.1.1.1:7000", "a.test", Unchained, false},
		{TCP, "8.8.8.8:80", "", Unchained, false},
		{TCP, "1.1.1.1:1", "a.test", OtherPort, false},
		{TCP, "[64:ff9b::1.1.1.1]:443", "a.test", AllowRule, true},
		{UDP, "1.1.1.1:443", "a.test", Unchained, false},
		{TCP, "10.0.0.1:7", "", AllowRule, false},
		{TCP, "10.0.0.1:9000", "b.test", AllowRule, false},
		{TCP, "127.0.0.1:7", "", AllowRule, false},
		{TCP, "[::]:443", "", AllowRule, false},
	} {
		var bound []Name
		for _, n := range words(c.bound) {
			bound = append(bound, mustName(t, n))
		}
		v := p.Connect(c.proto, netip.MustParseAddrPort(c.to), bound)
		if v.Reason != c.reason || v.Allowed != (c.reason == AllowRule) || v.Inspect != c.inspect || v.Inspect && len(v.Names) == 0 {
			t.Errorf("%v %s %q: %+v", c.proto, c.to, c.bound, v)
		}
	}
	p, err = NewPolicy(rulesOf(t, words("raw://raw.test:443"), nil), Options{Chained: func(uint16) bool { return true }})
	if err != nil {
		t.Fatal(err)
	}
	if v := p.Connect(TCP, netip.MustParseAddrPort("1.1.1.1:443"), []Name{mustName(t, "raw.test")}); v.Allowed || v.Reason != Unchained {
		t.Errorf("raw: %+v", v)
	}
}
