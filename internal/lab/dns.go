package lab

import (
	"net/netip"
	"strings"
	"sync"

	"github.com/miekg/dns"
)

// zone is what the authority knows, by canonical name.
var zone = struct {
	sync.Mutex
	entries map[string]*entry
}{entries: map[string]*entry{}}

// entry is what a name has: sets of records in text form, which are given in
// turn.
type entry struct {
	sets      [][]string
	turn      int
	truncated bool // an answer over UDP is empty and has the TC bit
}

// SetName gives a name addresses, in place of those it had.
func SetName(name string, addrs ...netip.Addr) { SetRecords(name, addressRecords(name, addrs)...) }

func addressRecords(name string, addrs []netip.Addr) []string {
	var rr []string
	for _, a := range addrs {
		kind := " 0 IN A "
		if a.Is6() {
			kind = " 0 IN AAAA "
		}
		rr = append(rr, dns.Fqdn(name)+kind+a.String())
	}
	return rr
}

// SetRecords gives a name records in the form of a zone file.
func SetRecords(name string, records ...string) { setEntry(name, entry{sets: [][]string{records}}) }

// SetTruncated gives a name addresses that are to be had over TCP only.
func SetTruncated(name string, addrs ...netip.Addr) {
	setEntry(name, entry{sets: [][]string{addressRecords(name, addrs)}, truncated: true})
}

// SetTurns gives a name one of the addresses with each answer, in turn.
func SetTurns(name string, addrs ...netip.Addr) {
	var e entry
	for _, a := range addrs {
		e.sets = append(e.sets, addressRecords(name, []netip.Addr{a}))
	}
	setEntry(name, e)
}

func setEntry(name string, e entry) {
	zone.Lock()
	defer zone.Unlock()
	zone.entries[dns.CanonicalName(name)] = &e
}

// take returns the records of the entry whose turn it is.
func (e *entry) take() []string {
	if e == nil || len(e.sets) == 0 {
		return nil
	}
	e.turn++
	return e.sets[(e.turn-1)%len(e.sets)]
}

func defaultZone() {
	SetName("allowed.test", Allowed4, Allowed6)
	SetName("four.test", Allowed4)
	SetName("six.test", Allowed6)
	SetName("evil.test", Evil4, Evil6)
	SetName("shared.test", Shared4, Shared6)
	SetName("neighbour.test", Shared4, Shared6)
	SetName("black.test", Black4)
	SetName("loop.test", netip.MustParseAddr("127.0.0.1"), netip.MustParseAddr("::1"))
	SetName("mapped.test", netip.MustParseAddr("::ffff:127.0.0.1"))
	SetName("nat64.test", netip.MustParseAddr("64:ff9b::7f00:1"))
	SetName("sixtofour.test", netip.MustParseAddr("2002:7f00:1::"))
	SetName("metadata.test", Metadata)
	SetName("private.test", Private4, Private6)
	SetName("cgnat.test", CGNAT4)
	SetRecords("alias.test", "alias.test. 0 IN CNAME metadata.test.")
	SetRecords("chain.test", "chain.test. 0 IN CNAME allowed.test.")
	SetName("mapped-public.test", netip.MustParseAddr("::ffff:151.101.1.69"))
	SetTruncated("long.test", Allowed4, Allowed6)
}

// answer is the handler of the authority at one address. It logs every query.
func answer(sink string) dns.HandlerFunc {
	return func(w dns.ResponseWriter, q *dns.Msg) {
		m := new(dns.Msg).SetReply(q)
		m.Authoritative, m.RecursionAvailable = true, true
		if len(q.Question) != 1 {
			m.Rcode = dns.RcodeFormatError
			w.WriteMsg(m)
			return
		}
		kind := "query"
		if strings.HasPrefix(q.Question[0].Name, fenceText) {
			kind = "fence"
		}
		record.add(sink, kind, strings.TrimSuffix(q.Question[0].Name, "."))
		name, known := dns.CanonicalName(q.Question[0].Name), false
		zone.Lock()
		defer zone.Unlock()
		for hops := 0; hops < 10; hops++ {
			next := ""
			e := zone.entries[name]
			if e != nil && e.truncated && w.LocalAddr().Network() == "udp" {
				known, m.Truncated = true, true
				break
			}
			for _, text := range e.take() {
				known = true
				rr, err := dns.NewRR(text)
				if err != nil {
					continue
				}
				if c, ok := rr.(*dns.CNAME); ok {
					next = dns.CanonicalName(c.Target)
				} else if rr.Header().Rrtype != q.Question[0].Qtype {
					continue
				}
				m.Answer = append(m.Answer, rr)
			}
			if next == "" {
				break
			}
			name = next
		}
		if !known {
			m.Rcode = dns.RcodeNameError
		}
		w.WriteMsg(m)
	}
}

// startDNS serves the zone at port 53 of the resolver's and of a public address.
func startDNS() error {
	defaultZone()
	for _, a := range []netip.Addr{Resolver, Public53} {
		at := netip.AddrPortFrom(a, 53).String()
		for _, network := range []string{"udp", "tcp"} {
			ready, failed := make(chan struct{}), make(chan error, 1)
			s := &dns.Server{Addr: at, Net: network, Handler: answer("dns " + network + " " + at), NotifyStartedFunc: func() { close(ready) }}
			go func() { failed <- s.ListenAndServe() }()
			select {
			case <-ready:
			case err := <-failed:
				return err
			}
			addFence(func(mark string) error {
				m := new(dns.Msg).SetQuestion(dns.Fqdn(mark), dns.TypeA)
				_, _, err := (&dns.Client{Net: network}).Exchange(m, at)
				return err
			})
		}
	}
	return nil
}
