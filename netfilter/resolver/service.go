package resolver

import (
	"encoding/binary"
	"slices"
	"strings"

	"golang.org/x/net/dns/dnsmessage"
)

// services returns SVCB and HTTPS records (RFC 9460) without what would lead
// around the inspection: encrypted client hellos, address hints and HTTP/3. A
// record that leads to a name which may not be resolved is left out, so that
// clients fall back at once.
func (r *Resolver) services(rrs []record) []record {
	var keep []record
	for _, rr := range rrs {
		s := rr.service
		if s == nil || !r.mayLead(rr.name, s.target) {
			continue
		}
		params, ok := clean(s.params)
		if !ok {
			continue
		}
		rr.service = &service{s.priority, s.target, params}
		keep = append(keep, rr)
	}
	return keep
}

func (r *Resolver) mayLead(owner, target dnsmessage.Name) bool {
	if target == rootName || lower(target) == lower(owner) {
		return true
	}
	n, ok := questionName(target)
	return ok && (r.config.Audit || r.config.Policy.Name(n).Allowed)
}

// clean returns the parameters that may stay; false means that the record is of
// no use then.
func clean(params []dnsmessage.SVCParam) (keep []dnsmessage.SVCParam, ok bool) {
	gone := []dnsmessage.SVCParamKey{dnsmessage.SVCParamECH, dnsmessage.SVCParamIPv4Hint, dnsmessage.SVCParamIPv6Hint}
	isGone := func(k dnsmessage.SVCParamKey) bool { return slices.Contains(gone, k) }
	var alpn, mandatory []byte
	for _, p := range params {
		if p.Key == dnsmessage.SVCParamALPN {
			if alpn, ok = withoutHTTP3(p.Value); !ok {
				return nil, false
			}
			if len(alpn) == 0 {
				gone = append(gone, dnsmessage.SVCParamALPN)
			}
		}
	}
	noDefault := false
	for _, p := range params {
		switch {
		case isGone(p.Key):
			continue
		case p.Key == dnsmessage.SVCParamALPN:
			p.Value = alpn
		case p.Key == dnsmessage.SVCParamNoDefaultALPN:
			noDefault = true
		case p.Key == dnsmessage.SVCParamMandatory:
			if len(p.Value)%2 != 0 {
				return nil, false
			}
			for v := p.Value; len(v) > 0; v = v[2:] {
				if !isGone(dnsmessage.SVCParamKey(binary.BigEndian.Uint16(v))) {
					mandatory = append(mandatory, v[:2]...)
				}
			}
			if p.Value = mandatory; len(mandatory) == 0 {
				continue
			}
		}
		keep = append(keep, p)
	}
	// Without the default and without an alpn there is no protocol left to speak.
	return keep, !noDefault || !isGone(dnsmessage.SVCParamALPN)
}

// withoutHTTP3 returns a list of protocols, each behind its length (RFC 9460
// section 7.1.1), without HTTP/3 and its drafts. ok is false for a broken list.
func withoutHTTP3(list []byte) (keep []byte, ok bool) {
	for len(list) > 0 {
		n := 1 + int(list[0])
		if n == 1 || n > len(list) {
			return nil, false
		}
		if !isHTTP3(string(list[1:n])) {
			keep = append(keep, list[:n]...)
		}
		list = list[n:]
	}
	return keep, true
}

// isHTTP3 tells whether a protocol is HTTP/3 or one of its drafts.
func isHTTP3(alpn string) bool { return alpn == "h3" || strings.HasPrefix(alpn, "h3-") }
