package resolver

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/miekg/dns"
	"github.com/sandlock/sandlock/netfilter/endpoint"
)

func TestAllowedNameIsResolvedAndBound(t *testing.T) {
	up := newAuthority(t, "a.test. 100 IN A 203.0.113.5", "a.test. 90 IN A 203.0.113.6", "a.test. 100 IN AAAA 2001:4860::1")
	l := newLab(t, up, nil, "a.test:443")
	l.wantNames(t, "203.0.113.5")
	wantText(t, l.ask(t, "a.test", dns.TypeA), "NOERROR; a.test. 90 A 203.0.113.5; a.test. 90 A 203.0.113.6")
	wantText(t, l.ask(t, "a.test", dns.TypeAAAA), "NOERROR; a.test. 100 AAAA 2001:4860::1")
	up.wantQueries(t, "udp a.test. A", "udp a.test. AAAA")
	l.wantNames(t, "203.0.113.5", "a.test")
	l.wantNames(t, "::ffff:203.0.113.6", "a.test")
	l.wantNames(t, "2001:4860::1", "a.test")
	l.wantNames(t, "203.0.113.7")
	l.wantReports(t, "a.test A allowed", "a.test AAAA allowed")
}

func TestOtherNamesDoNotExistAndNothingLeaves(t *testing.T) {
	up := newAuthority(t, "a.test. 100 IN A 203.0.113.5", "evil.test. 100 IN A 203.0.113.9", "no.w.test. 1 IN A 203.0.113.9")
	l := newLab(t, up, nil, "a.test:443", "*.w.test:443", "!no.w.test")
	wantText(t, l.ask(t, "a.test", dns.TypeA), "NOERROR; a.test. 100 A 203.0.113.5")
	up.queries()
	l.wantReports(t, "a.test A allowed")
	for _, c := range []struct{ name, report string }{
		{"evil.test", "evil.test: no rule allows it"},
		{"no.w.test", "no.w.test: a deny rule covers it"},
		{"secret.a.test", "secret.a.test: no rule allows it"},
		{"a.test.corp.example", "a.test.corp.example: no rule allows it"},
		{"w.test", "w.test: no rule allows it"},
		{`evil.test\000.a.test`, `evil.test\000.a.test: no rule allows it`},
		{`x\.w.test`, `x\.w.test: no rule allows it`},
		{`x\ .w.test`, `x\ .w.test: no rule allows it`},
		{`\195\164.w.test`, `\195\164.w.test: no rule allows it`},
		{`\027[31m.w.test`, `\027[31m.w.test: no rule allows it`},
		{"1.2.3.4", "1.2.3.4: no rule allows it"},
		{".", ".: no rule allows it"},
	} {
		for _, qtype := range []uint16{dns.TypeA, dns.TypeTXT, dns.TypeHTTPS} {
			m := l.ask(t, c.name, qtype)
			// The library cannot read a name with a dot in a label: that answer is made by hand, without EDNS.
			explained := extended(m) == dns.ExtendedErrorCodeBlocked || strings.Contains(c.name, `\.`)
			if m.Rcode != dns.RcodeNameError || !explained || len(m.Answer) > 0 {
				t.Errorf("%s %s: %v", c.name, dns.Type(qtype), m)
			}
			name, why, _ := strings.Cut(c.report, ": ")
			l.wantReports(t, name+" "+dns.Type(qtype).String()+" "+why)
		}
	}
	up.wantQueries(t)
	l.wantNames(t, "203.0.113.9")
}

func TestAuditLetsDeniedPass(t *testing.T) {
	up := newAuthority(t, "evil.test. 9 IN A 203.0.113.9", "evil.test. 9 IN A 127.0.0.1")
	l := newLab(t, up, func(c *Config) { c.Audit = true }, "a.test:443")
	wantText(t, l.ask(t, "evil.test", dns.TypeA), "NOERROR; evil.test. 9 A 203.0.113.9; evil.test. 9 A 127.0.0.1")
	l.wantReports(t, "evil.test A no rule allows it", "evil.test A 127.0.0.1 a name may not lead to an address that is not public")
	l.wantNames(t, "203.0.113.9", "evil.test")
}

