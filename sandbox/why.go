package sandbox

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/sandlock/sandlock/netfilter/endpoint"
	"github.com/sandlock/sandlock/netfilter/resolver"
	httprule "github.com/sandlock/sandlock/proxy/rule"
)

// Answer is what Why says about one endpoint.
type Answer struct {
	Endpoint string // canonical: "tcp api.example.com:443"
	Verdict  endpoint.Verdict
	Request  *httprule.Verdict // about a request, where HTTP rules decide; nil otherwise
	Notes    []string          // what follows for the caller, a sentence each

	addr netip.Addr // that was judged, invalid when it is not known
}

// Allowed tells whether what was asked about would pass.
func (a *Answer) Allowed() bool { return a.Verdict.Allowed && (a.Request == nil || a.Request.Allowed) }

// hostsFile names what the host itself says about names, hosts(5).
const hostsFile = "/etc/hosts"

// Why judges a request, METHOD URL, or the endpoint [tcp://|udp://|icmp://]HOST[:PORT] as a run of the
// policy would, without running anything and without a DNS query: a name first
// as a name, then as a connection to what it leads to. It reads /etc/hosts. There
// is an answer for every address that is asked about: two for localhost, more
// where /etc/hosts gives a name more than one. A name without a port means 443.
func (c *Compiled) Why(text string) ([]Answer, error) {
	hosts, err := os.ReadFile(hostsFile)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	_, _, _, names := resolver.ReadHost(nil, hosts)
	if strings.Contains(text, " ") {
		return c.whyRequest(text, names)
	}
	return c.why(text, names)
}

func (c *Compiled) why(text string, hosts map[endpoint.Name][]netip.Addr) ([]Answer, error) {
	proto, host, port, err := splitEndpoint(text)
	if err != nil {
		return nil, fmt.Errorf("endpoint %q: %w", text, err)
	}
	var addrs []netip.Addr
	if host == "localhost" {
		addrs = []netip.Addr{netip.AddrFrom4([4]byte{127, 0, 0, 1}), netip.IPv6Loopback()}
	} else if a, err := netip.ParseAddr(host); err == nil {
		addrs = []netip.Addr{a.Unmap().WithZone("")}
	}
	if addrs != nil {
		if port == 0 && proto != endpoint.ICMP {
			return nil, fmt.Errorf("endpoint %q: no port; write one, as in %s", text, netip.AddrPortFrom(addrs[0], httpsPort))
		}
		var out []Answer
		for _, a := range addrs {
			out = append(out, c.whyAddr(proto, netip.AddrPortFrom(a, port)))
		}
		return out, nil
	}
	name, err := endpoint.ParseName(host)
	if err != nil {
		return nil, fmt.Errorf("endpoint %q: %w", text, err)
	}
	if port == 0 && proto != endpoint.ICMP {
		port = httpsPort
	}
	return c.whyName(proto, name, port, hosts[name]), nil
}

const (
	httpPort  = 80  // RFC 9110 section 4.2.1
	httpsPort = 443 // section 4.2.2
)

func splitEndpoint(text string) (proto endpoint.Protocol, host string, port uint16, err error) {
	proto, host = endpoint.TCP, text
	if scheme, rest, ok := strings.Cut(text, "://"); ok {
		host = rest
		switch scheme {
		case "tcp", "raw":
		case "udp":
			proto = endpoint.UDP
		case "icmp":
			proto = endpoint.ICMP
		default:
			return proto, "", 0, fmt.Errorf("unknown scheme %q; use tcp://, udp:// or icmp://, and HOST:PORT without a path", scheme)
		}
	}
	switch {
	case host == "":
		return proto, "", 0, errors.New("it is empty; write HOST:PORT")
	case strings.ContainsAny(host, "/*"):
		return proto, "", 0, errors.New("this is a rule; write one place that a program would reach, as in api.example.com:443")
	}
	if a, err := netip.ParseAddr(strings.TrimSuffix(strings.TrimPrefix(host, "["), "]")); err == nil {
		return proto, a.String(), 0, nil
	}
	i := strings.LastIndexByte(host, ':')
	if i < 0 {
		return proto, host, 0, nil
	}
	n, err := strconv.ParseUint(host[i+1:], 10, 16)
	if err != nil || n == 0 {
		return proto, "", 0, fmt.Errorf("%q is not a port; use 1 to 65535", host[i+1:])
	}
	if proto == endpoint.ICMP {
		return proto, "", 0, errors.New("icmp has no ports; leave it away")
	}
	host = host[:i]
	bare, bracketed := strings.CutPrefix(host, "[")
	if bracketed {
		bare = strings.TrimSuffix(bare, "]")
	} else if strings.Contains(host, ":") {
		return proto, "", 0, errors.New("put IPv6 addresses into brackets, as in [2001:db8::1]:443")
	}
	return proto, bare, uint16(n), nil
}

