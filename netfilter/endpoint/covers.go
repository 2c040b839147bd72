package endpoint

import "net/netip"

// CoversName tells whether the target of the rule covers a name. Ports and
// protocol are not asked. The zero Name is covered by nothing.
func (r *Rule) CoversName(n Name) bool { return !n.IsZero() && r.coversName(n) }

// CoversAddr tells whether the target of the rule covers an address, as Connect
// asks it: an allow rule is asked about the address itself, in one form; a deny
// rule also about the addresses inside it. Ports and protocol are not asked. The
// invalid address is covered by nothing.
func (r *Rule) CoversAddr(a netip.Addr) bool {
	if !a.IsValid() {
		return false
	}
	v := viewsOf(a)
	if r.Action == Deny {
		return v.any(r)
	}
	return r.allowsAddr(v.list[0])
}

// CoversTarget tells whether everything that the target of o covers is covered by
// that of r.
func (r *Rule) CoversTarget(o *Rule) bool { return r.coversTarget(o) }
