package resolver

import (
	"net/netip"

	"golang.org/x/net/dns/dnsmessage"
)

// record is a resource record of class IN. It is our own type, and kept out of
// interfaces: a value of the library's in an interface would keep its methods for
// printing, and with them tables that each start would build, for 0.06 ms.
type record struct {
	name    dnsmessage.Name
	typ     dnsmessage.Type
	ttl     uint32
	addr    netip.Addr      // of A and AAAA
	target  dnsmessage.Name // of CNAME, PTR and SRV
	srv     [3]uint16       // priority, weight and port of SRV
	service *service        // of SVCB and HTTPS
}

type service struct {
	priority uint16
	target   dnsmessage.Name
	params   []dnsmessage.SVCParam
}

// soa is the start of a zone of authority.
type soa struct {
	name dnsmessage.Name
	ttl  uint32
	body dnsmessage.SOAResource
}

// readRecord reads the record at which the parser stands, whose header is h. A
// record of no use is skipped, and ok is then false.
func readRecord(p *dnsmessage.Parser, h dnsmessage.ResourceHeader) (r record, ok bool, err error) {
	if h.Class != dnsmessage.ClassINET {
		return r, false, p.SkipAnswer()
	}
	r = record{name: h.Name, typ: h.Type, ttl: h.TTL}
	// The library does not compare the length of an address with its record's.
	switch {
	case h.Type == dnsmessage.TypeA && h.Length == 4:
		body, err := p.AResource()
		r.addr = netip.AddrFrom4(body.A)
		return r, err == nil, err
	case h.Type == dnsmessage.TypeAAAA && h.Length == 16:
		body, err := p.AAAAResource()
		r.addr = netip.AddrFrom16(body.AAAA).Unmap()
		return r, err == nil, err
	case h.Type == dnsmessage.TypeCNAME:
		body, err := p.CNAMEResource()
		r.target = body.CNAME
		return r, err == nil, err
	case h.Type == dnsmessage.TypeSRV:
		body, err := p.SRVResource()
		r.target, r.srv = body.Target, [3]uint16{body.Priority, body.Weight, body.Port}
		return r, err == nil, err
	case h.Type == dnsmessage.TypeSVCB:
		body, err := p.SVCBResource()
		r.service = &service{body.Priority, body.Target, body.Params}
		return r, err == nil, err
	case h.Type == dnsmessage.TypeHTTPS:
		body, err := p.HTTPSResource()
		r.service = &service{body.Priority, body.Target, body.Params}
		return r, err == nil, err
	}
	return r, false, p.SkipAnswer()
}

// write adds the record to a message.
func (r *record) write(b *dnsmessage.Builder) error {
	h := dnsmessage.ResourceHeader{Name: r.name, Class: dnsmessage.ClassINET, TTL: r.ttl}
	switch r.typ {
	case dnsmessage.TypeA:
		return b.AResource(h, dnsmessage.AResource{A: r.addr.As4()})
	case dnsmessage.TypeAAAA:
		return b.AAAAResource(h, dnsmessage.AAAAResource{AAAA: r.addr.As16()})
	case dnsmessage.TypeCNAME:
		return b.CNAMEResource(h, dnsmessage.CNAMEResource{CNAME: r.target})
	case dnsmessage.TypePTR:
		return b.PTRResource(h, dnsmessage.PTRResource{PTR: r.target})
	case dnsmessage.TypeSRV:
		return b.SRVResource(h, dnsmessage.SRVResource{Priority: r.srv[0], Weight: r.srv[1], Port: r.srv[2], Target: r.target})
	}
	s := dnsmessage.SVCBResource{Priority: r.service.priority, Target: r.service.target, Params: r.service.params}
	if r.typ == dnsmessage.TypeHTTPS {
		return b.HTTPSResource(h, dnsmessage.HTTPSResource{SVCBResource: s})
	}
	return b.SVCBResource(h, s)
}
