package resolver

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/miekg/dns"
	"github.com/sandlock/sandlock/netfilter/endpoint"
)

// authority is an upstream on loopback. Its log is the oracle: what is not in it
// did not leave.
type authority struct {
	addr netip.AddrPort
	mu   sync.Mutex
	log  []string // "udp a.test. A"
	zone map[string][]dns.RR
	// reply overrides the zone: it may change the answer or return bytes to send as they are.
	reply func(network string, q, m *dns.Msg) []byte
}

func newAuthority(t testing.TB, records ...string) *authority {
	t.Helper()
	a := &authority{zone: map[string][]dns.RR{}}
	a.set(t, records...)
	var tcp net.Listener
	var udp net.PacketConn
	for tcp == nil {
		var err error
		if udp, err = net.ListenPacket("udp4", "127.0.0.1:0"); err != nil {
			t.Fatal(err)
		}
		if tcp, err = net.Listen("tcp4", udp.LocalAddr().String()); err != nil {
			udp.Close() // the number is taken for TCP: another one
		}
	}
	a.addr = udp.LocalAddr().(*net.UDPAddr).AddrPort()
	for _, s := range []*dns.Server{{PacketConn: udp, Handler: a.handler("udp")}, {Listener: tcp, Handler: a.handler("tcp")}} {
		started := make(chan struct{})
		s.NotifyStartedFunc = func() { close(started) }
		go s.ActivateAndServe()
		<-started
		t.Cleanup(func() { s.Shutdown() })
	}
	return a
}

func (a *authority) set(t testing.TB, records ...string) {
	t.Helper()
	a.mu.Lock()
	defer a.mu.Unlock()
	clear(a.zone)
	for _, text := range records {
		rr, err := dns.NewRR(text)
		if err != nil {
			t.Fatal(err)
		}
		key := dns.CanonicalName(rr.Header().Name)
		a.zone[key] = append(a.zone[key], rr)
	}
}

// answerWith makes the authority send what f says; nil bytes mean the message m.
func (a *authority) answerWith(f func(network string, q, m *dns.Msg) []byte) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.reply = f
}

func (a *authority) handler(network string) dns.HandlerFunc {
	return func(w dns.ResponseWriter, q *dns.Msg) {
		a.mu.Lock()
		defer a.mu.Unlock()
		a.log = append(a.log, network+" "+q.Question[0].Name+" "+dns.Type(q.Question[0].Qtype).String())
		m := a.lookup(q)
		if a.reply != nil {
			if raw := a.reply(network, q, m); raw != nil {
				w.Write(raw)
				return
			}
		}
		if network == "udp" {
			m.Truncate(int(q.IsEdns0().UDPSize()))
		}
		w.WriteMsg(m)
	}
}

func (a *authority) lookup(q *dns.Msg) *dns.Msg {
	m := new(dns.Msg).SetReply(q)
	m.AuthenticatedData = true
	name := dns.CanonicalName(q.Question[0].Name)
	for range 20 {
		next := ""
		for _, rr := range a.zone[name] {
			switch {
			case rr.Header().Rrtype == q.Question[0].Qtype:
				m.Answer = append(m.Answer, rr)
			case rr.Header().Rrtype == dns.TypeCNAME:
				m.Answer = append(m.Answer, rr)
				next = dns.CanonicalName(rr.(*dns.CNAME).Target)
			}
		}
		if len(a.zone[name]) == 0 {
			m.Rcode = dns.RcodeNameError
		}
		if next == "" {
			break
		}
		name = next
	}
	if len(m.Answer) == 0 {
		soa, _ := dns.NewRR("test. 900 IN SOA ns.test. root.test. 1 1 1 1 40")
		m.Ns = []dns.RR{soa}
	}
	return m
}

// queries returns the log and empties it.
func (a *authority) queries() []string {
	a.mu.Lock()
	defer a.mu.Unlock()
	log := a.log
	a.log = nil
	return log
}

func (a *authority) wantQueries(t testing.TB, want ...string) {
	t.Helper()
	if got := a.queries(); !slices.Equal(got, want) {
		t.Errorf("upstream saw %q, want %q", got, want)
	}
}

// lab is a resolver, its upstream and what it reported.
type lab struct {
	*Resolver
	up       *authority
	mu       sync.Mutex
	reported []string
}

