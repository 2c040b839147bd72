package endpoint

import (
	"net/netip"
	"strconv"
	"strings"
)

// Protocol is what an endpoint speaks or a rule is about.
type Protocol uint8

// The protocols. AnyProtocol occurs in deny rules only.
const (
	AnyProtocol Protocol = iota
	TCP
	UDP
	ICMP
)

// String returns "any", "tcp", "udp" or "icmp".
func (p Protocol) String() string {
	switch p {
	case TCP:
		return "tcp"
	case UDP:
		return "udp"
	case ICMP:
		return "icmp"
	}
	return "any"
}

// Endpoint is a place that traffic goes to. Name or Addr may be zero; ICMP has no
// port.
type Endpoint struct {
	Protocol Protocol
	Name     Name
	Addr     netip.Addr
	Port     uint16
}

// String returns a text for people, such as "tcp api.example.com:443 (203.0.113.5)".
func (e Endpoint) String() string {
	var out strings.Builder
	out.WriteString(e.Protocol.String())
	out.WriteByte(' ')
	switch {
	case !e.Name.IsZero():
		out.WriteString(e.Name.text)
	case e.Addr.Is6() && e.Protocol != ICMP:
		out.WriteString("[" + e.Addr.String() + "]")
	case e.Addr.IsValid():
		out.WriteString(e.Addr.String())
	default:
		out.WriteByte('?')
	}
	if e.Protocol != ICMP {
		out.WriteString(":" + strconv.Itoa(int(e.Port)))
	}
	if !e.Name.IsZero() && e.Addr.IsValid() {
		out.WriteString(" (" + e.Addr.String() + ")")
	}
	return out.String()
}

// Action is what a rule does.
type Action uint8

// The actions. The zero Action is none, and no policy accepts it.
const (
	Allow Action = iota + 1
	Deny
)

// String returns "allow" or "deny".
func (a Action) String() string {
	switch a {
	case Allow:
		return "allow"
	case Deny:
		return "deny"
	}
	return "none"
}

// Kind is the kind of a rule's target.
type Kind uint8

// The kinds. The zero Kind is none, and no policy accepts it.
const (
	KindName      Kind = iota + 1 // Rule.Name
	KindWildcard                  // every name below Rule.Name
	KindPrefix                    // every address of Rule.Prefix
	KindLocalhost                 // the loopback addresses, and the name localhost
	KindAny                       // every name and every address
)

// Rule allows or denies endpoints. ParseRule makes one.
type Rule struct {
	Action   Action
	Protocol Protocol // AnyProtocol in a deny rule without a scheme
	Kind     Kind
	Name     Name         // KindName, KindWildcard
	Prefix   netip.Prefix // KindPrefix; masked, never 4in6
	Ports    PortSet      // every port for ICMP
	Raw      bool         // pass through without looking for the name
	Text     string       // as the user wrote it
	Source   string       // where it was written: "--allow", "policy.toml:12"
}

// String returns the rule in its canonical form; ParseRule with the same action
// reads it back to an equal rule.
func (r Rule) String() string {
	var out strings.Builder
	switch {
	case r.Raw:
		out.WriteString("raw://")
	case r.Protocol != AnyProtocol:
		out.WriteString(r.Protocol.String() + "://")
	}
	ports := ""
	if r.Protocol != ICMP && !r.Ports.equal(r.portless()) {
		ports = ":" + r.Ports.String()
	}
	target := r.target()
	if ports != "" && r.Kind == KindPrefix && r.Prefix.Addr().Is6() {
		target = "[" + target + "]"
	}
	return out.String() + target + ports
}

func (r *Rule) target() string {
	switch r.Kind {
	case KindName:
		return r.Name.text
	case KindWildcard:
		return "*." + r.Name.text
	case KindLocalhost:
		return localhost
	case KindPrefix:
		if r.Prefix.IsSingleIP() {
			return r.Prefix.Addr().String()
		}
		return r.Prefix.String()
	}
	return "*"
}

// portless returns what a rule of this action and kind means when it names no
// ports.
func (r *Rule) portless() PortSet {
	if r.Action == Allow && r.Protocol != ICMP && r.byName() {
		return Ports(80, 443)
	}
	return AllPorts()
}

// speaks tells whether the rule is about a port of a protocol.
func (r *Rule) speaks(proto Protocol, port uint16) bool {
	if r.Protocol != AnyProtocol && r.Protocol != proto {
		return false
	}
	// A deny of some ports says nothing about a protocol that has none.
	if proto == ICMP {
		return r.Ports.IsAll()
	}
	return r.Ports.Has(port)
}

func (r *Rule) coversName(n Name) bool {
	switch r.Kind {
	case KindName:
		return n == r.Name
	case KindWildcard:
		return n.below(r.Name)
	case KindLocalhost:
		return n.text == localhost
	case KindAny:
		return true
	}
	return false
}

func (r *Rule) coversAddr(a netip.Addr) bool {
	switch r.Kind {
	case KindPrefix:
		return r.Prefix.Contains(a)
	case KindLocalhost:
		return a.IsLoopback()
	case KindAny:
		return true
	}
	return false
}

func (r *Rule) coversOneOf(names []Name) bool {
	for _, n := range names {
		if r.coversName(n) {
			return true
		}
	}
	return false
}

// byName tells whether the rule covers names and through them the addresses bound
// to them.
func (r *Rule) byName() bool { return r.Kind == KindName || r.Kind == KindWildcard }

// coversTarget tells whether everything that o's target covers is covered by r's.
func (r *Rule) coversTarget(o *Rule) bool {
	switch {
	case r.Kind == KindAny:
		return true
	case o.Kind == KindName:
		return r.coversName(o.Name)
	case o.Kind == KindWildcard:
		return r.Kind == KindWildcard && (o.Name == r.Name || o.Name.below(r.Name))
	case o.Kind == KindLocalhost:
		return r.Kind == KindLocalhost
	case o.Kind != KindPrefix:
		return false
	case o.Prefix.IsSingleIP():
		return viewsOf(o.Prefix.Addr()).any(r)
	case r.Kind == KindLocalhost:
		return o.Prefix.Addr().Is4() && o.Prefix.Addr().IsLoopback() && o.Prefix.Bits() >= loopbackBits
	}
	return r.Kind == KindPrefix && r.Prefix.Bits() <= o.Prefix.Bits() && r.Prefix.Contains(o.Prefix.Addr())
}
