package resolver

import (
	"context"
	"fmt"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/miekg/dns"
	"github.com/sandlock/sandlock/netfilter/endpoint"
	"golang.org/x/net/dns/dnsmessage"
)

// clock is a time that the test moves.
type clock struct {
	mu  sync.Mutex
	now time.Time
}

func (c *clock) read() time.Time { c.mu.Lock(); defer c.mu.Unlock(); return c.now }
func (c *clock) add(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}

func clocked(l *lab) *clock {
	c := &clock{now: time.Unix(1e9, 0)}
	l.now = c.read
	return c
}

func TestCacheAges(t *testing.T) {
	up := newAuthority(t, "a.test. 100 IN CNAME b.test.", "b.test. 40 IN A 203.0.113.5")
	l := newLab(t, up, nil, "a.test:443")
	c := clocked(l)
	want := func(ttl int) {
		t.Helper()
		wantText(t, l.ask(t, "a.test", dns.TypeA), fmt.Sprintf("NOERROR; a.test. %d CNAME b.test.; b.test. %d A 203.0.113.5", ttl, ttl))
	}
	want(40)
	c.add(15500 * time.Millisecond)
	want(25)
	c.add(24 * time.Second)
	want(1)
	up.wantQueries(t, "udp a.test. A")
	c.add(time.Second)
	want(40)
	up.wantQueries(t, "udp a.test. A")
}

func TestNegativeCache(t *testing.T) {
	up := newAuthority(t, "has4.test. 60 IN A 203.0.113.5")
	l := newLab(t, up, nil, "*.test:443")
	c := clocked(l)
	for _, q := range []struct{ name, want string }{{"gone.test", "NXDOMAIN"}, {"has4.test", "NOERROR"}} {
		m := l.ask(t, q.name, dns.TypeAAAA)
		wantText(t, m, q.want)
		if len(m.Ns) != 1 || m.Ns[0].Header().Ttl != 40 { // the minimum of the SOA, not its TTL
			t.Errorf("authority %v", m.Ns)
		}
	}
	up.queries()
	c.add(39 * time.Second)
	wantText(t, l.ask(t, "gone.test", dns.TypeAAAA), "NXDOMAIN")
	wantText(t, l.ask(t, "has4.test", dns.TypeAAAA), "NOERROR")
	up.wantQueries(t)
	c.add(time.Second)
	l.ask(t, "gone.test", dns.TypeAAAA)
	up.wantQueries(t, "udp gone.test. AAAA")
}

func TestNegativeTTLIsBounded(t *testing.T) {
	for _, c := range []struct {
		soa string
		ttl uint32
	}{
		{"test. 90000 IN SOA ns.test. root.test. 1 1 1 1 80000", maxNegative},
		{"test. 7 IN SOA ns.test. root.test. 1 1 1 1 80000", 7},
		{"other. 7 IN SOA ns.test. root.test. 1 1 1 1 80000", 0}, // of another zone
	} {
		up := newAuthority(t)
		up.answerWith(func(_ string, _, m *dns.Msg) []byte {
			rr, _ := dns.NewRR(c.soa)
			m.Ns = []dns.RR{rr}
			return nil
		})
		l := newLab(t, up, nil, "a.test:443")
		n, _ := endpoint.ParseName("a.test")
		if a := l.resolve(context.Background(), question{n, dnsmessage.TypeA}); a.ttl != c.ttl || a.rcode != dnsmessage.RCodeNameError {
			t.Errorf("%s: %+v", c.soa, a)
		}
	}
}

func TestFailureIsRememberedForASecond(t *testing.T) {
	up := newAuthority(t, "a.test. 60 IN A 203.0.113.5")
	up.answerWith(func(_ string, _, m *dns.Msg) []byte { m.Rcode = dns.RcodeServerFailure; return nil })
	l := newLab(t, up, nil, "a.test:443")
	c := clocked(l)
	for range 3 {
		wantText(t, l.ask(t, "a.test", dns.TypeA), "SERVFAIL")
	}
	up.wantQueries(t, "udp a.test. A")
	up.answerWith(nil)
	c.add(failTTL * time.Second)
	wantText(t, l.ask(t, "a.test", dns.TypeA), "NOERROR; a.test. 60 A 203.0.113.5")
}

