package resolver

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/miekg/dns"
	"golang.org/x/net/dns/dnsmessage"
)

func oneServer() []netip.AddrPort {
	return []netip.AddrPort{netip.MustParseAddrPort("127.0.0.1:53")}
}

// hostile is an upstream that answers the question with whatever records tail
// holds. A query for a name that no rule allows is the failure it looks for.
func hostile(t *testing.T, tail []byte) Exchanger {
	return func(_ context.Context, _ netip.AddrPort, query []byte, _ bool) ([]byte, error) {
		var q dns.Msg
		if err := q.Unpack(query); err != nil {
			t.Errorf("a query that cannot be read left: %x", query)
			return nil, err
		}
		name := q.Question[0].Name
		if name != "a.test." && !strings.HasSuffix(name, ".w.test.") && len(tail) < 8 {
			t.Errorf("a query for %q left", name)
		}
		q.Extra = nil
		q.Response = true
		reply, err := q.Pack()
		if err != nil {
			return nil, err
		}
		if len(tail) >= 8 { // counts of records, then records
			copy(reply[6:12], tail[:6])
			reply = append(reply, tail[6:]...)
		}
		return reply, nil
	}
}

func TestHostileAnswers(t *testing.T) {
	good := func(m *dns.Msg) []byte {
		b, err := m.Pack()
		if err != nil {
			panic(err)
		}
		return b
	}
	rr := func(text string) dns.RR {
		r, err := dns.NewRR(text)
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
	for _, c := range []struct {
		name   string
		change func(q, m *dns.Msg) []byte
		want   string
	}{
		{"control", func(_, m *dns.Msg) []byte { return good(m) }, "NOERROR; a.test. 60 A 203.0.113.5"},
		{"wrong id", func(_, m *dns.Msg) []byte { m.Id++; return good(m) }, "SERVFAIL"},
		{"a query", func(_, m *dns.Msg) []byte { m.Response = false; return good(m) }, "SERVFAIL"},
		{"wrong name", func(_, m *dns.Msg) []byte { m.Question[0].Name = "b.test."; return good(m) }, "SERVFAIL"},
		{"wrong type", func(_, m *dns.Msg) []byte { m.Question[0].Qtype = dns.TypeAAAA; return good(m) }, "SERVFAIL"},
		{"wrong class", func(_, m *dns.Msg) []byte { m.Question[0].Qclass = dns.ClassCHAOS; return good(m) }, "SERVFAIL"},
		{"no question", func(_, m *dns.Msg) []byte { m.Question = nil; return good(m) }, "SERVFAIL"},
		{"other casing", func(_, m *dns.Msg) []byte { m.Question[0].Name = "A.TEST."; return good(m) }, "NOERROR; a.test. 60 A 203.0.113.5"},
		{"one byte", func(_, m *dns.Msg) []byte { return []byte{0} }, "SERVFAIL"},
		{"cut off", func(_, m *dns.Msg) []byte { b := good(m); return b[:len(b)-3] }, "SERVFAIL"},
		{"compression loop", func(_, m *dns.Msg) []byte {
			m.Answer = nil
			b := good(m)
			binary.BigEndian.PutUint16(b[6:], 1)
			at := len(b)
			return append(b, 0xc0|byte(at>>8), byte(at), 0, 1, 0, 1, 0, 0, 0, 60, 0, 4, 203, 0, 113, 5)
		}, "SERVFAIL"},
		{"stray records", func(_, m *dns.Msg) []byte {
			m.Answer = append(m.Answer, rr("evil.test. 60 IN A 203.0.113.66"), rr("a.test. 60 IN TXT x"), rr("a.test. 60 CH A 203.0.113.66"))
			m.Ns, m.Extra = []dns.RR{rr("test. 60 IN NS a.test.")}, []dns.RR{rr("a.test. 60 IN A 203.0.113.66")}
			return good(m)
		}, "NOERROR; a.test. 60 A 203.0.113.5"},
		{"only strays", func(_, m *dns.Msg) []byte {
			m.Answer = []dns.RR{rr("evil.test. 60 IN A 203.0.113.66")}
			return good(m)
		}, "NOERROR"},
		{"alias loop", func(_, m *dns.Msg) []byte {
			m.Answer = []dns.RR{rr("a.test. 60 IN CNAME b.test."), rr("b.test. 60 IN CNAME a.test.")}
			return good(m)
		}, "SERVFAIL"},
		{"alias of itself", func(_, m *dns.Msg) []byte { m.Answer = []dns.RR{rr("a.test. 60 IN CNAME a.test.")}; return good(m) }, "SERVFAIL"},
		{"aliases without end", func(q, m *dns.Msg) []byte {
			name := q.Question[0].Name
			m.Rcode, m.Ns = dns.RcodeSuccess, nil
			m.Answer = []dns.RR{rr(name + " 60 IN CNAME x" + name)}
			return good(m)
		}, "SERVFAIL"},
		{"too many aliases", func(_, m *dns.Msg) []byte {
			m.Answer = []dns.RR{rr("a.test. 60 IN CNAME c0.test.")}
			for i := range maxAliases {
				m.Answer = append(m.Answer, rr(fmt.Sprintf("c%d.test. 60 IN CNAME c%d.test.", i, i+1)))
			}
			m.Answer = append(m.Answer, rr(fmt.Sprintf("c%d.test. 60 IN A 203.0.113.5", maxAliases)))
			return good(m)
		}, "SERVFAIL"},
		{"negative TTL", func(_, m *dns.Msg) []byte { m.Answer[0].Header().Ttl = 1 << 31; return good(m) }, "NOERROR; a.test. 0 A 203.0.113.5"},
		{"long TTL", func(_, m *dns.Msg) []byte { m.Answer[0].Header().Ttl = 1<<31 - 1; return good(m) }, "NOERROR; a.test. 3600 A 203.0.113.5"},
		{"an empty address", func(_, m *dns.Msg) []byte { m.Answer[0] = &dns.A{Hdr: *m.Answer[0].Header()}; return good(m) }, "NOERROR"},
		{"repeated", func(_, m *dns.Msg) []byte { m.Answer = append(m.Answer, m.Answer[0]); return good(m) }, "NOERROR; a.test. 60 A 203.0.113.5"},
		{"NXDOMAIN with an address", func(_, m *dns.Msg) []byte { m.Rcode = dns.RcodeNameError; return good(m) }, "NXDOMAIN"},
		{"SERVFAIL", func(_, m *dns.Msg) []byte { m.Rcode = dns.RcodeServerFailure; return good(m) }, "SERVFAIL"},
		{"REFUSED", func(_, m *dns.Msg) []byte { m.Rcode = dns.RcodeRefused; return good(m) }, "SERVFAIL"},
		{"FORMERR to EDNS", func(q, m *dns.Msg) []byte {
			if q.IsEdns0() != nil {
				m.Rcode, m.Question, m.Answer = dns.RcodeFormatError, nil, nil
			}
			return good(m)
		}, "NOERROR; a.test. 60 A 203.0.113.5"},
	} {
		t.Run(c.name, func(t *testing.T) {
			up := newAuthority(t, "a.test. 60 IN A 203.0.113.5")
			up.answerWith(func(_ string, q, m *dns.Msg) []byte {
				m = m.Copy()
				return c.change(q, m)
			})
			l := newLab(t, up, nil, "a.test:443")
			wantText(t, l.ask(t, "a.test", dns.TypeA), c.want)
			l.wantNames(t, "203.0.113.66")
			if !strings.Contains(c.want, "203.0.113.5") {
				l.wantNames(t, "203.0.113.5")
			}
		})
	}
}

// What an Exchanger returns is compared with the query, over TCP too.
func TestAnswerOfAnExchangerIsNotTrusted(t *testing.T) {
	for _, c := range []struct {
		flip int // byte of the answer that is changed; 11 is the control and leaves it
		want string
	}{{11, "NOERROR; a.test. 60 A 203.0.113.5"}, {0, "SERVFAIL"}, {1, "SERVFAIL"}, {13, "SERVFAIL"}, {21, "SERVFAIL"}} {
		up := newAuthority(t, "a.test. 60 IN A 203.0.113.5")
		up.answerWith(func(network string, _, m *dns.Msg) []byte { m.Truncated = network == "udp"; return nil })
		l := newLab(t, up, func(conf *Config) {
			conf.Exchange = func(ctx context.Context, s netip.AddrPort, q []byte, tcp bool) ([]byte, error) {
				b, err := exchange(ctx, s, q, tcp)
				if err == nil && tcp && c.flip != 11 {
					b[c.flip] ^= 4
				}
				return b, err
			}
		}, "a.test:443")
		wantText(t, l.ask(t, "a.test", dns.TypeA), c.want)
		up.wantQueries(t, "udp a.test. A", "tcp a.test. A")
	}
}

func TestHugeAnswerOverTCP(t *testing.T) {
	var zone []string
	for i := range 3900 {
		zone = append(zone, fmt.Sprintf("a.test. 60 IN A 198.51.%d.%d", i/250, i%250))
	}
	up := newAuthority(t, zone...)
	up.answerWith(func(network string, _, m *dns.Msg) []byte {
		m.Compress = true
		if network == "udp" {
			m.Answer, m.Truncated = nil, true
		}
		return nil
	})
	l := newLab(t, up, nil, "a.test:443")
	if m := l.send(t, query("a.test", dns.TypeA), true); len(m.Answer) != maxPerName {
		t.Errorf("%d records", len(m.Answer))
	}
	up.wantQueries(t, "udp a.test. A", "tcp a.test. A")
}

// A datagram that answers something else does not end the wait for the answer.
func TestStrayDatagramsAreSkipped(t *testing.T) {
	conn, err := net.ListenPacket("udp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	go func() {
		buf := make([]byte, 4096)
		n, from, err := conn.ReadFrom(buf)
		if err != nil {
			return
		}
		buf[2] |= 0x80
		buf[0]++
		conn.WriteTo(buf[:n], from)
		buf[0]--
		conn.WriteTo(buf[:n], from)
	}()
	q, _ := query("a.test", dns.TypeA).Pack()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	reply, err := exchange(ctx, conn.LocalAddr().(*net.UDPAddr).AddrPort(), q, false)
	if err != nil || reply[0] != q[0] {
		t.Errorf("%x %v", reply, err)
	}
}

func TestUpstreamsAreAskedInTurn(t *testing.T) {
	dead, err := net.ListenPacket("udp4", "127.0.0.1:0") // never answers
	if err != nil {
		t.Fatal(err)
	}
	defer dead.Close()
	failing := newAuthority(t)
	failing.answerWith(func(_ string, _, m *dns.Msg) []byte { m.Rcode = dns.RcodeServerFailure; return nil })
	up := newAuthority(t, "a.test. 60 IN A 203.0.113.5", "b.test. 60 IN A 203.0.113.6")
	l := newLab(t, up, func(c *Config) {
		c.Upstreams = []netip.AddrPort{dead.LocalAddr().(*net.UDPAddr).AddrPort(), failing.addr, up.addr}
	}, "*.test:443")
	wantText(t, l.ask(t, "a.test", dns.TypeA), "NOERROR; a.test. 60 A 203.0.113.5")
	failing.wantQueries(t, "udp a.test. A")
	up.wantQueries(t, "udp a.test. A")
	wantText(t, l.ask(t, "b.test", dns.TypeA), "NOERROR; b.test. 60 A 203.0.113.6")
	failing.wantQueries(t) // the one that answered is asked first
	up.wantQueries(t, "udp b.test. A")
}

func TestSilentUpstreamIsAskedAgainAndFailingOneIsNot(t *testing.T) {
	for _, c := range []struct {
		err  error
		asks int
	}{{context.DeadlineExceeded, 2}, {errors.New("refused"), 1}} {
		asks := 0
		u := upstream{servers: oneServer(), rounds: rounds(), send: func(context.Context, netip.AddrPort, []byte, bool) ([]byte, error) {
			asks++
			return nil, c.err
		}}
		if _, err := u.ask(context.Background(), dnsmessage.MustNewName("a.test."), dnsmessage.TypeA); !errors.Is(err, c.err) || asks != c.asks {
			t.Errorf("%d asks, %v", asks, err)
		}
	}
}

func TestIdentitiesAndPortsVary(t *testing.T) {
	ids, ports := map[uint16]bool{}, map[int]bool{}
	conn, err := net.ListenPacket("udp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var done sync.WaitGroup
	done.Go(func() {
		buf := make([]byte, 4096)
		for {
			n, from, err := conn.ReadFrom(buf)
			if err != nil {
				return
			}
			ids[binary.BigEndian.Uint16(buf)] = true
			ports[from.(*net.UDPAddr).Port] = true
			buf[2] |= 0x80
			conn.WriteTo(buf[:n], from)
		}
	})
	u := upstream{servers: []netip.AddrPort{conn.LocalAddr().(*net.UDPAddr).AddrPort()}, send: exchange, rounds: rounds()}
	for range 32 {
		if _, err := u.ask(context.Background(), dnsmessage.MustNewName("a.test."), dnsmessage.TypeA); err != nil {
			t.Error(err)
		}
	}
	conn.Close()
	done.Wait()
	if len(ids) < 30 || len(ports) < 16 {
		t.Errorf("%d ids, %d ports in 32 queries", len(ids), len(ports))
	}
}
