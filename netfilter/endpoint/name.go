package endpoint

import (
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"

	"golang.org/x/net/idna"
)

const (
	// maxName and maxLabel count bytes of the text form without the final dot
	// (RFC 1035 section 2.3.4).
	maxName  = 253
	maxLabel = 63
	// maxInput bounds what the Unicode tables are asked to look at; the mapping
	// shortens a text, but never a text of this length to a name.
	maxInput = 8 * maxName
)

// localhost is the one name that means the loopback addresses (RFC 6761
// section 6.3).
const localhost = "localhost"

// Name is a DNS name in its one canonical form: A-labels, lower case, no final
// dot. Two names are equal when == says so; a Name is a valid map key. The zero
// Name is no name.
type Name struct{ text string }

// String returns the canonical text: letters, digits, '-', '_' and '.' only, so
// it needs no escaping in a log or on a command line.
func (n Name) String() string { return n.text }

// IsZero tells whether n is no name.
func (n Name) IsZero() bool { return n.text == "" }

// below tells whether n lies below parent, compared label by label.
func (n Name) below(parent Name) bool {
	i := len(n.text) - len(parent.text)
	return i > 1 && n.text[i-1] == '.' && n.text[i:] == parent.text
}

// local tells whether n is localhost or lies below it.
func (n Name) local() bool { return n.text == localhost || n.below(Name{localhost}) }

var (
	errChars  = errors.New("it has characters that a host name cannot have")
	errEmpty  = errors.New("it is empty or has an empty label")
	errLong   = errors.New("it is too long: a name has at most 253 bytes, a label 63")
	errHyphen = errors.New("a label begins or ends with a hyphen")
	errDigits = errors.New("it is a number in place of a name; write an address as 192.0.2.1 or [2001:db8::1]")
)

// ParseName reads a host name as a user, a DNS message, a ClientHello or a Host
// header has it, and returns its canonical form: UTS 46 mapping, nontransitional,
// one final dot dropped. Labels consist of letters, digits, hyphens and
// underscores (RFC 8552). A text whose last label is a decimal, octal or
// hexadecimal number is refused, because inet_aton(3) and the URL standard read
// such texts as addresses. The error names the input, quoted.
func ParseName(s string) (Name, error) {
	text, err := canonical(s)
	if err != nil {
		return Name{}, fmt.Errorf("%q is not a host name: %w", shorten(s), err)
	}
	return Name{text}, nil
}

func canonical(s string) (string, error) {
	if len(s) > maxInput {
		return "", errLong
	}
	// An invalid byte would become U+FFFD and so two texts one name.
	if !utf8.ValidString(s) || strings.ContainsRune(s, utf8.RuneError) {
		return "", errChars
	}
	text := s
	if !plain(s) {
		// Hyphens in the third and fourth place are common in real names, and
		// which characters an ASCII label may have is checked below.
		p := idna.New(idna.MapForLookup(), idna.BidiRule(), idna.CheckJoiners(true),
			idna.Transitional(false), idna.CheckHyphens(false), idna.StrictDomainName(false))
		var err error
		if text, err = p.ToASCII(s); err != nil {
			return "", errChars
		}
	}
	text = strings.TrimSuffix(strings.ToLower(text), ".")
	if len(text) > maxName {
		return "", errLong
	}
	last := ""
	for label := range strings.SplitSeq(text, ".") {
		if err := checkLabel(label); err != nil {
			return "", err
		}
		last = label
	}
	if numeric(last) {
		return "", errDigits
	}
	return text, nil
}

// plain tells whether a text needs no Unicode processing: ASCII, and nothing that
// may be an A-label.
func plain(s string) bool {
	for i := range len(s) {
		if s[i] >= 0x80 {
			return false
		}
	}
	return !strings.Contains(strings.ToLower(s), "xn--")
}

func checkLabel(l string) error {
	switch {
	case l == "":
		return errEmpty
	case len(l) > maxLabel:
		return errLong
	case l[0] == '-' || l[len(l)-1] == '-':
		return errHyphen
	}
	for i := range len(l) {
		c := l[i]
		if (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '-' && c != '_' {
			return errChars
		}
	}
	return nil
}

// numeric tells whether inet_aton(3) could read a label as a number.
func numeric(l string) bool {
	digits := "0123456789"
	if rest, hex := strings.CutPrefix(l, "0x"); hex {
		l, digits = rest, "0123456789abcdef"
	}
	return strings.Trim(l, digits) == ""
}

// shorten keeps hostile input from filling a log line.
func shorten(s string) string {
	const most = 100
	if len(s) > most {
		return s[:most] + "..."
	}
	return s
}
