package endpoint

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"
)

// schemes are the words before :// and what they mean.
var schemes = [...]struct {
	word  string
	proto Protocol
	raw   bool
}{
	{"tcp", TCP, false},
	{"raw", TCP, true},
	{"udp", UDP, false},
	{"icmp", ICMP, false},
}

// ParseRule reads [tcp://|raw://|udp://|icmp://]TARGET[:PORTS]. TARGET is a name,
// *.name, an address, a range in CIDR form, an IPv6 address or range in brackets,
// localhost, or *. PORTS is what ParsePorts reads. source says where the text was
// written and goes into errors and reports ("--allow"). What can never match is
// an error; an error names the text, quoted, and the remedy.
func ParseRule(a Action, text, source string) (Rule, error) {
	r := Rule{Action: a, Text: text, Source: source}
	if err := r.parse(text); err != nil {
		if source == "" {
			source = a.String() + " rule"
		}
		return Rule{}, fmt.Errorf("%s %q: %w", source, shorten(text), err)
	}
	return r, nil
}

func (r *Rule) parse(text string) error {
	body := text
	switch r.Action {
	case Allow:
		r.Protocol = TCP
	case Deny:
		r.Protocol = AnyProtocol
	default:
		return errors.New("a rule allows or denies")
	}
	if word, rest, ok := strings.Cut(text, "://"); ok {
		body = rest
		if err := r.setScheme(word, rest); err != nil {
			return err
		}
	}
	switch {
	case strings.TrimSpace(body) == "":
		return errors.New("the rule is empty; write NAME:PORT, or * for everything")
	case strings.Contains(body, "@"):
		return errors.New("an endpoint has no user; write only what follows the @")
	}
	target, ports, hasPorts, err := split(body)
	if err != nil {
		return err
	}
	if err := r.setTarget(target); err != nil {
		return err
	}
	if r.Raw && !r.byName() {
		return errors.New("raw:// is for names; connections to addresses and to * are never looked into, so leave it out")
	}
	r.Ports = r.portless()
	if !hasPorts {
		return nil
	}
	if r.Protocol == ICMP {
		return errors.New("ICMP has no ports; leave them out")
	}
	r.Ports, err = ParsePorts(ports)
	return err
}

func (r *Rule) setScheme(word, rest string) error {
	for _, s := range schemes {
		if s.word != word {
			continue
		}
		if s.raw && r.Action == Deny {
			return errors.New("raw:// only allows; a deny holds whether or not the connection is looked into: leave it out or write tcp://")
		}
		r.Protocol, r.Raw = s.proto, s.raw
		return nil
	}
	if port, ok := map[string]string{"http": "80", "https": "443", "ws": "80", "wss": "443"}[word]; ok {
		host, _, _ := strings.Cut(rest, "/")
		if n, err := ParseName(host); err == nil {
			return fmt.Errorf("a URL is not an endpoint; write %s:%s, or use --http-%s for a rule about requests", n, port, r.Action)
		}
		return fmt.Errorf("a URL is not an endpoint; write NAME:%s, or use --http-%s for a rule about requests", port, r.Action)
	}
	return fmt.Errorf("unknown scheme %q; use tcp, raw, udp or icmp, or none", shorten(word))
}

// split separates the target from the ports. Brackets are removed.
func split(body string) (target, ports string, hasPorts bool, err error) {
	if rest, ok := strings.CutPrefix(body, "["); ok {
		return splitBrackets(rest)
	}
	if isAddrOrPrefix(body) {
		return body, "", false, nil
	}
	if addr, length, ok := strings.Cut(body, "/"); ok && !strings.Contains(length, ":") {
		if _, err := netip.ParseAddr(addr); err == nil {
			return body, "", false, nil // a range with a wrong length: setTarget says so
		}
	}
	i := strings.LastIndexByte(body, ':')
	if i < 0 || strings.Contains(body[i:], "/") {
		return body, "", false, nil
	}
	if strings.Contains(body[:i], ":") {
		return "", "", false, errors.New("an IPv6 address with ports goes into brackets, as in [2001:db8::1]:443")
	}
	if body[:i] == "" {
		return "", "", false, errors.New("there is no target before the ports; write *:PORT for every one")
	}
	return body[:i], body[i+1:], true, nil
}

func splitBrackets(rest string) (target, ports string, hasPorts bool, err error) {
	target, after, ok := strings.Cut(rest, "]")
	if !ok || !strings.Contains(target, ":") || !isAddrOrPrefix(target) {
		return "", "", false, errors.New("brackets hold an IPv6 address or range, as in [2001:db8::1]:443")
	}
	if after == "" {
		return target, "", false, nil
	}
	ports, ok = strings.CutPrefix(after, ":")
	if !ok {
		return "", "", false, errors.New("after the brackets comes a colon with ports or nothing, as in [2001:db8::1]:443")
	}
	return target, ports, true, nil
}

func isAddrOrPrefix(s string) bool {
	if _, err := netip.ParseAddr(s); err == nil {
		return true
	}
	_, err := netip.ParsePrefix(s)
	return err == nil
}

func (r *Rule) setTarget(s string) error {
	if s == "*" {
		r.Kind = KindAny
		return nil
	}
	if a, err := netip.ParseAddr(s); err == nil {
		return r.setPrefix(netip.PrefixFrom(a.WithZone(""), a.BitLen()), a.Zone())
	}
	if addr, _, ok := strings.Cut(s, "/"); ok {
		p, err := netip.ParsePrefix(s)
		if err == nil {
			return r.setPrefix(p, "")
		}
		if _, err := netip.ParseAddr(addr); err == nil {
			return errors.New("this is not a range; write one such as 192.0.2.0/24 or 2001:db8::/32")
		}
		return fmt.Errorf("an endpoint has no path; write NAME:PORT, or use --http-%s for a rule about requests", r.Action)
	}
	text, wild := strings.CutPrefix(s, "*.")
	if strings.Contains(text, "*") {
		return errors.New("* stands for everything, or for the whole first label as in *.example.com")
	}
	n, err := ParseName(text)
	if err != nil {
		return err
	}
	r.Kind, r.Name = KindName, n
	if wild {
		r.Kind = KindWildcard
	} else if n.text == localhost {
		r.Kind, r.Name = KindLocalhost, Name{}
	}
	return nil
}

func (r *Rule) setPrefix(p netip.Prefix, zone string) error {
	if zone != "" {
		return errors.New("a rule holds on every interface; leave out the % and what follows it")
	}
	// A 4in6 prefix contains nothing for netip; what it means is the IPv4 range.
	if a := p.Addr(); a.Is4In6() && p.Bits() >= mappedBits {
		p = netip.PrefixFrom(a.Unmap(), p.Bits()-mappedBits)
	}
	p = p.Masked()
	if p.IsSingleIP() && p.Addr().IsUnspecified() {
		return errors.New("connecting to the unspecified address reaches the loopback of this host; write localhost")
	}
	r.Kind, r.Prefix = KindPrefix, p
	return nil
}