func TestOtherTypesAndClassesAreRefused(t *testing.T) {
	up := newAuthority(t, "a.test. 100 IN TXT secret")
	l := newLab(t, up, nil, "a.test:443")
	for _, qtype := range []uint16{dns.TypeTXT, dns.TypeMX, dns.TypeNS, dns.TypeANY, dns.TypeNULL, dns.TypeAXFR, dns.TypeIXFR, dns.TypeOPT, 65280} {
		wantText(t, l.ask(t, "a.test", qtype), "REFUSED")
	}
	if l.reported[0] != "a.test TXT no rule allows it: records of this type are not served" {
		t.Errorf("reported %q", l.reported[0])
	}
	q := query("a.test", dns.TypeA)
	q.Question[0].Qclass = dns.ClassCHAOS
	wantText(t, l.send(t, q, false), "REFUSED")
	up.wantQueries(t)
}

func TestAliases(t *testing.T) {
	chain := []string{"a.test. 50 IN CNAME c1.evil.test.", "c8.evil.test. 60 IN A 203.0.113.5", "stray.test. 60 IN A 203.0.113.66"}
	for i := 1; i < 8; i++ {
		chain = append(chain, fmt.Sprintf("c%d.evil.test. 60 IN CNAME c%d.evil.test.", i, i+1))
	}
	up := newAuthority(t, chain...)
	l := newLab(t, up, nil, "a.test:443")
	m := l.ask(t, "a.test", dns.TypeA)
	if len(m.Answer) != 9 || m.Answer[8].(*dns.A).A.String() != "203.0.113.5" || m.Answer[0].Header().Ttl != 50 {
		t.Errorf("chain of 8: %v", m)
	}
	l.wantNames(t, "203.0.113.5", "a.test")
	up.queries()
	wantText(t, l.ask(t, "c8.evil.test", dns.TypeA), "NXDOMAIN")
	up.wantQueries(t)
	wantText(t, l.ask(t, "a.test", dns.TypeCNAME), "NOERROR; a.test. 50 CNAME c1.evil.test.")
	up.wantQueries(t, "udp a.test. CNAME")
}

func TestAliasesThatUpstreamDoesNotFollow(t *testing.T) {
	up := newAuthority(t, "a.test. 50 IN CNAME b.test.", "b.test. 60 IN CNAME c.test.", "c.test. 70 IN A 203.0.113.5")
	up.answerWith(func(_ string, _, m *dns.Msg) []byte { m.Answer = m.Answer[:1]; return nil })
	l := newLab(t, up, nil, "a.test:443")
	wantText(t, l.ask(t, "a.test", dns.TypeA), "NOERROR; a.test. 50 CNAME b.test.; b.test. 50 CNAME c.test.; c.test. 50 A 203.0.113.5")
	up.wantQueries(t, "udp a.test. A", "udp b.test. A", "udp c.test. A")
}

func TestNamesLeadToPublicAddressesOnly(t *testing.T) {
	special4 := []string{"127.0.0.1", "169.254.169.254", "10.0.0.1", "192.168.1.1", "100.64.0.1", "0.0.0.0", "224.0.0.1"}
	special6 := []string{"::1", "::ffff:127.0.0.1", "fe80::1", "fd00::1", "64:ff9b::7f00:1", "2002:7f00:1::", "::", "ff02::1"}
	var zone []string
	for _, a := range special4 {
		zone = append(zone, "a.test. 9 IN A "+a, "b.test. 9 IN A "+a)
	}
	for _, a := range special6 {
		zone = append(zone, "a.test. 9 IN AAAA "+a)
	}
	up := newAuthority(t, append(zone, "b.test. 9 IN A 203.0.113.5", "alias.test. 9 IN CNAME a.test.")...)
	l := newLab(t, up, nil, "a.test:443", "b.test:443", "alias.test:443")
	for _, name := range []string{"a.test", "alias.test"} {
		for _, qtype := range []uint16{dns.TypeA, dns.TypeAAAA} {
			m := l.ask(t, name, qtype)
			if m.Rcode != dns.RcodeSuccess || len(m.Answer) > 0 || extended(m) != dns.ExtendedErrorCodeBlocked {
				t.Errorf("%s %s: %v", name, dns.Type(qtype), m)
			}
		}
	}
	wantText(t, l.ask(t, "b.test", dns.TypeA), "NOERROR; b.test. 9 A 203.0.113.5")
	for _, a := range append(special4, special6...) {
		l.wantNames(t, a)
	}
	if l.mu.Lock(); !slices.Contains(l.reported, "a.test A 169.254.169.254 a name may not lead to an address that is not public") {
		t.Errorf("reported %q", l.reported)
	}
	l.mu.Unlock()
	l = newLab(t, up, nil, "a.test:443", "10.0.0.0/8:443")
	wantText(t, l.ask(t, "a.test", dns.TypeA), "NOERROR; a.test. 9 A 10.0.0.1")
	l.wantNames(t, "10.0.0.1", "a.test")
}

