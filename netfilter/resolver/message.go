package resolver

import (
	"context"
	"encoding/binary"
	"strings"

	"github.com/miekg/dns"
)

const (
	headerLen = 12   // RFC 1035 section 4.1.1
	maxQuery  = 4096 // bytes; one question and its EDNS options need some hundred
	maxUDP    = 4096 // bytes of an answer over UDP, whatever the client offers
	ednsSize  = 1232 // bytes, what we announce: fits every path (DNS flag day 2020)
)

// Handle answers one DNS message, which came over UDP or TCP (without the length
// in front). It returns the answer, owned by the caller, at most 65535 bytes and
// over UDP at most what the client's EDNS or RFC 1035 says; nil means that the
// message deserves none. It blocks for the upstream, at most flightLimit or until
// ctx ends, and never panics.
func (r *Resolver) Handle(ctx context.Context, query []byte, tcp bool) (out []byte) {
	if len(query) < headerLen || query[2]&0x80 != 0 {
		return nil
	}
	defer func() {
		if recover() != nil {
			out = bare(query, dns.RcodeServerFailure)
		}
	}()
	var q dns.Msg
	if len(query) > maxQuery || q.Unpack(query) != nil {
		return bare(query, dns.RcodeFormatError)
	}
	m := new(dns.Msg).SetReply(&q)
	m.RecursionAvailable = true
	size, edns, good := options(&q, m)
	switch {
	case q.Opcode != dns.OpcodeQuery:
		return bare(query, dns.RcodeNotImplemented)
	case len(q.Question) != 1 || !good:
		m.Rcode = dns.RcodeFormatError
	case edns && q.IsEdns0().Version() != 0:
		m.Rcode = dns.RcodeBadVers
	default:
		r.fill(m, r.decide(ctx, q.Question[0]))
	}
	if tcp {
		size = dns.MaxMsgSize
	}
	m.Truncate(size)
	m.Compress = true
	out, err := m.Pack()
	if err != nil {
		return bare(query, dns.RcodeServerFailure)
	}
	return out
}

// options reads the client's EDNS (RFC 6891) and gives the reply its own. size
// is what a UDP answer may have; good is false for more than one OPT record.
func options(q, m *dns.Msg) (size int, edns, good bool) {
	size = dns.MinMsgSize
	for _, rr := range q.Extra {
		o, ok := rr.(*dns.OPT)
		if !ok {
			continue
		}
		if edns {
			return size, true, false
		}
		edns = true
		size = min(max(size, int(o.UDPSize())), maxUDP)
		m.SetEdns0(ednsSize, o.Do())
	}
	return size, edns, true
}

// fill puts an answer into a reply. Names of the question get its casing.
func (r *Resolver) fill(m *dns.Msg, a answer) {
	asked := m.Question[0].Name
	m.Rcode = a.rcode
	for _, rr := range a.records {
		rr = dns.Copy(rr)
		h := rr.Header()
		h.Ttl = a.ttl
		if strings.EqualFold(h.Name, asked) {
			h.Name = asked
		}
		m.Answer = append(m.Answer, rr)
	}
	if a.soa != nil {
		soa := dns.Copy(a.soa)
		soa.Header().Ttl = a.ttl
		m.Ns = append(m.Ns, soa)
	}
	if o := m.IsEdns0(); o != nil && a.info != nil {
		o.Option = append(o.Option, a.info)
	}
}

// bare answers a message that cannot be read, or not be answered, with its
// header only.
func bare(query []byte, rcode int) []byte {
	out := make([]byte, headerLen)
	copy(out, query[:4])
	out[2] = out[2]&0x79 | 0x80 // QR; opcode and RD stay
	out[3] = 0x80 | byte(rcode) // RA
	binary.BigEndian.PutUint64(out[4:], 0)
	return out
}
