package resolver

import (
	"context"
	"encoding/binary"
	"errors"

	"golang.org/x/net/dns/dnsmessage"
)

const (
	headerLen = 12    // RFC 1035 section 4.1.1
	maxQuery  = 4096  // bytes; one question and its EDNS options need some hundred
	maxStream = 65535 // bytes of a message over TCP, RFC 1035 section 4.2.2
	minUDP    = 512   // bytes of an answer over UDP to a client without EDNS, RFC 1035 section 4.2.1
	maxUDP    = 4096  // bytes of an answer over UDP, whatever the client offers
	ednsSize  = 1232  // bytes, what we announce: fits every path (DNS flag day 2020)

	rcodeBadVersion = dnsmessage.RCode(16) // BADVERS, RFC 6891 section 9
	optionExtended  = 15                   // EDNS option code of an extended error, RFC 8914
)

// Answer is Handle for what needs no upstream; ok is false when Handle must be
// asked. It does not block.
func (r *Resolver) Answer(ctx context.Context, query []byte, tcp bool) (out []byte, ok bool) {
	return r.handle(ctx, query, tcp, false)
}

// Handle answers one DNS message, which came over UDP or TCP (without the length
// in front). It returns the answer, owned by the caller, at most 65535 bytes and
// over UDP at most what the client's EDNS or RFC 1035 says; nil means that the
// message deserves none. It blocks for the upstream, at most flightLimit or until
// ctx ends, and never panics.
func (r *Resolver) Handle(ctx context.Context, query []byte, tcp bool) []byte {
	out, _ := r.handle(ctx, query, tcp, true)
	return out
}

// handle answers; without wait, ok is false where upstream would be asked.
func (r *Resolver) handle(ctx context.Context, query []byte, tcp, wait bool) (out []byte, ok bool) {
	if len(query) < headerLen || query[2]&0x80 != 0 {
		return nil, true
	}
	defer func() {
		if recover() != nil {
			out, ok = bare(query, dnsmessage.RCodeServerFailure), true
		}
	}()
	if opcode := query[2] >> 3 & 0xf; opcode != 0 {
		return bare(query, dnsmessage.RCodeNotImplemented), true
	}
	if len(query) > maxQuery {
		return bare(query, dnsmessage.RCodeFormatError), true
	}
	if end, ok := dotted(query); ok {
		return r.refuseDotted(ctx, query, end), true
	}
	q, err := parseQuery(query)
	if err != nil {
		return bare(query, dnsmessage.RCodeFormatError), true
	}
	var a answer
	if q.version != 0 {
		a.rcode = rcodeBadVersion
	} else if a, ok = r.decide(ctx, q.question, wait); !ok {
		return nil, false
	}
	size := q.size
	if tcp {
		size = maxStream
	}
	if out, err = q.reply(a, size); err != nil {
		return bare(query, dnsmessage.RCodeServerFailure), true
	}
	return out, true
}

// request is a query as far as it matters.
type request struct {
	header   dnsmessage.Header
	question dnsmessage.Question
	edns     bool
	dnssecOK bool
	version  uint8 // of EDNS
	size     int   // of an answer over UDP
}

var errQuery = errors.New("not a query with one question")

func parseQuery(query []byte) (request, error) {
	q := request{size: minUDP}
	var p dnsmessage.Parser
	var err error
	if q.header, err = p.Start(query); err != nil {
		return q, err
	}
	questions, err := p.AllQuestions()
	if err != nil {
		return q, err
	}
	if len(questions) != 1 {
		return q, errQuery
	}
	q.question = questions[0]
	if err := p.SkipAllAnswers(); err != nil {
		return q, err
	}
	if err := p.SkipAllAuthorities(); err != nil {
		return q, err
	}
	for {
		h, err := p.AdditionalHeader()
		if err == dnsmessage.ErrSectionDone {
			return q, nil
		}
		if err != nil {
			return q, err
		}
		if h.Type == dnsmessage.TypeOPT {
			if q.edns { // RFC 6891 section 6.1.1
				return q, errQuery
			}
			q.edns, q.dnssecOK, q.version = true, h.DNSSECAllowed(), uint8(h.TTL>>16)
			q.size = min(max(q.size, int(h.Class)), maxUDP)
		}
		if err := p.SkipAdditional(); err != nil {
			return q, err
		}
	}
}

