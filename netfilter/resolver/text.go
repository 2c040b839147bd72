package resolver

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/sandlock/sandlock/netfilter/endpoint"
	"golang.org/x/net/dns/dnsmessage"
)

var rootName = dnsmessage.Name{Data: [255]byte{'.'}, Length: 1}

// fqdn is a name in the form of messages.
func fqdn(n endpoint.Name) dnsmessage.Name { return dnsmessage.MustNewName(n.String() + ".") }

// lower is a name of a message as text, ASCII letters without regard to case
// (RFC 4343), other bytes as they are.
func lower(n dnsmessage.Name) string {
	for i, c := range n.Data[:n.Length] {
		if c >= 'A' && c <= 'Z' {
			n.Data[i] = c + 'a' - 'A'
		}
	}
	return n.String()
}

// below tells whether a name is zone or lies below it.
func below(n, zone dnsmessage.Name) bool {
	a, z := lower(n), lower(zone)
	return z == "." || a == z || strings.HasSuffix(a, "."+z)
}

// presentation is a name in wire form, uncompressed, for people: as zone files
// write it, without the final dot.
func presentation(wire []byte) string {
	var b strings.Builder
	for len(wire) > 0 && wire[0] != 0 && int(wire[0]) < len(wire) {
		if b.Len() > 0 {
			b.WriteByte('.')
		}
		for _, c := range wire[1 : 1+wire[0]] {
			switch {
			case c < ' ' || c > '~':
				fmt.Fprintf(&b, `\%03d`, c)
			case strings.IndexByte(`. '@;()"\`, c) >= 0:
				b.WriteByte('\\')
				b.WriteByte(c)
			default:
				b.WriteByte(c)
			}
		}
		wire = wire[1+wire[0]:]
	}
	if b.Len() == 0 {
		return "."
	}
	return b.String()
}

// escaped is presentation for a name of a message.
func escaped(n dnsmessage.Name) string {
	var wire []byte
	for label := range strings.SplitSeq(strings.TrimSuffix(n.String(), "."), ".") {
		wire = append(append(wire, byte(len(label))), label...)
	}
	return presentation(wire)
}

// typeNames are record types as zone files write them. A list, not a map: that
// would be made in each start.
var typeNames = [...]struct {
	typ  dnsmessage.Type
	name string
}{
	{1, "A"}, {28, "AAAA"}, {65, "HTTPS"}, {12, "PTR"}, {5, "CNAME"}, {33, "SRV"}, {64, "SVCB"}, {16, "TXT"}, {15, "MX"}, {2, "NS"}, {6, "SOA"},
	{255, "ANY"}, {10, "NULL"}, {13, "HINFO"}, {29, "LOC"}, {35, "NAPTR"}, {41, "OPT"}, {43, "DS"}, {44, "SSHFP"}, {46, "RRSIG"},
	{47, "NSEC"}, {48, "DNSKEY"}, {52, "TLSA"}, {251, "IXFR"}, {252, "AXFR"}, {256, "URI"}, {257, "CAA"},
}

// typeName is a record type as zone files write it (RFC 3597 section 5).
func typeName(t dnsmessage.Type) string {
	for _, known := range typeNames {
		if known.typ == t {
			return known.name
		}
	}
	return "TYPE" + strconv.Itoa(int(t))
}

// codeName is the name of a failure of an upstream.
func codeName(c dnsmessage.RCode) string {
	switch c {
	case dnsmessage.RCodeFormatError:
		return "FORMERR"
	case dnsmessage.RCodeServerFailure:
		return "SERVFAIL"
	case dnsmessage.RCodeNotImplemented:
		return "NOTIMP"
	case dnsmessage.RCodeRefused:
		return "REFUSED"
	}
	return "error " + strconv.Itoa(int(c))
}
