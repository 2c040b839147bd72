package endpoint

import (
	"net/netip"
	"slices"
	"strconv"
)

// Connect decides about traffic to an address and a port (ignored for ICMP). It is
// the one decision for every path to the network. bound are the names that the
// resolver bound to the address, those that deny rules cover on some ports
// included; Connect keeps none of them. An allow rule for the address allows
// directly; one for a bound name allows after a look at the first message when
// the port is an inspected one and the rule is not raw. A deny rule that covers
// the address, an address inside it, or one of the bound names wins.
//
// With Options.Chained a public address is allowed only where a first message can
// name the host.
//
// Connect does not allocate when an address rule allows.
func (p *Policy) Connect(proto Protocol, to netip.AddrPort, bound []Name) Verdict {
	v := p.connect(proto, to, bound)
	if v.Allowed && p.chained != nil {
		return p.chain(v, proto, to, bound)
	}
	return v
}

// chain turns a verdict that allows into one for what another proxy can reach.
func (p *Policy) chain(v Verdict, proto Protocol, to netip.AddrPort, bound []Name) Verdict {
	if _, special := Special(to.Addr()); special {
		return v
	}
	port := to.Port()
	if len(v.Names) == 0 {
		v.Names = slices.Clone(bound)
	}
	if proto != TCP || v.Rule.Raw || len(v.Names) == 0 || !p.inspect.Has(port) && !p.chained(port) {
		return Verdict{Rule: v.Rule, Reason: Unchained}
	}
	v.Inspect = true
	return v
}

func (p *Policy) connect(proto Protocol, to netip.AddrPort, bound []Name) Verdict {
	if !to.Addr().IsValid() || proto == AnyProtocol {
		return Verdict{}
	}
	port := to.Port()
	v := viewsOf(to.Addr())
	for i := range p.deny {
		r := &p.deny[i]
		if r.speaks(proto, port) && (v.any(r) || r.coversOneOf(bound)) {
			return Verdict{Rule: r, Reason: DenyRule}
		}
	}
	addr := v.list[0]
	for i := range p.allow {
		if r := &p.allow[i]; r.speaks(proto, port) && r.allowsAddr(addr) {
			return Verdict{Allowed: true, Rule: r, Reason: AllowRule}
		}
	}
	if out := p.byName(proto, port, bound); out.Allowed {
		return out
	}
	return Verdict{Reason: p.nearest(proto, addr, bound), AllowWith: allowFlag(proto, addr, port, bound)}
}

// byName decides by the allow rules for names.
func (p *Policy) byName(proto Protocol, port uint16, bound []Name) (v Verdict) {
	raw := false
	for _, n := range bound {
		covered := false
		for i := range p.allow {
			r := &p.allow[i]
			if !r.byName() || !r.speaks(proto, port) || !r.coversName(n) {
				continue
			}
			covered = true
			if v.Rule == nil || r.Raw && !raw {
				v.Rule = r
			}
			raw = raw || r.Raw
		}
		if covered {
			v.Names = append(v.Names, n)
		}
	}
	if v.Rule == nil {
		return Verdict{}
	}
	v.Allowed, v.Reason = true, AllowRule
	v.Inspect = !raw && proto == TCP && p.inspect.Has(port)
	return v
}

// nearest says how far from allowing an endpoint the allow rules are.
func (p *Policy) nearest(proto Protocol, a netip.Addr, bound []Name) Reason {
	out := NoRule
	for i := range p.allow {
		r := &p.allow[i]
		if !r.allowsAddr(a) && !(r.byName() && r.coversOneOf(bound)) {
			continue
		}
		if r.Protocol == proto {
			return OtherPort
		}
		out = OtherProtocol
	}
	return out
}

// allowFlag returns the narrowest flag that allows an endpoint which no deny rule
// covers.
func allowFlag(proto Protocol, a netip.Addr, port uint16, bound []Name) string {
	target := ""
	// The rule localhost is one for addresses, also when the name is bound.
	for _, n := range bound {
		if n.text != localhost && !n.IsZero() {
			target = n.text
			break
		}
	}
	switch {
	case target != "":
	case a.IsLoopback(), a.IsUnspecified():
		target = localhost
	case a.Is6() && proto != ICMP:
		target = "[" + a.String() + "]"
	default:
		target = a.String()
	}
	switch {
	case proto == ICMP:
		return "--allow icmp://" + target
	case port == 0: // no rule names it
		return ""
	case proto == UDP:
		target = "udp://" + target
	}
	return "--allow " + target + ":" + strconv.Itoa(int(port))
}