// reply packs an answer into at most size bytes. What does not fit is cut off
// and the client told to ask over TCP.
func (q *request) reply(a answer, size int) ([]byte, error) {
	m := dnsmessage.Message{
		Header: dnsmessage.Header{ID: q.header.ID, Response: true, RecursionDesired: q.header.RecursionDesired,
			RecursionAvailable: true, CheckingDisabled: q.header.CheckingDisabled, RCode: a.rcode & 0xf},
		Questions: []dnsmessage.Question{q.question},
		Answers:   make([]dnsmessage.Resource, 0, len(a.records)),
	}
	asked := lower(q.question.Name)
	for _, rr := range a.records {
		rr.Header.TTL = a.ttl
		if lower(rr.Header.Name) == asked {
			rr.Header.Name = q.question.Name // with the client's casing
		}
		m.Answers = append(m.Answers, rr)
	}
	if a.soa != nil {
		soa := *a.soa
		soa.Header.TTL = a.ttl
		m.Authorities = []dnsmessage.Resource{soa}
	}
	if q.edns {
		opt := dnsmessage.Resource{Header: dnsmessage.ResourceHeader{Name: rootName}, Body: &dnsmessage.OPTResource{Options: a.info.options()}}
		if err := opt.Header.SetEDNS0(ednsSize, a.rcode, q.dnssecOK); err != nil {
			return nil, err
		}
		m.Additionals = []dnsmessage.Resource{opt}
	}
	out, err := m.Pack()
	if err != nil || len(out) <= size {
		return out, err
	}
	// The records are of about the same length: so the first guess is close.
	m.Authorities = nil
	keep := len(m.Answers) * size / len(out)
	for m.Truncated = true; keep >= 0; keep-- {
		m.Answers = m.Answers[:keep]
		if out, err = m.Pack(); err != nil || len(out) <= size {
			return out, err
		}
	}
	return nil, errQuery
}

// extendedError is an extended error (RFC 8914), nil for none.
type extendedError struct {
	code uint16
	text string
}

func (e *extendedError) options() []dnsmessage.Option {
	if e == nil {
		return nil
	}
	return []dnsmessage.Option{{Code: optionExtended, Data: append(binary.BigEndian.AppendUint16(nil, e.code), e.text...)}}
}

// bare answers a message that cannot be read, or not be answered, with its
// header only.
func bare(query []byte, rcode dnsmessage.RCode) []byte {
	out := make([]byte, headerLen)
	copy(out, query[:4])
	out[2] = out[2]&0x79 | 0x80 // QR; opcode and RD stay
	out[3] = 0x80 | byte(rcode) // RA
	return out
}

// dotted tells whether a message has one question about a name in which a label
// has a dot: the library reads no such name, and no rule can mean one. end is
// where the question ends.
func dotted(query []byte) (end int, ok bool) {
	if binary.BigEndian.Uint16(query[4:]) != 1 {
		return 0, false
	}
	at := headerLen
	for at < len(query) && query[at] != 0 && query[at] < 0x40 {
		for _, c := range query[min(at+1, len(query)):min(at+1+int(query[at]), len(query))] {
			ok = ok || c == '.'
		}
		at += 1 + int(query[at])
	}
	at += 5 // the root, type and class
	return at, ok && at <= len(query) && query[at-5] == 0
}

// refuseDotted answers a query about such a name: it does not exist.
func (r *Resolver) refuseDotted(ctx context.Context, query []byte, end int) []byte {
	r.report(ctx, Query{Name: presentation(query[headerLen:]), Type: typeName(dnsmessage.Type(binary.BigEndian.Uint16(query[end-4:])))})
	out := append(bare(query, dnsmessage.RCodeNameError), query[headerLen:end]...)
	out[5] = 1 // question
	return out
}