func TestRebindingIsRefused(t *testing.T) {
	up := newAuthority(t, "a.test. 0 IN A 203.0.113.5")
	l := newLab(t, up, nil, "a.test:443")
	wantText(t, l.ask(t, "a.test", dns.TypeA), "NOERROR; a.test. 0 A 203.0.113.5")
	up.set(t, "a.test. 0 IN A 127.0.0.1")
	wantText(t, l.ask(t, "a.test", dns.TypeA), "NOERROR")
	up.wantQueries(t, "udp a.test. A", "udp a.test. A")
	l.wantNames(t, "127.0.0.1")
	l.wantNames(t, "203.0.113.5", "a.test")
}

func TestHostsTable(t *testing.T) {
	n := func(s string) endpoint.Name { name, _ := endpoint.ParseName(s); return name }
	a := netip.MustParseAddr
	up := newAuthority(t, "db.test. 9 IN A 203.0.113.5")
	l := newLab(t, up, func(c *Config) {
		c.Hosts = map[endpoint.Name][]netip.Addr{
			n("db.test"): {a("10.1.2.3"), a("10.1.2.5"), a("fd00::5")}, n("other.test"): {a("10.1.2.4")}, n("localhost"): {a("10.6.6.6")},
		}
	}, "db.test:5432", "localhost:80", "!10.1.2.5")
	l.wantNames(t, "10.1.2.5")
	l.wantNames(t, "10.1.2.3", "db.test")
	l.wantNames(t, "fd00::5", "db.test")
	l.wantNames(t, "10.1.2.4")
	l.wantNames(t, "10.6.6.6")
	wantText(t, l.ask(t, "db.test", dns.TypeA), "NOERROR; db.test. 60 A 10.1.2.3")
	wantText(t, l.ask(t, "db.test", dns.TypeAAAA), "NOERROR; db.test. 60 AAAA fd00::5")
	wantText(t, l.ask(t, "db.test", dns.TypeHTTPS), "NOERROR")
	wantText(t, l.ask(t, "other.test", dns.TypeA), "NXDOMAIN")
	for _, name := range []string{"localhost", "x.localhost"} {
		wantText(t, l.ask(t, name, dns.TypeA), "NOERROR; "+name+". 60 A 127.0.0.1")
		wantText(t, l.ask(t, name, dns.TypeAAAA), "NOERROR; "+name+". 60 AAAA ::1")
		wantText(t, l.ask(t, name, dns.TypeHTTPS), "NOERROR")
	}
	l.wantNames(t, "127.0.0.1")
	up.wantQueries(t)
}

