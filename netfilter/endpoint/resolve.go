package endpoint

import (
	"net/netip"
	"strconv"
)

// protocols are those that a connection can have.
var protocols = [...]Protocol{TCP, UDP, ICMP}

// Name decides whether a name may be resolved at all: some allow rule covers it on
// a port that the deny rules leave open.
func (p *Policy) Name(n Name) Verdict {
	if n.IsZero() {
		return Verdict{}
	}
	var behind *Rule
	for _, proto := range protocols {
		denied, d := p.deniedPorts(n, proto)
		for i := range p.allow {
			r := &p.allow[i]
			switch {
			case r.Protocol != proto || !r.coversName(n):
			case !denied.Covers(r.Ports):
				return Verdict{Allowed: true, Rule: r, Reason: AllowRule}
			case behind == nil:
				behind = d
			}
		}
	}
	if behind != nil {
		return Verdict{Rule: behind, Reason: DenyRule}
	}
	denied, d := p.deniedPorts(n, TCP)
	if denied.IsAll() {
		return Verdict{Rule: d, Reason: DenyRule}
	}
	return Verdict{Reason: NoRule, AllowWith: "--allow " + n.text + ":" + strconv.Itoa(int(open(denied)))}
}

// deniedPorts returns the ports of a protocol that deny rules close for a name,
// and the last of these rules.
func (p *Policy) deniedPorts(n Name, proto Protocol) (denied PortSet, last *Rule) {
	for i := range p.deny {
		d := &p.deny[i]
		if (d.Protocol != AnyProtocol && d.Protocol != proto) || !d.coversName(n) || proto == ICMP && !d.Ports.IsAll() {
			continue
		}
		denied, last = denied.union(d.Ports), d
	}
	return denied, last
}

// open returns the likeliest port outside a set that is not every port.
func open(denied PortSet) uint16 {
	for _, port := range [...]uint16{443, 80} {
		if !denied.Has(port) {
			return port
		}
	}
	port := uint16(1)
	for port < maxPort && denied.Has(port) {
		port++
	}
	return port
}

// Answer decides whether an address may be an answer to a name that may be
// resolved. fromHosts: the host's own file gives it. A name leads to an address
// that is not public only with Options.AllowPrivate, from the host's file, or
// when rules for that address or a range of its kind allow there every port that
// the rules for the name allow: so no answer opens what no rule names. localhost
// and names below it lead to the loopback (RFC 6761).
func (p *Policy) Answer(n Name, a netip.Addr, fromHosts bool) Verdict {
	if !a.IsValid() || n.IsZero() {
		return Verdict{}
	}
	v := viewsOf(a)
	for i := range p.deny {
		if d := &p.deny[i]; d.Protocol == AnyProtocol && d.Ports.IsAll() && v.any(d) {
			return Verdict{Rule: d, Reason: DenyRule}
		}
	}
	_, special := Special(a)
	switch {
	case !special:
		return Verdict{Allowed: true, Reason: PublicAddress}
	case fromHosts:
		return Verdict{Allowed: true, Reason: HostsFile}
	case p.allowPrivate:
		return Verdict{Allowed: true, Reason: PrivateAllowed}
	}
	if r := p.namesAddr(n, v.list[0]); r != nil {
		return Verdict{Allowed: true, Rule: r, Reason: AllowRule}
	}
	if n.local() && v.list[0].IsLoopback() {
		return Verdict{Allowed: true, Reason: AllowRule}
	}
	return Verdict{Reason: SpecialUse, AllowWith: "--allow-private"}
}

// namesAddr returns a rule that names a special-use address, if such rules allow
// all that the rules for the name would allow there.
func (p *Policy) namesAddr(n Name, a netip.Addr) (behind *Rule) {
	for _, proto := range protocols {
		var want, have PortSet
		for i := range p.allow {
			r := &p.allow[i]
			switch {
			case r.Protocol != proto:
			case r.isSpecial() && r.coversAddr(a):
				have, behind = have.union(r.Ports), r
			case r.byName() && r.coversName(n):
				want = want.union(r.Ports)
			}
		}
		if !have.Covers(want) {
			return nil
		}
	}
	return behind
}

// isSpecial tells whether a rule names special-use addresses and no others; a
// range such as 0.0.0.0/0 names none of them in particular.
func (r *Rule) isSpecial() bool {
	switch {
	case r.Kind == KindLocalhost:
		return true
	case r.Kind != KindPrefix:
		return false
	case r.Prefix.IsSingleIP():
		_, special := Special(r.Prefix.Addr())
		return special
	}
	class, bits := classOf(r.Prefix.Addr())
	return class != Public && bits <= r.Prefix.Bits()
}
