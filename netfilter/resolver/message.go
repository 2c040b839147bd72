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
	out, err := q.pack(a, len(a.records), false)
	if err != nil || len(out) <= size {
		return out, err
	}
	// The records are of about the same length: so the first guess is close.
	for keep := len(a.records) * size / len(out); keep >= 0; keep-- {
		if out, err = q.pack(a, keep, true); err != nil || len(out) <= size {
			return out, err
		}
	}
	return nil, errQuery
}

// pack makes the message with the first records of an answer.
func (q *request) pack(a answer, records int, truncated bool) ([]byte, error) {
	b := dnsmessage.NewBuilder(make([]byte, 0, minUDP), dnsmessage.Header{ID: q.header.ID, Response: true, Truncated: truncated,
		RecursionDesired: q.header.RecursionDesired, RecursionAvailable: true, CheckingDisabled: q.header.CheckingDisabled, RCode: a.rcode & 0xf})
	b.EnableCompression()
	if err := b.StartQuestions(); err != nil {
		return nil, err
	}
	if err := b.Question(q.question); err != nil {
		return nil, err
	}
	if err := b.StartAnswers(); err != nil {
		return nil, err
	}
	asked := lower(q.question.Name)
	for _, rr := range a.records[:records] {
		rr.ttl = a.ttl
		if lower(rr.name) == asked {
			rr.name = q.question.Name // with the client's casing
		}
		if err := rr.write(&b); err != nil {
			return nil, err
		}
	}
	if a.soa != nil && !truncated {
		if err := b.StartAuthorities(); err != nil {
			return nil, err
		}
		if err := b.SOAResource(dnsmessage.ResourceHeader{Name: a.soa.name, Class: dnsmessage.ClassINET, TTL: a.ttl}, a.soa.body); err != nil {
			return nil, err
		}
	}
	if q.edns {
		if err := writeOPT(&b, a.rcode, q.dnssecOK, a.info.options()); err != nil {
			return nil, err
		}
	}
	return b.Finish()
}

// writeOPT adds our EDNS record as the only additional one.
func writeOPT(b *dnsmessage.Builder, rcode dnsmessage.RCode, dnssecOK bool, options []dnsmessage.Option) error {
	if err := b.StartAdditionals(); err != nil {
		return err
	}
	h := dnsmessage.ResourceHeader{Name: rootName}
	if err := h.SetEDNS0(ednsSize, rcode, dnssecOK); err != nil {
		return err
	}
	return b.OPTResource(h, dnsmessage.OPTResource{Options: options})
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