func TestBlockListInHostsLeavesRoom(t *testing.T) {
	hosts := map[endpoint.Name][]netip.Addr{}
	for i := range maxBindings {
		n, err := endpoint.ParseName(fmt.Sprintf("n%d.test", i))
		if err != nil {
			t.Fatal(err)
		}
		hosts[n] = []netip.Addr{netip.MustParseAddr("0.0.0.0")}
	}
	up := newAuthority(t, "a.example. 9 IN A 203.0.113.5")
	l := newLab(t, up, func(c *Config) { c.Hosts = hosts }, "*:443")
	wantText(t, l.ask(t, "a.example", dns.TypeA), "NOERROR; a.example. 9 A 203.0.113.5")
	if got := len(l.Names(netip.IPv4Unspecified())); got != maxHostBindings {
		t.Errorf("%d names of the table are bound", got)
	}
	wantText(t, l.ask(t, "n999.test", dns.TypeA), "NOERROR; n999.test. 60 A 0.0.0.0") // the last in order
	if got := l.Names(netip.IPv4Unspecified()); got[len(got)-1].String() != "n999.test" {
		t.Errorf("a name beyond the share is not bound when it is asked for")
	}
}

func TestPointers(t *testing.T) {
	up := newAuthority(t, "a.test. 9 IN A 203.0.113.5", "a.test. 9 IN AAAA 2001:4860::1", "b.test. 9 IN A 203.0.113.5")
	l := newLab(t, up, nil, "*:443")
	for _, name := range []string{"a.test", "b.test"} {
		l.ask(t, name, dns.TypeA)
		l.ask(t, name, dns.TypeAAAA)
	}
	up.queries()
	arpa := func(a string) string { s, _ := dns.ReverseAddr(a); return s }
	ptr := func(a string) *dns.Msg { return l.ask(t, arpa(a), dns.TypePTR) }
	wantText(t, ptr("203.0.113.5"), "NOERROR; 5.113.0.203.in-addr.arpa. 60 PTR a.test.; 5.113.0.203.in-addr.arpa. 60 PTR b.test.")
	wantText(t, ptr("2001:4860::1"), "NOERROR; "+arpa("2001:4860::1")+" 60 PTR a.test.")
	wantText(t, ptr("127.0.0.1"), "NOERROR; 1.0.0.127.in-addr.arpa. 60 PTR localhost.")
	wantText(t, ptr("::1"), "NOERROR; "+arpa("::1")+" 60 PTR localhost.")
	for _, name := range []string{arpa("203.0.113.6"), arpa("2001:4860::2"), "113.0.203.in-addr.arpa.", "a.5.113.0.203.in-addr.arpa.", "256.0.0.1.in-addr.arpa.",
		"-5.113.0.203.in-addr.arpa.", "a.test.", "ip6.arpa.", strings.Repeat("z.", 32) + "ip6.arpa.", "_http._tcp.local."} {
		wantText(t, l.ask(t, name, dns.TypePTR), "NXDOMAIN")
	}
	up.wantQueries(t)
}

func TestServiceRecords(t *testing.T) {
	up := newAuthority(t,
		`a.test. 9 IN HTTPS 1 . mandatory=alpn,ipv4hint,ech alpn=h3,h3-29,h2 ipv4hint=10.0.0.1 ipv6hint=::1 ech=AAAA port=8443`,
		`a.test. 9 IN HTTPS 2 . mandatory=ech alpn=h3 no-default-alpn ech=AAAA`,
		`a.test. 9 IN HTTPS 3 . mandatory=ech ech=AAAA`,
		`a.test. 9 IN HTTPS 4 evil.test. alpn=h2`,
		`a.test. 9 IN HTTPS 5 a.test. alpn=h3`,
		`a.test. 9 IN SVCB 1 . ipv4hint=10.0.0.1 alpn=h2`,
		`_x._tcp.a.test. 9 IN SRV 1 2 443 evil.test.`)
	l := newLab(t, up, nil, "a.test:443", "_x._tcp.a.test:443")
	wantText(t, l.ask(t, "a.test", dns.TypeHTTPS), `NOERROR; a.test. 9 HTTPS 1 . mandatory="alpn" alpn="h2" port="8443"; a.test. 9 HTTPS 3 .; a.test. 9 HTTPS 5 a.test.`)
	wantText(t, l.ask(t, "a.test", dns.TypeSVCB), `NOERROR; a.test. 9 SVCB 1 . alpn="h2"`)
	wantText(t, l.ask(t, "_x._tcp.a.test", dns.TypeSRV), `NOERROR; _x._tcp.a.test. 9 SRV 1 2 443 evil.test.`)
	up.queries()
	wantText(t, l.ask(t, "_y._tcp.a.test", dns.TypeSRV), "NXDOMAIN")
	up.wantQueries(t)
}

