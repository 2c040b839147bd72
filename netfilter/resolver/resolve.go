package resolver

import (
	"context"
	"errors"
	"net/netip"
	"slices"
	"strings"

	"github.com/miekg/dns"
	"github.com/sandlock/sandlock/netfilter/endpoint"
)

const (
	maxAliases  = 16  // CNAMEs between a name and its records
	maxAsks     = 8   // queries upstream for one name, where aliases are not followed there
	maxRecords  = 64  // records of an answer
	maxNegative = 300 // seconds
	failTTL     = 1   // seconds; RFC 9520 section 3.2 wants at least 1
	maxRefused  = 8   // refused addresses of an answer that are reported
)

// found is what upstream said about a name.
type found struct {
	rcode   int
	aliases []dns.RR
	records []dns.RR // of the asked type, at the end of the aliases
	soa     *dns.SOA
	ttl     uint32 // seconds, the smallest of all
	err     error  // why nothing is known; the rest is then zero
}

var (
	errAliases = errors.New("the name has too many aliases, or they form a loop")
	errFull    = errors.New("this run has resolved too many addresses")
)

// resolve asks upstream what a name means, which may be one that the host's
// search list completes.
func (r *Resolver) resolve(ctx context.Context, q question) answer {
	var own answer
	for _, full := range r.candidates(q.name) {
		a := r.finish(q, r.find(ctx, full, q))
		if full == q.name {
			own = a
		}
		if len(a.records) > 0 || len(a.refused) > 0 {
			return a
		}
	}
	return own
}

// candidates are the names that n may stand for, n among them. A name of one
// label is completed first, as libc does; one with dots only if it does not
// exist, so that nobody's search domain comes before the name itself.
func (r *Resolver) candidates(n endpoint.Name) []endpoint.Name {
	names := []endpoint.Name{n}
	dots := strings.Count(n.String(), ".")
	if dots >= r.config.NDots {
		return names
	}
	for _, s := range r.config.Search {
		if full, err := endpoint.ParseName(n.String() + "." + s.String()); err == nil {
			names = append(names, full)
		}
	}
	if dots == 0 {
		names = append(names[1:], n)
	}
	return names
}

// find follows a name upstream to records of the type. Aliases inherit the
// verdict about the name: what they are called is not judged.
func (r *Resolver) find(ctx context.Context, full endpoint.Name, q question) found {
	f := found{ttl: maxTTL}
	start := dns.Fqdn(full.String())
	owner := start
	for range maxAsks {
		m, err := r.upstream.ask(ctx, owner, q.qtype)
		if err != nil {
			return found{err: err}
		}
		before := len(f.aliases)
		if owner = f.follow(m.Answer, owner, q.qtype); owner == "" {
			return found{err: errAliases}
		}
		f.rcode = m.Rcode
		f.soa = negativeSOA(m.Ns, owner)
		if len(f.records) > 0 && m.Rcode == dns.RcodeSuccess {
			f.soa = nil
			return f.renamed(start, q.name)
		}
		if m.Rcode == dns.RcodeNameError || f.soa != nil || len(f.aliases) == before {
			f.records = nil
			return f.renamed(start, q.name)
		}
	}
	return found{err: errAliases}
}

// follow adds the chain that begins at owner and the records at its end, and
// nothing else of what upstream sent; it returns the name at the end, or "" for a
// chain that is too long or a loop.
func (f *found) follow(rrs []dns.RR, owner string, qtype uint16) string {
	byOwner := map[string][]dns.RR{}
	for _, rr := range rrs {
		if rr.Header().Class == dns.ClassINET {
			key := strings.ToLower(rr.Header().Name)
			byOwner[key] = append(byOwner[key], rr)
		}
	}
	for {
		var alias *dns.CNAME
		for _, rr := range byOwner[strings.ToLower(owner)] {
			if rr.Header().Rrtype == qtype && len(f.records) < maxRecords {
				f.records = append(f.records, rr)
				f.ttl = min(f.ttl, ttlOf(rr))
			}
			if c, ok := rr.(*dns.CNAME); ok && alias == nil {
				alias = c
			}
		}
		if len(f.records) > 0 || alias == nil {
			return owner
		}
		if len(f.aliases) >= maxAliases {
			return ""
		}
		f.ttl = min(f.ttl, ttlOf(alias))
		f.aliases = append(f.aliases, alias)
		owner = alias.Target
	}
}