func TestCacheIsBounded(t *testing.T) {
	var c cache
	now := time.Unix(1e9, 0)
	key := func(i int) question {
		n, err := endpoint.ParseName(fmt.Sprintf("n%d.test", i))
		if err != nil {
			t.Fatal(err)
		}
		return question{n, dnsmessage.TypeA}
	}
	for i := range maxCached + 10 {
		c.put(key(i), answer{ttl: 60}, now)
		c.get(key(0), now) // stays, being used
	}
	listed := 0
	for e := c.newest; e != nil; e = e.older {
		listed++
	}
	if len(c.entries) != maxCached || listed != maxCached {
		t.Errorf("%d entries", len(c.entries))
	}
	if _, ok := c.get(key(0), now); !ok {
		t.Error("the entry in use is gone")
	}
	if _, ok := c.get(key(1), now); ok {
		t.Error("the oldest entry is still there")
	}
	big := record{service: &service{params: []dnsmessage.SVCParam{{Value: make([]byte, 50000)}}}}
	for i := range 200 {
		c.put(key(i), answer{ttl: 60, records: []record{big}}, now)
	}
	if c.size > maxCachedSize || c.size < maxCachedSize/2 {
		t.Errorf("%d bytes", c.size)
	}
	for c.oldest != nil {
		c.drop(c.oldest)
	}
	if c.size != 0 || len(c.entries) != 0 || c.newest != nil {
		t.Errorf("%d bytes and %d entries in an empty cache", c.size, len(c.entries))
	}
}

func TestEqualQueriesAreAskedOnce(t *testing.T) {
	const askers = 50
	asked, release := make(chan struct{}), make(chan struct{})
	up := newAuthority(t, "a.test. 0 IN A 203.0.113.5")
	l := newLab(t, up, func(c *Config) {
		c.Exchange = func(ctx context.Context, s netip.AddrPort, q []byte, tcp bool) ([]byte, error) {
			close(asked) // a second query panics
			<-release
			return exchange(ctx, s, q, tcp)
		}
	}, "a.test:443")
	l.upstream.rounds = rounds()
	n, _ := endpoint.ParseName("a.test")
	var joined []*flight
	for range askers {
		joined = append(joined, l.flights.join(question{n, dnsmessage.TypeA}, func(ctx context.Context) answer { return l.resolve(ctx, question{n, dnsmessage.TypeA}) }))
	}
	<-asked
	done := make(chan *dns.Msg)
	go func() { done <- l.ask(t, "a.test", dns.TypeA) }()
	close(release)
	for _, f := range joined {
		<-f.done
		if len(f.answer.records) != 1 {
			t.Errorf("answer %+v", f.answer)
		}
	}
	<-done
	if got := up.queries(); len(got) != 1 {
		t.Errorf("upstream saw %q", got)
	}
}

func TestManyAskersGetRightAnswers(t *testing.T) {
	const names, askers, rounds = 20, 200, 10
	var zone []string
	for i := range names {
		zone = append(zone, fmt.Sprintf("n%d.test. %d IN A 203.0.113.%d", i, i%2*60, i), fmt.Sprintf("n%d.test. 60 IN AAAA 2001:4860::%x", i, i+1))
	}
	up := newAuthority(t, zone...)
	l := newLab(t, up, nil, "*.test:443")
	l.upstream.rounds = []time.Duration{flightLimit}
	var wg sync.WaitGroup
	for i := range askers {
		wg.Go(func() {
			for j := range rounds {
				k := (i + j) % names
				name := fmt.Sprintf("n%d.test", k)
				m := l.ask(t, name, dns.TypeA)
				want := fmt.Sprintf("203.0.113.%d", k)
				if len(m.Answer) != 1 || m.Answer[0].(*dns.A).A.String() != want {
					t.Errorf("%s: %v", name, m)
					return
				}
				l.wantNames(t, want, name)
				wantText(t, l.ask(t, "evil.example", dns.TypeA), "NXDOMAIN")
				l.ask(t, name, dns.TypeAAAA)
			}
		})
	}
	wg.Wait()
	for _, q := range up.queries() {
		if strings.Contains(q, "evil") {
			t.Errorf("%q left", q)
		}
	}
}

func TestTooManyFlightsFail(t *testing.T) {
	release := make(chan struct{})
	var f flights
	f.ctx, f.cancel = context.WithCancel(context.Background())
	work := func(context.Context) answer { <-release; return answer{} }
	for i := range maxFlights {
		n, _ := endpoint.ParseName(fmt.Sprintf("n%d.test", i))
		if f.join(question{n, dnsmessage.TypeA}, work) == nil {
			t.Fatalf("flight %d is refused", i)
		}
	}
	n, _ := endpoint.ParseName("more.test")
	if a := f.do(context.Background(), question{n, dnsmessage.TypeA}, work); a.rcode != dnsmessage.RCodeServerFailure {
		t.Errorf("%+v", a)
	}
	close(release)
	f.close()
	if len(f.under) != 0 {
		t.Errorf("%d flights are left", len(f.under))
	}
}

func TestPanicCostsOneAnswer(t *testing.T) {
	l := newLab(t, nil, func(c *Config) {
		c.Upstreams = oneServer()
		c.Exchange = func(context.Context, netip.AddrPort, []byte, bool) ([]byte, error) { panic("parser") }
	}, "*.test:443")
	for _, name := range []string{"a.test", "b.test"} {
		wantText(t, l.ask(t, name, dns.TypeA), "SERVFAIL")
	}
}
