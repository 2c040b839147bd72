// Package resolver is the embedded DNS server of a sandbox. Names that a rule
// allows are asked upstream and bound to their addresses for the run; all
// others do not exist, and no packet leaves for them. It is transport-agnostic:
// a message goes in, a message comes out.
package resolver

import (
	"context"
	"errors"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/sandlock/sandlock/netfilter/endpoint"
	"golang.org/x/net/dns/dnsmessage"
)

const (
	localTTL = 60   // seconds: what the host's table and the bindings say is fixed for the run
	maxTTL   = 3600 // seconds
)

// Config is what a Resolver works with. Nothing in it may change afterwards.
type Config struct {
	// Policy judges the name of every query and every address of an answer.
	Policy *endpoint.Policy
	// Upstreams are asked in turn, beginning with the one that last answered.
	Upstreams []netip.AddrPort
	// Hosts is the host's own table. Those of its names that the policy allows
	// are answered from it, and bound from the start.
	Hosts map[endpoint.Name][]netip.Addr
	// Search and NDots are resolv.conf's. An allowed name with fewer than NDots
	// dots means what it means on the host: the list completes it upstream.
	// Without them names are asked as they are.
	Search []endpoint.Name
	NDots  int
	// Audit lets denied names and addresses pass once they were reported.
	Audit bool
	// Report is told each question about a name, and after it each address that
	// was refused. Pointers are left out: programs ask for them by themselves.
	// Calls come from many goroutines. It must not block; nil means nobody listens.
	Report func(Query)
	// Exchange carries a query to an upstream; nil means UDP and TCP sockets.
	Exchange Exchanger
}

// Resolver answers queries and remembers which name led to which address. Its
// methods may be called from any goroutine.
type Resolver struct {
	config   Config
	hosts    map[endpoint.Name][]netip.Addr
	bound    bindings
	cache    cache
	flights  flights
	upstream upstream
	now      func() time.Time
}

// Query is what Report is told.
type Query struct {
	Name    string     // presentation form, hostile bytes escaped, no final dot
	Type    string     // "A", "HTTPS", "TYPE65280"
	Addr    netip.Addr // with Verdict about it as an answer; zero with one about the name
	Verdict endpoint.Verdict
	PID     int32 // of WithPID, or 0
	Err     error // why an allowed name has no answer, or ErrType
}

// ErrType says that the name may be resolved, but not for records of this type.
var ErrType = errors.New("records of this type are not served")

type pidKey struct{}

// WithPID says which process asks.
func WithPID(ctx context.Context, pid int32) context.Context {
	return context.WithValue(ctx, pidKey{}, pid)
}

// question is what is asked: equal questions have equal answers.
type question struct {
	name  endpoint.Name
	qtype dnsmessage.Type
}

// answer is what is known about a question. It is shared between queries and
// therefore never changed; TTLs and the casing of names are put in on sending.
type answer struct {
	rcode   dnsmessage.RCode
	records []record
	soa     *soa   // of a negative answer, or nil
	ttl     uint32 // seconds from its making; 0 is not kept
	info    *extendedError
	refused []refusal
	err     error // of a failure
}

// refusal is an address that the policy did not let through.
type refusal struct {
	addr    netip.Addr
	verdict endpoint.Verdict
}

// New returns a resolver that the caller must close. It neither blocks nor sends.
func New(c Config) (*Resolver, error) {
	switch {
	case c.Policy == nil:
		return nil, errors.New("resolver: there is no policy")
	case len(c.Upstreams) == 0:
		return nil, errors.New("resolver: there is no upstream")
	}
	if c.Exchange == nil {
		c.Exchange = exchange
	}
	if c.Report == nil {
		c.Report = func(Query) {}
	}
	r := &Resolver{config: c, hosts: map[endpoint.Name][]netip.Addr{}, now: time.Now}
	r.flights.ctx, r.flights.cancel = context.WithCancel(context.Background())
	r.upstream = upstream{servers: c.Upstreams, send: c.Exchange, rounds: rounds()}
	r.bindHosts()
	return r, nil
}

// Close ends what is under way and waits for it. Queries are then answered with
// SERVFAIL; the bindings stay.
func (r *Resolver) Close() error {
	r.flights.close()
	return nil
}

// Names returns the allowed names that led to the address, oldest first. The
// slice is shared: the caller must not change it. It does not allocate.
func (r *Resolver) Names(a netip.Addr) []endpoint.Name { return r.bound.names(a) }

// Addrs returns the addresses that a name led to, oldest first. The slice is
// shared: the caller must not change it.
func (r *Resolver) Addrs(n endpoint.Name) []netip.Addr { return r.bound.addrs(n) }

