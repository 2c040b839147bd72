package resolver

import (
	"golang.org/x/net/dns/dnsmessage"
)

// reply is what an upstream said, as far as it matters.
type reply struct {
	rcode     dnsmessage.RCode
	truncated bool
	edns      bool
	questions []dnsmessage.Question
	answers   []record
	soas      []soa
}

// parseReply reads a message. With an error, what stood before the fault is there.
func parseReply(msg []byte) (r reply, err error) {
	var p dnsmessage.Parser
	h, err := p.Start(msg)
	if err != nil {
		return r, err
	}
	r.rcode, r.truncated = h.RCode, h.Truncated
	if r.questions, err = p.AllQuestions(); err != nil {
		return r, err
	}
	for {
		h, err := p.AnswerHeader()
		if err == dnsmessage.ErrSectionDone {
			break
		}
		if err != nil {
			return r, err
		}
		rr, ok, err := readRecord(&p, h)
		if err != nil {
			return r, err
		}
		if ok {
			r.answers = append(r.answers, rr)
		}
	}
	for {
		h, err := p.AuthorityHeader()
		if err == dnsmessage.ErrSectionDone {
			break
		}
		if err != nil {
			return r, err
		}
		if h.Type == dnsmessage.TypeSOA && h.Class == dnsmessage.ClassINET {
			// One whose mailbox has a dot cannot be read and is not needed.
			if body, err := p.SOAResource(); err == nil {
				r.soas = append(r.soas, soa{h.Name, h.TTL, body})
				continue
			}
		}
		if err := p.SkipAuthority(); err != nil {
			return r, err
		}
	}
	for {
		h, err := p.AdditionalHeader()
		if err == dnsmessage.ErrSectionDone {
			return r, nil
		}
		if err != nil {
			return r, err
		}
		if h.Type == dnsmessage.TypeOPT && !r.edns {
			r.edns, r.rcode = true, h.ExtendedRCode(r.rcode)
		}
		if err := p.SkipAdditional(); err != nil {
			return r, err
		}
	}
}
