package rule

import (
	"fmt"
	"net/netip"
	"slices"

	"github.com/sandlock/sandlock/netfilter/endpoint"
)

// Destination is where a connection leads on which requests come.
type Destination struct {
	// Addr is its address, invalid when unknown.
	Addr netip.Addr
	// Bound are the names that the resolver bound to the address.
	Bound []endpoint.Name
}

// Policy is a set of HTTP rules. A deny rule wins over every allow rule, whatever the
// order. Where an allow rule speaks of a host and port, only requests that allow
// rules cover pass there. Hosts of which deny rules alone speak are open as far as
// the endpoint rules open them. A Policy does not change, and any number of
// goroutines may ask it.
type Policy struct{ allow, deny []Rule }

// NewPolicy returns the policy of the rules, which it copies. It refuses a rule that
// Parse did not make, and an allow rule that can never match because a deny rule
// covers it; the error names the rules.
func NewPolicy(rules []Rule) (*Policy, error) {
	p := &Policy{}
	for _, r := range rules {
		if len(r.clauses) == 0 {
			return nil, fmt.Errorf("%s is not a rule that Parse makes", r.origin())
		}
		if r.Action == endpoint.Deny {
			p.deny = append(p.deny, r)
		} else {
			p.allow = append(p.allow, r)
		}
	}
	for i := range p.allow {
		for k := range p.deny {
			if p.deny[k].includes(&p.allow[i]) {
				return nil, fmt.Errorf("%s can never match, because %s covers it; remove one of them", p.allow[i].origin(), p.deny[k].origin())
			}
		}
	}
	return p, nil
}

// IsEmpty tells whether there is no rule.
func (p *Policy) IsEmpty() bool { return len(p.allow)+len(p.deny) == 0 }

// Implied returns the endpoint rules that the allow rules stand for: without them the
// requests could not leave. Deny rules open nothing. Text and Source are those of
// the HTTP rule.
func (p *Policy) Implied() []endpoint.Rule {
	var out []endpoint.Rule
	for i := range p.allow {
		out = append(out, p.allow[i].target)
	}
	return out
}

// Looks tells whether a connection to a port may be one to look into: some rule
// speaks of the port.
func (p *Policy) Looks(port uint16) bool {
	return p.some(func(r *Rule) bool { return r.target.Ports.Has(port) })
}

// Terminates tells whether a connection has to be looked into, because some rule
// speaks of it. name is what the client asked for in its first message (server
// name or Host), zero when it asked for an address or nothing; then the names that
// are bound to the address count.
func (p *Policy) Terminates(name endpoint.Name, to Destination, port uint16) bool {
	h := Host{Name: name}
	if name.IsZero() {
		h.Addr = to.Addr
	}
	return p.some(func(r *Rule) bool { return r.target.Ports.Has(port) && r.meets(h, to) })
}

// some tells whether a condition holds for one of the rules.
func (p *Policy) some(is func(*Rule) bool) bool {
	for _, rules := range [...][]Rule{p.allow, p.deny} {
		for i := range rules {
			if is(&rules[i]) {
				return true
			}
		}
	}
	return false
}

// Decide judges a request on a connection. It is the one decision for every way that
// a request can come. A verdict with the reason EndpointRules allows only as far as
// the endpoint rules do: ask them, without bound names, before dialling.
func (p *Policy) Decide(r Request, to Destination) Verdict {
	if r.Path.text == "" || r.Host.IsZero() {
		return Verdict{}
	}
	for i := range p.deny {
		if p.deny[i].denies(&r, to) {
			return Verdict{Rule: &p.deny[i], Reason: DenyRule}
		}
	}
	if v := p.allowed(&r); v.Allowed {
		return v
	}
	for i := range p.allow {
		if a := &p.allow[i]; a.target.Ports.Has(r.Port) && a.meets(r.Host, to) {
			return Verdict{Reason: p.nearest(&r), AllowWith: allowWith(&r)}
		}
	}
	return Verdict{Allowed: true, Reason: EndpointRules}
}

