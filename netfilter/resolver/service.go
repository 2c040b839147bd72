package resolver

import (
	"slices"
	"strings"

	"github.com/miekg/dns"
)

// services returns SVCB and HTTPS records (RFC 9460) without what would lead
// around the inspection: encrypted client hellos, address hints and HTTP/3. A
// record that leads to a name which may not be resolved is left out, so that
// clients fall back at once.
func (r *Resolver) services(rrs []dns.RR) []dns.RR {
	var keep []dns.RR
	for _, rr := range rrs {
		rr = dns.Copy(rr)
		var s *dns.SVCB
		switch rr := rr.(type) {
		case *dns.SVCB:
			s = rr
		case *dns.HTTPS:
			s = &rr.SVCB
		default:
			continue
		}
		if r.mayLead(s) && clean(s) {
			keep = append(keep, rr)
		}
	}
	return keep
}

func (r *Resolver) mayLead(s *dns.SVCB) bool {
	if s.Target == "." || strings.EqualFold(s.Target, s.Hdr.Name) {
		return true
	}
	n, ok := questionName(s.Target)
	return ok && (r.config.Audit || r.config.Policy.Name(n).Allowed)
}

// clean strips the parameters; false means that the record is of no use then.
func clean(s *dns.SVCB) bool {
	gone := []dns.SVCBKey{dns.SVCB_ECHCONFIG, dns.SVCB_IPV4HINT, dns.SVCB_IPV6HINT}
	for _, kv := range s.Value {
		if alpn, ok := kv.(*dns.SVCBAlpn); ok {
			alpn.Alpn = slices.DeleteFunc(alpn.Alpn, isHTTP3)
			if len(alpn.Alpn) == 0 {
				gone = append(gone, dns.SVCB_ALPN)
			}
		}
	}
	isGone := func(k dns.SVCBKey) bool { return slices.Contains(gone, k) }
	s.Value = slices.DeleteFunc(s.Value, func(kv dns.SVCBKeyValue) bool {
		if m, ok := kv.(*dns.SVCBMandatory); ok {
			m.Code = slices.DeleteFunc(m.Code, isGone)
			return len(m.Code) == 0
		}
		return isGone(kv.Key())
	})
	// Without the default and without an alpn there is no protocol left to speak.
	return !isGone(dns.SVCB_ALPN) || !slices.ContainsFunc(s.Value, func(kv dns.SVCBKeyValue) bool {
		return kv.Key() == dns.SVCB_NO_DEFAULT_ALPN
	})
}

// isHTTP3 tells whether a protocol is HTTP/3 or one of its drafts.
func isHTTP3(alpn string) bool { return alpn == "h3" || strings.HasPrefix(alpn, "h3-") }
