// Package endpoint says where traffic may go: names, ports, rules, and the policy
// whose Connect is the one decision about an endpoint. It does no I/O.
package endpoint

import (
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
)

// Options are what a policy knows beside its rules.
type Options struct {
	// AllowPrivate lets names lead to addresses that are not public.
	AllowPrivate bool
	// InspectPorts are the TCP ports on which a connection to a name has to say
	// the name in its first message; nil means 80 and 443.
	InspectPorts []uint16
	// Chained, if not nil, says that public addresses are reached through another
	// proxy only, which takes names: so a connection has to say its name in its first
	// message. It tells on which ports, beside the inspected ones, somebody looks for
	// that.
	Chained func(port uint16) bool
}

// Policy is a set of rules. No rule means deny; a deny rule wins over every allow
// rule, whatever the order. A Policy does not change, and any number of goroutines
// may ask it.
type Policy struct {
	allow, deny  []Rule
	inspect      PortSet
	allowPrivate bool
	chained      func(port uint16) bool // nil: directly
	warnings     []string
}

// NewPolicy returns the policy of the rules, which it copies. It refuses a rule
// that ParseRule could not have made and an allow rule that can never match
// because deny rules cover it; the error names the rules.
func NewPolicy(rules []Rule, o Options) (*Policy, error) {
	p := &Policy{inspect: Ports(80, 443), allowPrivate: o.AllowPrivate, chained: o.Chained}
	if o.InspectPorts != nil {
		p.inspect = Ports(o.InspectPorts...)
	}
	for _, r := range rules {
		if err := r.check(); err != nil {
			return nil, err
		}
		if r.Action == Deny {
			p.deny = append(p.deny, r)
		} else {
			p.allow = append(p.allow, r)
		}
	}
	for i := range p.allow {
		if d := p.shadow(&p.allow[i]); d != nil {
			return nil, fmt.Errorf("%s can never match, because %s covers it; remove one of them", p.allow[i].origin(), d.origin())
		}
	}
	p.warn()
	return p, nil
}

// Warnings returns what a user should be told about the rules, a line each, without
// a final newline.
func (p *Policy) Warnings() []string { return slices.Clone(p.warnings) }

// AllowsItself tells whether an allow rule is for the name itself, no pattern that
// covers it, and for the port. Deny rules are not asked.
func (p *Policy) AllowsItself(proto Protocol, n Name, port uint16) bool {
	for i := range p.allow {
		if r := &p.allow[i]; r.Kind == KindName && r.Name == n && r.speaks(proto, port) {
			return true
		}
	}
	return false
}

// HasDatagramRules tells whether a rule allows UDP or ICMP.
func (p *Policy) HasDatagramRules() bool {
	return p.HasRules(UDP) || p.HasRules(ICMP)
}

// HasRules tells whether a rule allows something of the protocol.
func (p *Policy) HasRules(proto Protocol) bool {
	return slices.ContainsFunc(p.allow, func(r Rule) bool { return r.Protocol == proto })
}

// check holds for what ParseRule returns; a rule that a program filled in by hand
// must not be one that silently matches nothing.
func (r *Rule) check() error {
	named := r.byName()
	ok := (r.Action == Deny || r.Action == Allow && r.Protocol != AnyProtocol) && r.Protocol <= ICMP &&
		r.Kind >= KindName && r.Kind <= KindAny && named == !r.Name.IsZero() && !r.Ports.IsEmpty() &&
		(r.Protocol != ICMP || r.Ports.IsAll()) && (!r.Raw || named && r.Action == Allow && r.Protocol == TCP)
	if r.Kind == KindPrefix {
		ok = ok && r.Prefix.IsValid() && r.Prefix == r.Prefix.Masked() && !(r.Prefix.Addr().Is4In6() && r.Prefix.Bits() >= mappedBits)
	}
	if !ok {
		return fmt.Errorf("%s is not a rule that ParseRule makes", r.origin())
	}
	return nil
}

func (r *Rule) origin() string {
	text, source := r.Text, r.Source
	if text == "" {
		text = r.String()
	}
	if source == "" {
		source = r.Action.String() + " rule"
	}
	return fmt.Sprintf("%s %q", source, shorten(text))
}

// shadow returns a deny rule when the deny rules that cover all of a's target
// leave none of its ports.
func (p *Policy) shadow(a *Rule) *Rule {
	var denied PortSet
	for i := range p.deny {
		d := &p.deny[i]
		if !d.coversTarget(a) || !(d.Protocol == AnyProtocol || d.Protocol == a.Protocol) {
			continue
		}
		denied = denied.union(d.Ports)
		if denied.Covers(a.Ports) {
			return d
		}
	}
	return nil
}

func (p *Policy) warn() {
	if len(p.allow) == 0 && len(p.deny) > 0 {
		p.warnings = append(p.warnings, "there are deny rules only: nothing is allowed, with or without them")
	}
	for i := range p.allow {
		r := &p.allow[i]
		if r.Kind == KindWildcard && !strings.Contains(r.Name.text, ".") && r.Name.text != localhost {
			p.warnings = append(p.warnings, fmt.Sprintf(
				"%s allows every name below the top-level domain %s, whoever owns it; name the domain, as in *.example.%s",
				r.origin(), r.Name, r.Name))
		}
		if host, port := r.portInAddress(); port != "" {
			p.warnings = append(p.warnings, fmt.Sprintf(
				"%s is an address as a whole; for port %s of %s write [%s]:%s", r.origin(), port, host, host, port))
		}
	}
}

// portInAddress returns the two halves of an IPv6 address that reads like another
// address and a port, as ::1:80 does; port is "" for any other rule.
func (r *Rule) portInAddress() (host, port string) {
	text := r.Text
	if _, rest, ok := strings.Cut(text, "://"); ok {
		text = rest
	}
	i := strings.LastIndexByte(text, ':')
	if r.Kind != KindPrefix || i < 0 || strings.ContainsAny(text, "[]/.") {
		return "", ""
	}
	if a, err := netip.ParseAddr(text[:i]); err != nil || !a.Is6() {
		return "", ""
	}
	if n, err := strconv.ParseUint(text[i+1:], 10, 16); err != nil || n == 0 {
		return "", ""
	}
	return text[:i], text[i+1:]
}

// allowsAddr tells whether an allow rule covers wherever the address may lead on
// this host: for the unspecified one that is the loopback, in both families when
// the socket may choose.
func (r *Rule) allowsAddr(a netip.Addr) bool {
	if !a.IsUnspecified() {
		return r.coversAddr(a)
	}
	v4 := r.coversAddr(netip.AddrFrom4([4]byte{127, 0, 0, 1}))
	return v4 && (a.Is4() || r.coversAddr(netip.IPv6Loopback()))
}
