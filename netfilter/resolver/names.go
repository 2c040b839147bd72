package resolver

import (
	"net/netip"
	"strconv"
	"strings"

	"github.com/sandlock/sandlock/netfilter/endpoint"
	"golang.org/x/net/dns/dnsmessage"
)

const maxPointers = 16 // names in one PTR answer

// questionName reads the name of a query strictly: it must already be what a
// rule's name is but for case, so that what is judged is what is asked. No
// mapping, no escapes.
func questionName(qname dnsmessage.Name) (endpoint.Name, bool) {
	text := strings.TrimSuffix(qname.String(), ".")
	for i := range len(text) {
		if c := text[i]; c <= ' ' || c >= 0x7f || c == '\\' {
			return endpoint.Name{}, false
		}
	}
	n, err := endpoint.ParseName(text)
	return n, err == nil && n.String() == strings.ToLower(text)
}

// isLocalhost tells whether a name always means the loopback (RFC 6761 section 6.3).
func isLocalhost(n endpoint.Name) bool {
	return n.String() == "localhost" || strings.HasSuffix(n.String(), ".localhost")
}

func loopback() []netip.Addr {
	return []netip.Addr{netip.AddrFrom4([4]byte{127, 0, 0, 1}), netip.IPv6Loopback()}
}

// local answers from a table: addresses of the asked family, otherwise no data.
// What is not localhost is bound.
func (r *Resolver) local(n endpoint.Name, qtype dnsmessage.Type, addrs []netip.Addr) answer {
	a := answer{ttl: localTTL}
	for _, addr := range addrs {
		if family(addr) != qtype || len(a.records) >= maxPerName {
			continue
		}
		if isLocalhost(n) || r.bound.add(n, addr) {
			a.records = append(a.records, addressRecord(fqdn(n), qtype, addr))
		}
	}
	return a
}

// family is the type of record that holds an address.
func family(a netip.Addr) dnsmessage.Type {
	if a.Is4() {
		return dnsmessage.TypeA
	}
	return dnsmessage.TypeAAAA
}

func addressRecord(owner dnsmessage.Name, qtype dnsmessage.Type, a netip.Addr) record {
	return record{name: owner, typ: qtype, addr: a}
}

// pointer answers a PTR query from the bindings. All other pointers do not
// exist; that is not reported, because programs ask for pointers by themselves.
func (r *Resolver) pointer(qname dnsmessage.Name) answer {
	addr, ok := reverse(lower(qname))
	if !ok {
		return denied(endpoint.Verdict{})
	}
	a := answer{ttl: localTTL}
	add := func(name string) {
		if len(a.records) < maxPointers {
			a.records = append(a.records, record{name: qname, typ: dnsmessage.TypePTR, target: dnsmessage.MustNewName(name + ".")})
		}
	}
	for _, l := range loopback() {
		if l == addr {
			add("localhost")
		}
	}
	for _, n := range r.bound.names(addr) {
		add(n.String())
	}
	if a.records == nil {
		return denied(endpoint.Verdict{})
	}
	return a
}

// reverse reads the address out of a lower-case name below in-addr.arpa (RFC 1035 section
// 3.5) or ip6.arpa (RFC 3596 section 2.5).
func reverse(name string) (netip.Addr, bool) {
	if body, ok := strings.CutSuffix(name, ".in-addr.arpa."); ok {
		labels := strings.Split(body, ".")
		if len(labels) != 4 {
			return netip.Addr{}, false
		}
		var b [4]byte
		for i, l := range labels {
			v, err := strconv.ParseUint(l, 10, 8)
			if err != nil {
				return netip.Addr{}, false
			}
			b[3-i] = byte(v)
		}
		return netip.AddrFrom4(b), true
	}
	body, ok := strings.CutSuffix(name, ".ip6.arpa.")
	if !ok || len(body) != 63 { // 32 digits and the dots between them
		return netip.Addr{}, false
	}
	var b [16]byte
	for i := range 32 {
		v, err := strconv.ParseUint(body[2*i:2*i+1], 16, 4)
		if err != nil || i > 0 && body[2*i-1] != '.' {
			return netip.Addr{}, false
		}
		b[15-i/2] |= byte(v) << (4 * (i % 2))
	}
	return netip.AddrFrom16(b).Unmap(), true
}