// renamed gives what was found under the completed name the asked name.
func (f found) renamed(full string, n endpoint.Name) found {
	for _, rr := range slices.Concat(f.aliases, f.records) {
		if strings.EqualFold(rr.Header().Name, full) {
			rr.Header().Name = dns.Fqdn(n.String())
		}
	}
	return f
}

// ttlOf reads a TTL; what is negative as a signed number counts as 0 (RFC 2181
// section 8).
func ttlOf(rr dns.RR) uint32 {
	if t := rr.Header().Ttl; t <= 1<<31-1 {
		return t
	}
	return 0
}

// negativeSOA returns the SOA of a negative answer about owner (RFC 2308).
func negativeSOA(ns []dns.RR, owner string) *dns.SOA {
	for _, rr := range ns {
		if soa, ok := rr.(*dns.SOA); ok && soa.Hdr.Class == dns.ClassINET && dns.IsSubDomain(soa.Hdr.Name, owner) {
			return soa
		}
	}
	return nil
}

// finish makes the answer of what was found: it filters and binds.
func (r *Resolver) finish(q question, f found) answer {
	a := answer{rcode: f.rcode, ttl: f.ttl}
	switch {
	case f.err != nil:
		return broken(f.err)
	case len(f.records) == 0:
		a.records, a.soa, a.ttl = f.aliases, f.soa, 0
		if f.soa != nil {
			a.ttl = min(ttlOf(f.soa), f.soa.Minttl, maxNegative, f.ttl)
		}
		return a
	}
	var keep []dns.RR
	switch q.qtype {
	case dns.TypeA, dns.TypeAAAA:
		keep = r.addresses(q, f.records, &a)
	case dns.TypeHTTPS, dns.TypeSVCB:
		keep = r.services(f.records)
	default:
		keep = f.records
	}
	if len(keep) > 0 {
		a.records = append(f.aliases, keep...)
	} else {
		a.ttl = min(a.ttl, maxNegative)
	}
	return a
}

// addresses returns those of the records that the policy lets pass, bound to the
// asked name. Without room for more, the addresses that are bound already serve.
func (r *Resolver) addresses(q question, rrs []dns.RR, a *answer) []dns.RR {
	var keep []dns.RR
	var seen []netip.Addr
	full := false
	for _, rr := range rrs {
		addr, ok := addressOf(rr)
		if !ok || slices.Contains(seen, addr) {
			continue
		}
		seen = append(seen, addr)
		if v := r.config.Policy.Answer(q.name, addr, false); !v.Allowed {
			if len(a.refused) < maxRefused {
				a.refused = append(a.refused, refusal{addr, v})
			}
			if !r.config.Audit {
				continue
			}
		}
		if !r.bound.add(q.name, addr) {
			full = true
			continue
		}
		keep = append(keep, addressRecord(rr.Header().Name, q.qtype, addr))
	}
	switch {
	case len(keep) > 0:
	case full:
		for _, addr := range r.bound.addrs(q.name) {
			if family(addr) == q.qtype {
				keep = append(keep, addressRecord(rrs[0].Header().Name, q.qtype, addr))
			}
		}
		if keep == nil {
			*a = broken(errFull)
		}
	case a.refused != nil:
		a.info = &dns.EDNS0_EDE{InfoCode: dns.ExtendedErrorCodeBlocked, ExtraText: a.refused[0].verdict.Reason.String()}
	}
	return keep
}

// broken is the answer when nothing is known, with the reason; it is kept for a
// moment. The reason is not told to the asker, whom the upstreams do not concern.
func broken(err error) answer {
	a := failure(dns.RcodeServerFailure, dns.ExtendedErrorCodeNetworkError, "no upstream answers this")
	a.err, a.ttl = err, failTTL
	return a
}

// addressOf returns the address of a record, never a mapped one.
func addressOf(rr dns.RR) (netip.Addr, bool) {
	var b []byte
	switch rr := rr.(type) {
	case *dns.A:
		b = rr.A.To4()
	case *dns.AAAA:
		b = rr.AAAA
	}
	a, ok := netip.AddrFromSlice(b)
	return a.Unmap(), ok
}