func TestSearchListCompletesAllowedNames(t *testing.T) {
	_, search, ndots, _ := ReadHost([]byte("search corp.test lab.test\noptions ndots:2\n"), nil)
	up := newAuthority(t, "db.lab.test. 9 IN A 203.0.113.5", "a.b. 9 IN A 203.0.113.6", "x.y.lab.test. 9 IN CNAME db.lab.test.", "db.lab.test. 9 IN A 203.0.113.5")
	l := newLab(t, up, func(c *Config) { c.Search, c.NDots = search, ndots }, "db:443", "a.b:443", "x.y:443", "gone:443")
	wantText(t, l.ask(t, "db", dns.TypeA), "NOERROR; db. 9 A 203.0.113.5")
	up.wantQueries(t, "udp db.corp.test. A", "udp db.lab.test. A")
	l.wantNames(t, "203.0.113.5", "db")
	wantText(t, l.ask(t, "a.b", dns.TypeA), "NOERROR; a.b. 9 A 203.0.113.6")
	up.wantQueries(t, "udp a.b. A")
	wantText(t, l.ask(t, "x.y", dns.TypeA), "NOERROR; x.y. 9 CNAME db.lab.test.; db.lab.test. 9 A 203.0.113.5")
	up.queries()
	wantText(t, l.ask(t, "gone", dns.TypeA), "NXDOMAIN")
	up.wantQueries(t, "udp gone.corp.test. A", "udp gone.lab.test. A", "udp gone. A")
	wantText(t, l.ask(t, "db.corp.test", dns.TypeA), "NXDOMAIN")
	up.wantQueries(t)
}

func TestClosedResolverFailsAndKeepsItsBindings(t *testing.T) {
	up := newAuthority(t, "a.test. 9 IN A 203.0.113.5")
	l := newLab(t, up, nil, "a.test:443", "b.test:443")
	l.ask(t, "a.test", dns.TypeA)
	l.Close()
	wantText(t, l.ask(t, "b.test", dns.TypeA), "SERVFAIL")
	l.wantNames(t, "203.0.113.5", "a.test")
	up.wantQueries(t, "udp a.test. A")
}

func TestAskerWhoLeavesIsAnswered(t *testing.T) {
	blocked := make(chan struct{})
	l := newLab(t, nil, func(c *Config) {
		c.Upstreams = []netip.AddrPort{netip.MustParseAddrPort("127.0.0.1:53")}
		c.Exchange = func(ctx context.Context, _ netip.AddrPort, _ []byte, _ bool) ([]byte, error) {
			close(blocked)
			<-ctx.Done()
			return nil, ctx.Err()
		}
	}, "a.test:443")
	ctx, cancel := context.WithCancel(context.Background())
	go func() { <-blocked; cancel() }()
	in, _ := query("a.test", dns.TypeA).Pack()
	out := new(dns.Msg)
	if err := out.Unpack(l.Handle(ctx, in, false)); err != nil || out.Rcode != dns.RcodeServerFailure {
		t.Errorf("%v %v", err, out)
	}
}

func TestReportSaysWhoAskedAndWhatFailed(t *testing.T) {
	up := newAuthority(t)
	up.answerWith(func(_ string, _, m *dns.Msg) []byte { m.Rcode = dns.RcodeServerFailure; return nil })
	l := newLab(t, up, nil, "a.test:443")
	in, _ := query("A.test", dns.TypeA).Pack()
	l.Handle(WithPID(context.Background(), 42), in, false)
	l.wantReports(t, "A.test A allowed by 42: "+up.addr.String()+": answers SERVFAIL")
	l.ask(t, "5.113.0.203.in-addr.arpa", dns.TypePTR)
	l.wantReports(t)
}

func TestBadConfigIsRefused(t *testing.T) {
	for _, c := range []Config{{Upstreams: oneServer()}, {Policy: policyOf(t, "a.test:443")}} {
		if _, err := New(c); err == nil {
			t.Errorf("%+v is taken", c)
		}
	}
}
