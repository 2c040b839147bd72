package lab

import (
	"net/netip"
	"strings"
	"sync"

	"github.com/miekg/dns"
)

// zone is what the authority knows: canonical name to records in text form.
var zone = struct {
	sync.Mutex
	records map[string][]string
}{records: map[string][]string{}}

// SetName gives a name addresses, in place of those it had.
func SetName(name string, addrs ...netip.Addr) {
	var rr []string
	for _, a := range addrs {
		kind := " 0 IN A "
		if a.Is6() {
			kind = " 0 IN AAAA "
		}
		rr = append(rr, dns.Fqdn(name)+kind+a.String())
	}
	SetRecords(name, rr...)
}

// SetRecords gives a name records in the form of a zone file.
func SetRecords(name string, records ...string) {
	zone.Lock()
	defer zone.Unlock()
	zone.records[dns.CanonicalName(name)] = records
}

func defaultZone() {
	SetName("allowed.test", Allowed4, Allowed6)
	SetName("four.test", Allowed4)
	SetName("six.test", Allowed6)
	SetName("evil.test", Evil4, Evil6)
	SetName("shared.test", Shared4, Shared6)
	SetName("neighbour.test", Shared4, Shared6)
	SetName("loop.test", netip.MustParseAddr("127.0.0.1"), netip.MustParseAddr("::1"))
	SetName("mapped.test", netip.MustParseAddr("::ffff:127.0.0.1"))
	SetName("nat64.test", netip.MustParseAddr("64:ff9b::7f00:1"))
	SetName("sixtofour.test", netip.MustParseAddr("2002:7f00:1::"))
	SetName("metadata.test", Metadata)
	SetName("private.test", Private4, Private6)
	SetName("cgnat.test", CGNAT4)
	SetRecords("alias.test", "alias.test. 0 IN CNAME metadata.test.")
	SetRecords("chain.test", "chain.test. 0 IN CNAME allowed.test.")
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
			for _, text := range zone.records[name] {
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