// bindHosts takes over the allowed part of the host's table. A table of many
// thousand names (a block list) may not use up the bindings of the run: what is
// beyond its share is bound when it is asked for.
func (r *Resolver) bindHosts() {
	var names []endpoint.Name
	for n := range r.config.Hosts {
		if !isLocalhost(n) && (r.config.Audit || r.config.Policy.Name(n).Allowed) {
			names = append(names, n)
		}
	}
	slices.SortFunc(names, func(a, b endpoint.Name) int { return strings.Compare(a.String(), b.String()) })
	for _, n := range names {
		var passed []netip.Addr
		for _, a := range r.config.Hosts[n] {
			if r.config.Audit || r.config.Policy.Answer(n, a, true).Allowed {
				passed = append(passed, a.Unmap().WithZone(""))
			}
		}
		r.hosts[n] = passed
		for _, a := range passed {
			if r.bound.size() < maxHostBindings {
				r.bound.add(n, a)
			}
		}
	}
}

// decide says what the answer to a question is, and asks upstream if it must.
// Without wait it does not, and ok is then false.
func (r *Resolver) decide(ctx context.Context, q dnsmessage.Question, wait bool) (a answer, ok bool) {
	if q.Class != dnsmessage.ClassINET {
		return failure(dnsmessage.RCodeRefused, codeNotSupported, "only class IN is served"), true
	}
	if q.Type == dnsmessage.TypePTR {
		return r.pointer(q.Name), true
	}
	told := Query{Name: escaped(q.Name), Type: typeName(q.Type)}
	a, v, ok := r.judge(ctx, q, wait)
	if !ok {
		return a, false
	}
	told.Verdict, told.Err = v, a.err
	r.report(ctx, told)
	for _, no := range a.refused {
		told.Addr, told.Verdict, told.Err = no.addr, no.verdict, nil
		r.report(ctx, told)
	}
	return a, true
}

func (r *Resolver) report(ctx context.Context, q Query) {
	q.PID, _ = ctx.Value(pidKey{}).(int32)
	r.config.Report(q)
}

// judge answers a question about a name, with the verdict about the name.
func (r *Resolver) judge(ctx context.Context, q dnsmessage.Question, wait bool) (a answer, v endpoint.Verdict, ok bool) {
	n, ok := questionName(q.Name)
	if !ok {
		return denied(endpoint.Verdict{}), endpoint.Verdict{}, true
	}
	if isLocalhost(n) {
		return r.local(n, q.Type, loopback()), endpoint.Verdict{Allowed: true, Reason: endpoint.AllowRule}, true
	}
	v = r.config.Policy.Name(n)
	if !v.Allowed && !r.config.Audit {
		return denied(v), v, true
	}
	if !served(q.Type) {
		a := failure(dnsmessage.RCodeRefused, codeNotSupported, ErrType.Error())
		a.err = ErrType
		return a, endpoint.Verdict{}, true
	}
	if addrs, ok := r.hosts[n]; ok {
		return r.local(n, q.Type, addrs), v, true
	}
	a, ok = r.lookup(ctx, question{n, q.Type}, wait)
	return a, v, ok
}

// lookup answers from the cache, or from upstream together with everybody else
// who asks the same at the same time, if it may wait.
func (r *Resolver) lookup(ctx context.Context, q question, wait bool) (a answer, ok bool) {
	a, ok = r.cache.get(q, r.now())
	if !ok && wait {
		ok = true
		a = r.flights.do(ctx, q, func(ctx context.Context) answer {
			a := r.resolve(ctx, q)
			r.cache.put(q, a, r.now())
			return a
		})
	}
	return a, ok
}

// served tells whether queries of a type are answered. PTR has its own way.
func served(qtype dnsmessage.Type) bool {
	switch qtype {
	case dnsmessage.TypeA, dnsmessage.TypeAAAA, dnsmessage.TypeCNAME, dnsmessage.TypeHTTPS, dnsmessage.TypeSVCB, dnsmessage.TypeSRV:
		return true
	}
	return false
}

// Extended errors, RFC 8914 section 4.
const (
	codeBlocked      = 15
	codeNotSupported = 21
	codeNetworkError = 23
)

// failure is an answer without records, with an extended error.
func failure(rcode dnsmessage.RCode, code uint16, text string) answer {
	return answer{rcode: rcode, info: &extendedError{code, text}}
}

// denied is the answer to a name that may not be resolved.
func denied(v endpoint.Verdict) answer {
	return failure(dnsmessage.RCodeNameError, codeBlocked, v.Reason.String())
}