func policyOf(t testing.TB, rules ...string) *endpoint.Policy {
	t.Helper()
	var list []endpoint.Rule
	for _, text := range rules {
		action := endpoint.Allow
		text, deny := strings.CutPrefix(text, "!")
		if deny {
			action = endpoint.Deny
		}
		rule, err := endpoint.ParseRule(action, text, "--test")
		if err != nil {
			t.Fatal(err)
		}
		list = append(list, rule)
	}
	p, err := endpoint.NewPolicy(list, endpoint.Options{})
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func newLab(t testing.TB, up *authority, change func(*Config), rules ...string) *lab {
	t.Helper()
	l := &lab{up: up}
	c := Config{Policy: policyOf(t, rules...), Report: func(q Query) {
		l.mu.Lock()
		defer l.mu.Unlock()
		l.reported = append(l.reported, told(q))
	}, Upstreams: oneServer()}
	if up != nil {
		c.Upstreams = []netip.AddrPort{up.addr}
	}
	if change != nil {
		change(&c)
	}
	var err error
	if l.Resolver, err = New(c); err != nil {
		t.Fatal(err)
	}
	l.upstream.rounds = []time.Duration{300 * time.Millisecond}
	t.Cleanup(func() { l.Close() })
	return l
}

// told is a short form of a report.
func told(q Query) string {
	s := q.Name + " " + q.Type
	if q.Addr.IsValid() {
		s += " " + q.Addr.String()
	}
	if q.Verdict.Allowed {
		s += " allowed"
	} else {
		s += " " + q.Verdict.Reason.String()
	}
	if q.PID != 0 {
		s += fmt.Sprintf(" by %d", q.PID)
	}
	if q.Err != nil {
		s += ": " + q.Err.Error()
	}
	return s
}

func (l *lab) wantReports(t testing.TB, want ...string) {
	t.Helper()
	l.mu.Lock()
	defer l.mu.Unlock()
	if !slices.Equal(l.reported, want) {
		t.Errorf("reported %q, want %q", l.reported, want)
	}
	l.reported = nil
}

func query(name string, qtype uint16) *dns.Msg {
	q := new(dns.Msg).SetQuestion(dns.Fqdn(name), qtype)
	q.SetEdns0(4096, false)
	return q
}

// send passes a message through the wire form in both directions.
func (l *lab) send(t testing.TB, q *dns.Msg, tcp bool) *dns.Msg {
	t.Helper()
	in, err := q.Pack()
	if err != nil {
		t.Fatal(err)
	}
	out := l.Handle(context.Background(), in, tcp)
	m := new(dns.Msg)
	if err := m.Unpack(out); err != nil {
		t.Fatalf("answer to %v: %v", q.Question, err)
	}
	if m.Id != q.Id || !m.Response || m.AuthenticatedData || len(q.Question) == 1 && (len(m.Question) != 1 || m.Question[0] != q.Question[0]) {
		t.Fatalf("not an answer to the query %v: %v", q.Question, m)
	}
	return m
}

func (l *lab) ask(t testing.TB, name string, qtype uint16) *dns.Msg {
	t.Helper()
	return l.send(t, query(name, qtype), false)
}

// text is a short form of an answer: its code and records without class.
func text(m *dns.Msg) string {
	out := []string{dns.RcodeToString[m.Rcode]}
	for _, rr := range m.Answer {
		out = append(out, strings.Join(strings.Fields(strings.Replace(rr.String(), "\tIN\t", " ", 1)), " "))
	}
	return strings.Join(out, "; ")
}

func wantText(t testing.TB, m *dns.Msg, want string) {
	t.Helper()
	if got := text(m); got != want {
		t.Errorf("answer %q, want %q", got, want)
	}
}

func extended(m *dns.Msg) uint16 {
	if o := m.IsEdns0(); o != nil {
		for _, s := range o.Option {
			if e, ok := s.(*dns.EDNS0_EDE); ok {
				return e.InfoCode
			}
		}
	}
	return 1<<16 - 1
}

func (l *lab) wantNames(t testing.TB, addr string, want ...string) {
	t.Helper()
	var got []string
	for _, n := range l.Names(netip.MustParseAddr(addr)) {
		got = append(got, n.String())
	}
	if !slices.Equal(got, want) {
		t.Errorf("Names(%s) = %q, want %q", addr, got, want)
	}
}
