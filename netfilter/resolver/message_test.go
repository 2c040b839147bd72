package resolver

import (
	"bytes"
	"context"
	"fmt"
	"testing"

	"github.com/miekg/dns"
)

// sixty is a zone with many addresses for one name.
func sixty() (zone []string) {
	for i := range 60 {
		zone = append(zone, fmt.Sprintf("many.test. 60 IN A 203.0.113.%d", i))
	}
	return zone
}

func TestAnswersFitTheClient(t *testing.T) {
	up := newAuthority(t, sixty()...)
	l := newLab(t, up, nil, "many.test:443")
	for _, c := range []struct {
		offer     int // EDNS size; 0 is no EDNS
		tcp       bool
		limit     int
		truncated bool
	}{
		{0, false, 512, true}, {100, false, 512, true}, {512, false, 512, true}, {800, false, 800, true},
		{1232, false, 1232, false}, {4096, false, 4096, false}, {65535, false, 4096, false}, {0, true, 65535, false},
	} {
		q := new(dns.Msg).SetQuestion("many.test.", dns.TypeA)
		if c.offer > 0 {
			q.SetEdns0(uint16(c.offer), true)
		}
		in, _ := q.Pack()
		out := l.Handle(context.Background(), in, c.tcp)
		m := new(dns.Msg)
		if err := m.Unpack(out); err != nil {
			t.Fatal(err)
		}
		if len(out) > c.limit || m.Truncated != c.truncated || !c.truncated && len(m.Answer) != 60 || c.truncated && len(m.Answer) == 0 {
			t.Errorf("%+v: %d bytes, TC %v, %d records", c, len(out), m.Truncated, len(m.Answer))
		}
		if o := m.IsEdns0(); (o != nil) != (c.offer > 0) || o != nil && (!o.Do() || o.UDPSize() != ednsSize || o.Version() != 0) {
			t.Errorf("%+v: OPT %v", c, o)
		}
	}
	l.wantNames(t, "203.0.113.59", "many.test")
}

func TestUpstreamTruncatesSoTCPIsAsked(t *testing.T) {
	zone := sixty()
	for i := range 60 {
		zone = append(zone, fmt.Sprintf("many.test. 60 IN A 198.51.99.%d", i))
	}
	up := newAuthority(t, zone...)
	l := newLab(t, up, nil, "many.test:443")
	q := query("many.test", dns.TypeA)
	m := l.send(t, q, true)
	up.wantQueries(t, "udp many.test. A", "tcp many.test. A")
	if len(m.Answer) != maxRecords { // and thereby maxPerName
		t.Errorf("%d records", len(m.Answer))
	}
}

func TestCasingOfTheClientIsEchoed(t *testing.T) {
	up := newAuthority(t, "a.test. 60 IN CNAME B.Test.", "b.test. 60 IN A 203.0.113.5")
	l := newLab(t, up, nil, "A.test:443")
	for _, name := range []string{"A.tEsT", "a.TEST", "a.test"} {
		m := l.ask(t, name, dns.TypeA) // compares the question byte by byte
		if got := m.Answer[0].Header().Name; got != name+"." {
			t.Errorf("owner %q for %q", got, name)
		}
	}
	up.wantQueries(t, "udp a.test. A")
}

func TestMessagesThatAreNoQuestion(t *testing.T) {
	up := newAuthority(t, "a.test. 60 IN A 203.0.113.5")
	l := newLab(t, up, nil, "*:443")
	pack := func(change func(*dns.Msg)) []byte {
		q := query("a.test", dns.TypeA)
		q.Id = 0x1234
		change(q)
		b, err := q.Pack()
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	plain := pack(func(*dns.Msg) {})
	opt := &dns.OPT{Hdr: dns.RR_Header{Name: ".", Rrtype: dns.TypeOPT}}
	for _, c := range []struct {
		name  string
		query []byte
		want  int // rcode, -1 for no answer
	}{
		{"empty", nil, -1},
		{"short", plain[:11], -1},
		{"a response", pack(func(m *dns.Msg) { m.Response = true }), -1},
		{"header alone", plain[:12], dns.RcodeFormatError},
		{"cut off", plain[:17], dns.RcodeFormatError},
		{"too long", append(bytes.Clone(plain), make([]byte, maxQuery)...), dns.RcodeFormatError},
		{"a loop", []byte{1, 2, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0xc0, 12, 0, 1, 0, 1}, dns.RcodeFormatError},
		{"no question", pack(func(m *dns.Msg) { m.Question = nil }), dns.RcodeFormatError},
		{"two questions", pack(func(m *dns.Msg) { m.Question = append(m.Question, m.Question[0]) }), dns.RcodeFormatError},
		{"two OPTs", pack(func(m *dns.Msg) { m.Extra = append(m.Extra, opt) }), dns.RcodeFormatError},
		{"notify", pack(func(m *dns.Msg) { m.Opcode = dns.OpcodeNotify }), dns.RcodeNotImplemented},
		{"update", pack(func(m *dns.Msg) { m.Opcode = dns.OpcodeUpdate }), dns.RcodeNotImplemented},
		{"EDNS 1", pack(func(m *dns.Msg) { m.IsEdns0().SetVersion(1) }), dns.RcodeBadVers},
	} {
		out := l.Handle(context.Background(), c.query, false)
		if c.want < 0 {
			if out != nil {
				t.Errorf("%s: answered %x", c.name, out)
			}
			continue
		}
		m := new(dns.Msg)
		if err := m.Unpack(out); err != nil || m.Rcode != c.want || !m.Response || !bytes.Equal(out[:2], c.query[:2]) {
			t.Errorf("%s: %v %v", c.name, err, m)
		}
	}
	up.wantQueries(t)
	if out := l.Handle(context.Background(), plain, false); out == nil || out[3]&0xf != 0 {
		t.Errorf("the twin is not answered: %x", out)
	}
}

func FuzzHandle(f *testing.F) {
	for _, q := range []*dns.Msg{query("a.test", dns.TypeA), query("5.113.0.203.in-addr.arpa", dns.TypePTR), query(`x\.a.test`, dns.TypeHTTPS), new(dns.Msg).SetAxfr("a.test.")} {
		b, err := q.Pack()
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b, b, true)
	}
	f.Add([]byte{1, 2, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0xc0, 12, 0, 1, 0, 1}, []byte{0, 0, 0x81, 0x80, 0, 1, 0, 1}, false)
	f.Fuzz(func(t *testing.T, q, tail []byte, tcp bool) {
		l := newLab(t, nil, nil, "a.test:443", "*.w.test:443")
		l.upstream.servers = oneServer()
		l.upstream.send = hostile(t, tail)
		out := l.Handle(context.Background(), q, tcp)
		if out == nil {
			return
		}
		m := new(dns.Msg)
		if err := m.Unpack(out); err != nil {
			t.Fatalf("%x answers %x: %v", q, out, err)
		}
		if !m.Response || !bytes.Equal(out[:2], q[:2]) || !tcp && len(out) > maxUDP {
			t.Fatalf("%x answers %v", q, m)
		}
	})
}