// allowed asks the allow rules: each reading has to be covered by one of them.
func (p *Policy) allowed(r *Request) Verdict {
	var first *Rule
	if r.Path.readings == nil {
		first = p.covering(r, r.Path.text)
	}
	for i, reading := range r.Path.readings {
		switch a := p.covering(r, reading); {
		case a == nil:
			return Verdict{}
		case i == 0:
			first = a
		}
	}
	if first == nil {
		return Verdict{}
	}
	return Verdict{Allowed: true, Rule: first, Reason: AllowRule}
}

// covering returns an allow rule that covers one reading of a request, or nil.
func (p *Policy) covering(r *Request, reading string) *Rule {
	for i := range p.allow {
		if a := &p.allow[i]; a.allows(r, reading) {
			return a
		}
	}
	return nil
}

// meets tells whether a rule speaks of a host, or of the connection to it: of the
// address that it leads to, and when the host is only an address, of a name that
// is bound to it.
func (r *Rule) meets(h Host, to Destination) bool {
	if r.target.CoversName(h.Name) || r.target.CoversAddr(h.Addr) || r.target.CoversAddr(to.Addr) {
		return true
	}
	return h.Name.IsZero() && slices.ContainsFunc(to.Bound, r.target.CoversName)
}

// speaks tells whether a rule is about requests with or without TLS.
func (s scheme) speaks(tls bool) bool { return s == anyScheme || (s == encrypted) == tls }

// Covers tells whether the rule by itself covers a request in all its readings.
func (r *Rule) Covers(req Request) bool {
	if req.Path.text == "" {
		return false
	}
	for _, reading := range req.Path.all() {
		if !r.allows(&req, reading) {
			return false
		}
	}
	return true
}

func (r *Rule) allows(req *Request, reading string) bool {
	if !r.scheme.speaks(req.TLS) || !r.everyPort && !r.target.Ports.Has(req.Port) ||
		!r.target.CoversName(req.Host.Name) && !r.target.CoversAddr(req.Host.Addr) {
		return false
	}
	for i := range r.clauses {
		c := &r.clauses[i]
		if c.speaks(req.Method) && (!c.exact || c.query == req.Query) && c.paths.cover(reading) {
			return true
		}
	}
	return false
}

// denies is generous where allows is strict: one reading is enough.
func (r *Rule) denies(req *Request, to Destination) bool {
	if !r.scheme.speaks(req.TLS) || !r.everyPort && !r.target.Ports.Has(req.Port) || !r.meets(req.Host, to) {
		return false
	}
	for i := range r.clauses {
		c := &r.clauses[i]
		if c.speaks(req.Method) && c.paths.meet(&req.Path) {
			return true
		}
	}
	return false
}

func (c *clause) speaks(method string) bool {
	return c.methods == nil || slices.Contains(c.methods, method)
}

// includes tells whether a deny rule leaves nothing of an allow rule.
func (r *Rule) includes(a *Rule) bool {
	if r.scheme != anyScheme && r.scheme != a.scheme || !r.everyPort && !r.target.Ports.Covers(a.target.Ports) || !r.target.CoversTarget(&a.target) {
		return false
	}
	for i := range a.clauses {
		if !slices.ContainsFunc(r.clauses, func(d clause) bool { return d.includes(&a.clauses[i]) }) {
			return false
		}
	}
	return true
}

func (c *clause) includes(a *clause) bool {
	if c.methods != nil && (a.methods == nil || slices.ContainsFunc(a.methods, func(m string) bool { return !slices.Contains(c.methods, m) })) {
		return false
	}
	for i := range a.paths {
		if !slices.ContainsFunc(c.paths, func(p pattern) bool { return p.includes(&a.paths[i]) }) {
			return false
		}
	}
	return true
}
