package resolver

import (
	"context"
	"errors"
	"net/netip"
	"slices"
	"strings"

	"github.com/sandlock/sandlock/netfilter/endpoint"
	"golang.org/x/net/dns/dnsmessage"
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
	rcode   dnsmessage.RCode
	aliases []record
	records []record // of the asked type, at the end of the aliases
	soa     *soa
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
	start := fqdn(full)
	owner := start
	for range maxAsks {
		m, err := r.upstream.ask(ctx, owner, q.qtype)
		if err != nil {
			return found{err: err}
		}
		before := len(f.aliases)
		if owner, err = f.follow(m.answers, owner, q.qtype); err != nil {
			return found{err: err}
		}
		f.rcode = m.rcode
		f.soa = negativeSOA(m.soas, owner)
		if len(f.records) > 0 && m.rcode == dnsmessage.RCodeSuccess {
			f.soa = nil
			return f.renamed(start, q.name)
		}
		if m.rcode == dnsmessage.RCodeNameError || f.soa != nil || len(f.aliases) == before {
			f.records = nil
			return f.renamed(start, q.name)
		}
	}
	return found{err: errAliases}
}

// follow adds the chain that begins at owner and the records at its end, and
// nothing else of what upstream sent; it returns the name at the end, or an error
// for a chain that is too long or a loop.
func (f *found) follow(rrs []record, owner dnsmessage.Name, qtype dnsmessage.Type) (dnsmessage.Name, error) {
	byOwner := map[string][]record{}
	for _, rr := range rrs {
		key := lower(rr.name)
		byOwner[key] = append(byOwner[key], rr)
	}
	for {
		var alias *record
		for _, rr := range byOwner[lower(owner)] {
			if rr.typ == qtype && len(f.records) < maxRecords {
				f.records = append(f.records, rr)
				f.ttl = min(f.ttl, ttlOf(rr.ttl))
			}
			if rr.typ == dnsmessage.TypeCNAME && alias == nil {
				alias = &rr
			}
		}
		if len(f.records) > 0 || alias == nil {
			return owner, nil
		}
		if len(f.aliases) >= maxAliases {
			return owner, errAliases
		}
		f.ttl = min(f.ttl, ttlOf(alias.ttl))
		f.aliases = append(f.aliases, *alias)
		owner = alias.target
	}
}

// renamed gives what was found under the completed name the asked name.
func (f found) renamed(full dnsmessage.Name, n endpoint.Name) found {
	was := lower(full)
	for _, list := range [][]record{f.aliases, f.records} {
		for i := range list {
			if lower(list[i].name) == was {
				list[i].name = fqdn(n)
			}
		}
	}
	return f
}

// ttlOf reads a TTL; what is negative as a signed number counts as 0 (RFC 2181
// section 8).
func ttlOf(ttl uint32) uint32 {
	if ttl <= 1<<31-1 {
		return ttl
	}
	return 0
}

// negativeSOA returns the SOA of a negative answer about owner (RFC 2308).
func negativeSOA(soas []soa, owner dnsmessage.Name) *soa {
	for i := range soas {
		if below(owner, soas[i].name) {
			return &soas[i]
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
			a.ttl = min(ttlOf(f.soa.ttl), f.soa.body.MinTTL, maxNegative, f.ttl)
		}
		return a
	}
	var keep []record
	switch q.qtype {
	case dnsmessage.TypeA, dnsmessage.TypeAAAA:
		keep = r.addresses(q, f.records, &a)
	case dnsmessage.TypeHTTPS, dnsmessage.TypeSVCB:
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
func (r *Resolver) addresses(q question, rrs []record, a *answer) []record {
	var keep []record
	var seen []netip.Addr
	full := false
	for _, rr := range rrs {
		addr := rr.addr
		if slices.Contains(seen, addr) {
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
		keep = append(keep, addressRecord(rr.name, q.qtype, addr))
	}
	switch {
	case len(keep) > 0:
	case full:
		for _, addr := range r.bound.addrs(q.name) {
			if family(addr) == q.qtype {
				keep = append(keep, addressRecord(rrs[0].name, q.qtype, addr))
			}
		}
		if keep == nil {
			*a = broken(errFull)
		}
	case a.refused != nil:
		a.info = &extendedError{codeBlocked, a.refused[0].verdict.Reason.String()}
	}
	return keep
}

// broken is the answer when nothing is known, with the reason; it is kept for a
// moment. The reason is not told to the asker, whom the upstreams do not concern.
func broken(err error) answer {
	a := failure(dnsmessage.RCodeServerFailure, codeNetworkError, "no upstream answers this")
	a.err, a.ttl = err, failTTL
	return a
}
