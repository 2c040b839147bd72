package rule

import (
	"net/netip"
	"strconv"
	"strings"

	"github.com/sandlock/sandlock/netfilter/endpoint"
)

// Host is the host of a request: a name or an address. Two hosts are equal when ==
// says so. The zero Host is none.
type Host struct {
	Name endpoint.Name
	// Addr is set when Name is not: an address in its one form, IPv4 wherever it
	// can be, without zone, and the loopback for the unspecified one.
	Addr netip.Addr
}

// IsZero tells whether h is no host.
func (h Host) IsZero() bool { return h == Host{} }

// String returns the host as it stands in a URL, an IPv6 address in brackets.
func (h Host) String() string {
	switch {
	case !h.Name.IsZero():
		return h.Name.String()
	case h.Addr.Is6():
		return "[" + h.Addr.String() + "]"
	case h.Addr.IsValid():
		return h.Addr.String()
	}
	return ""
}

// Request is the one canonical form of a request: what is matched is what is to be
// forwarded. NewRequest makes one.
type Request struct {
	Method string // in upper case
	TLS    bool   // it came over TLS, and leaves over TLS
	Host   Host
	Port   uint16 // of the connection
	Path   Path
	Query  string // without "?"; as it was sent, but for bytes outside ASCII, which are escaped
	// ported: the client wrote the port.
	ported bool
}

// Authority returns what is forwarded as Host or :authority. It has a port exactly
// when the client sent one, because some services sign the text.
func (r Request) Authority() string {
	if r.ported {
		return r.Host.String() + ":" + strconv.Itoa(int(r.Port))
	}
	return r.Host.String()
}

// Target returns what is forwarded as the request target in origin form (RFC 9112
// section 3.2.1): path and query, or "*" for an OPTIONS request about the server.
func (r Request) Target() string {
	if r.Query == "" {
		return r.Path.text
	}
	return r.Path.text + "?" + r.Query
}

// String returns the request for people and logs, without its query, which may hold
// secrets: "GET https://api.example.com/v1/models".
func (r Request) String() string {
	out := r.Method + " http://"
	if r.TLS {
		out = r.Method + " https://"
	}
	out += r.Host.String()
	if r.Port != r.schemePort() {
		out += ":" + strconv.Itoa(int(r.Port))
	}
	if r.Path.text == asterisk {
		return out
	}
	return out + r.Path.text
}

// schemePort is the port that the scheme means.
func (r Request) schemePort() uint16 {
	if r.TLS {
		return 443
	}
	return 80
}

// asterisk is the target of an OPTIONS request about the server as a whole.
const asterisk = "*"

// NewRequest makes the canonical request of what a client sent on a connection to
// port, with or without TLS: its method, its Host header or :authority, and its
// request target or :path. A target in absolute form has to say the same as the
// authority. CONNECT is no such request. The error is an *Error: status 400 for
// what is malformed or ambiguous, 421 for what belongs to another connection.
func NewRequest(method string, tls bool, authority, target string, port uint16) (Request, error) {
	r := Request{Method: strings.ToUpper(method), TLS: tls, Port: port}
	switch {
	case !isToken(method):
		return Request{}, bad("%q is not a method", shorten(method))
	case r.Method == "CONNECT":
		return Request{}, bad("CONNECT is not possible here")
	}
	host, said, err := ParseAuthority(authority)
	if err != nil {
		return Request{}, err
	}
	r.Host, r.ported = host, said != 0
	if said != 0 && said != port {
		return Request{}, misdirected("the request names port %d, and the connection leads to port %d", said, port)
	}
	if target, err = r.originForm(target); err != nil {
		return Request{}, err
	}
	path, query, _ := strings.Cut(target, "?")
	if path == asterisk && r.Method == "OPTIONS" && path == target {
		r.Path = Path{text: asterisk, readings: []string{"/"}}
		return r, nil
	}
	if r.Path, err = ParsePath(path); err != nil {
		return Request{}, err
	}
	r.Query, err = cleanQuery(query)
	return r, err
}

// originForm takes scheme and authority off a target in absolute form, if they agree
// with the request.
func (r *Request) originForm(target string) (string, error) {
	scheme, rest, ok := strings.Cut(target, "://")
	if !ok || strings.ContainsAny(scheme, "/?#") {
		return target, nil
	}
	if !strings.EqualFold(scheme, map[bool]string{false: "http", true: "https"}[r.TLS]) {
		return "", bad("the scheme of the target is %q, which is not that of the connection", shorten(scheme))
	}
	authority, path := rest, "/"
	if i := strings.IndexAny(rest, "/?#"); i >= 0 {
		authority, path = rest[:i], rest[i:]
	}
	if path[0] != '/' {
		path = "/" + path
	}
	host, port, err := ParseAuthority(authority)
	if err != nil {
		return "", err
	}
	if port == 0 {
		port = r.Port
	}
	if host != r.Host || port != r.Port {
		return "", bad("the target names %q, and Host another host or port", shorten(authority))
	}
	return path, nil
}