func (c *Compiled) whyAddr(proto endpoint.Protocol, at netip.AddrPort) Answer {
	v := c.Endpoints.Connect(proto, at, nil)
	place := at.String()
	if proto == endpoint.ICMP {
		place = at.Addr().String()
	}
	var notes []string
	if v.Allowed {
		notes = append(notes, "The connection is direct: nobody looks at what it says.")
	} else if v.Reason.Unruled() {
		notes = append(notes, "A name that a rule allows and that leads to this address is reached all the same.")
		if at.Addr().IsLoopback() {
			notes = append(notes, "A server that the command itself starts there is reached without a rule.")
		}
	}
	return Answer{Endpoint: proto.String() + " " + place, Verdict: v, Notes: notes, addr: at.Addr()}
}

// whyName judges name at every address of given, which /etc/hosts says, or
// without one as if DNS said a public address that no rule speaks of.
func (c *Compiled) whyName(proto endpoint.Protocol, name endpoint.Name, port uint16, given []netip.Addr) []Answer {
	e := endpoint.Endpoint{Protocol: proto, Name: name, Port: port}
	if v := c.Endpoints.Name(name); !v.Allowed {
		if v.Reason.Unruled() {
			// The flag for the port that was asked about.
			v.AllowWith = c.Endpoints.Connect(proto, netip.AddrPortFrom(c.anywhere(), port), []endpoint.Name{name}).AllowWith
		}
		return []Answer{{Endpoint: e.String(), Verdict: v, Notes: []string{"The name does not resolve: the answer is NXDOMAIN and no query leaves."}}}
	}
	if len(given) == 0 {
		v := c.Endpoints.Connect(proto, netip.AddrPortFrom(c.anywhere(), port), []endpoint.Name{name})
		notes := c.notes(v, name)
		if c.hasRanges() && v.Reason != endpoint.DenyRule {
			notes = append(notes, "Rules for addresses decide as well, where the name leads to one of theirs.")
		}
		if v.Allowed && !c.Policy.AllowPrivate {
			notes = append(notes, "If DNS leads to a private or other special-use address, that is refused without --allow-private or a rule for the address.")
		}
		return []Answer{{Endpoint: e.String(), Verdict: v, Notes: notes}}
	}
	var out []Answer
	for _, a := range given {
		e.Addr = a
		v := c.Endpoints.Answer(name, a, true)
		if v.Allowed {
			v = c.Endpoints.Connect(proto, netip.AddrPortFrom(a, port), []endpoint.Name{name})
		}
		notes := append(c.notes(v, name), hostsFile+" gives the address.")
		out = append(out, Answer{Endpoint: e.String(), Verdict: v, Notes: notes, addr: a})
	}
	return out
}

// anywhere returns an address for documentation (RFC 5737) that no range in the
// rules covers, as long as there is one.
func (c *Compiled) anywhere() netip.Addr {
	blocks := [...][4]byte{{192, 0, 2, 1}, {198, 51, 100, 1}, {203, 0, 113, 1}}
	for _, b := range blocks {
		a := netip.AddrFrom4(b)
		covered := slices.ContainsFunc(c.rules, func(r endpoint.Rule) bool {
			return r.Kind == endpoint.KindPrefix && r.Prefix.Contains(a)
		})
		if !covered {
			return a
		}
	}
	return netip.AddrFrom4(blocks[0])
}

func (c *Compiled) hasRanges() bool {
	return slices.ContainsFunc(c.rules, func(r endpoint.Rule) bool { return r.Kind == endpoint.KindPrefix })
}

func (c *Compiled) notes(v endpoint.Verdict, name endpoint.Name) []string {
	var notes []string
	switch {
	case !v.Allowed && v.Reason.Unruled():
		return []string{"The name resolves, but no rule opens this port."}
	case !v.Allowed:
		return nil
	case v.Inspect:
		notes = append(notes, "The connection is inspected: its first message must say "+name.String()+" (SNI or Host); TLS is not opened.")
	default:
		notes = append(notes, "The connection is direct: nobody looks at what it says.")
	}
	if v.Rule != nil && v.Rule.Kind == endpoint.KindWildcard {
		notes = append(notes, "The rule is a wildcard: whoever runs that zone sees the names that are asked for, and on ports other than 80 and 443 what they publish there is reached as it is.")
	}
	return notes
}