// cleanQuery refuses what ends a target early, and escapes bytes outside ASCII.
func cleanQuery(s string) (string, error) {
	other := false
	for i := range len(s) {
		switch b := s[i]; {
		case b == '#':
			return "", bad("the request has a fragment")
		case b <= ' ' || b == 0x7f:
			return "", bad("the query has the byte 0x%02x, which no query may have", b)
		case b >= 0x80:
			other = true
		}
	}
	if !other {
		return s, nil
	}
	var out strings.Builder
	for i := range len(s) {
		if b := s[i]; b >= 0x80 {
			out.Write([]byte{'%', upperHex[b>>4], upperHex[b&15]})
		} else {
			out.WriteByte(b)
		}
	}
	return out.String(), nil
}

// ParseAuthority reads HOST[:PORT] as a Host header, :authority or the target of
// CONNECT has it. The port is 0 when there is none. The error is an *Error with
// status 400.
func ParseAuthority(s string) (Host, uint16, error) {
	host, digits, ported := s, "", false
	if i := strings.LastIndexByte(s, ':'); i >= 0 && i > strings.LastIndexByte(s, ']') {
		host, digits, ported = s[:i], s[i+1:], true
	}
	h, ok := parseHost(host)
	switch {
	case s == "":
		return Host{}, 0, bad("the request names no host")
	case !ok:
		return Host{}, 0, bad("%q is not the name or address of a host", shorten(host))
	case !ported:
		return h, 0, nil
	}
	n, err := strconv.ParseUint(digits, 10, 16)
	if err != nil || n == 0 || digits[0] == '0' || digits[0] == '+' {
		return Host{}, 0, bad("%q is not a port", shorten(digits))
	}
	return h, uint16(n), nil
}

func parseHost(s string) (Host, bool) {
	for i := range len(s) {
		if s[i] >= 0x80 {
			return Host{}, false // a client sends A-labels
		}
	}
	literal, bracketed := strings.CutPrefix(s, "[")
	if bracketed {
		if literal, bracketed = strings.CutSuffix(literal, "]"); !bracketed {
			return Host{}, false
		}
	}
	if bracketed || literal != "" && literal[0] >= '0' && literal[0] <= '9' {
		a, err := netip.ParseAddr(literal)
		if err == nil && a.Is4() != bracketed && a.Zone() == "" {
			return Host{Addr: canonicalAddr(a)}, true
		}
		if err == nil || bracketed {
			return Host{}, false
		}
	}
	n, err := endpoint.ParseName(s)
	return Host{Name: n}, err == nil
}

// canonicalAddr is the one form of an address. A connection to the unspecified one
// reaches the loopback.
func canonicalAddr(a netip.Addr) netip.Addr {
	a = a.Unmap()
	switch {
	case a == netip.IPv4Unspecified():
		return netip.AddrFrom4([4]byte{127, 0, 0, 1})
	case a == netip.IPv6Unspecified():
		return netip.IPv6Loopback()
	}
	return a
}

// ParseServerName reads the server name of a ClientHello (RFC 6066 section 3: ASCII,
// no final dot, no address). The zero Name and no error for "", which is none. The
// error is an *Error with status 421.
func ParseServerName(s string) (endpoint.Name, error) {
	if s == "" {
		return endpoint.Name{}, nil
	}
	h, ok := parseHost(s)
	if !ok || h.Name.IsZero() || strings.HasSuffix(s, ".") {
		return endpoint.Name{}, misdirected("the TLS server name %q is not a host name", shorten(s))
	}
	return h.Name, nil
}

// Belongs checks that the request is one for the connection that it came on. For TLS,
// server is the name in the ClientHello, zero when there was none: it has to be
// the host of the request. A request for an address has to name the one that the
// connection leads to. The error is an *Error with status 421.
func (r Request) Belongs(server endpoint.Name, to netip.Addr) error {
	switch {
	case r.Host.Addr.IsValid():
		if !to.IsValid() || canonicalAddr(to.WithZone("")) != r.Host.Addr {
			return misdirected("the request is for %s, and the connection leads to another address", r.Host)
		}
		if !server.IsZero() {
			return misdirected("the request is for %s, and TLS was opened for %s", r.Host, server)
		}
	case !r.TLS || server == r.Host.Name:
	case server.IsZero():
		return misdirected("the request is for %s, and TLS was opened without a server name", r.Host)
	default:
		return misdirected("the request is for %s, and TLS was opened for %s", r.Host, server)
	}
	return nil
}
