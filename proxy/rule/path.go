package rule

import (
	"strings"
	"unicode"
	"unicode/utf8"
)

// maxPath bounds a path in bytes, as sent. Servers take request lines of 8 to 16
// KiB; what is longer is not worth the readings.
const maxPath = 32 << 10

// Path is the path of a request in its one canonical form, together with the
// readings that servers may make of it. ParsePath makes one; the zero Path is no
// path, and no rule covers it.
type Path struct {
	text string
	// readings are decoded; nil when text is the only one. The first is what the
	// path says by RFC 3986.
	readings []string
	// blurred are the readings of servers that drop dots and blanks at the end of
	// a segment. Only deny rules are asked about them, because an allow rule for
	// such a name would never hold.
	blurred []string
}

// String returns the text that is forwarded: an absolute path without dot segments,
// unreserved characters decoded, hexadecimal digits in upper case, and nothing but
// ASCII that a path may hold (RFC 3986 section 3.3).
func (p Path) String() string { return p.text }

// all returns what an allow rule has to cover.
func (p *Path) all() []string {
	if p.readings != nil {
		return p.readings
	}
	return []string{p.text}
}

// ParsePath reads the path of a request as it was sent, without query. The error is
// an *Error with status 400: the path is malformed, or hides something from one
// of its readers.
func ParsePath(s string) (Path, error) {
	if s == "" || s[0] != '/' {
		return Path{}, bad("the path %q does not begin with a slash", shorten(s))
	}
	if len(s) > maxPath {
		return Path{}, bad("the path is longer than %d bytes", maxPath)
	}
	if simple(s) {
		return Path{text: s}, nil
	}
	text, err := rewrite(s)
	if err != nil {
		return Path{}, err
	}
	text = removeDots(text)
	p := Path{text: text}
	if simple(text) {
		return p, nil
	}
	if err := p.read(); err != nil {
		return Path{}, err
	}
	return p, nil
}

// The classes of bytes in a path.
const (
	plainByte   = iota + 1 // stands for itself, in every reader's eyes
	specialByte            // legal, but has to be looked at
	encodeByte             // legal in no path; one reading, which is encoded
)

var classes = func() (c [256]uint8) {
	for b := range 0x80 {
		switch {
		case unreserved(byte(b)), strings.IndexByte("!$&'()*+,=:@/", byte(b)) >= 0:
			c[b] = plainByte
		case b == '%' || b == ';':
			c[b] = specialByte
		case strings.IndexByte("\"<>[]^`{|}", byte(b)) >= 0:
			c[b] = encodeByte
		}
	}
	for b := 0x80; b < 0x100; b++ {
		c[b] = encodeByte
	}
	return c
}()

// unreserved are the characters of RFC 3986 section 2.3.
func unreserved(b byte) bool {
	return b|0x20 >= 'a' && b|0x20 <= 'z' || b >= '0' && b <= '9' || b == '-' || b == '.' || b == '_' || b == '~'
}

// simple tells whether a path is canonical and has one reading.
func simple(s string) bool {
	for i := range len(s) {
		if classes[s[i]] != plainByte {
			return false
		}
		// Empty segments, and segments that end in a dot, dot segments among them.
		if s[i] == '/' && i > 0 && (s[i-1] == '/' || s[i-1] == '.') {
			return false
		}
	}
	return s[len(s)-1] != '.'
}

const upperHex = "0123456789ABCDEF"

// rewrite brings escapes and bytes into their one form, and refuses what is none.
func rewrite(s string) (string, error) {
	var out strings.Builder
	out.Grow(len(s) + 16)
	escape := func(b byte) {
		out.WriteByte('%')
		out.WriteByte(upperHex[b>>4])
		out.WriteByte(upperHex[b&15])
	}
	for i := 0; i < len(s); i++ {
		b := s[i]
		if b == '%' {
			d, ok := escaped(s[i:])
			switch {
			case !ok:
				return "", bad("the path has %q, which is no escape; a percent sign is written %%25", shorten(s[i:min(len(s), i+3)]))
			case d < 0x20 || d == 0x7f:
				return "", bad("the path has the control character %%%c%c", upperHex[d>>4], upperHex[d&15])
			case d == '\\':
				return "", bad("the path has a backslash, which some servers read as a slash")
			case d == '.' && dotSegment(s, i):
				return "", bad("the path hides a dot segment in an escape")
			case unreserved(d):
				out.WriteByte(d)
			default:
				escape(d)
			}
			i += 2
			continue
		}
		switch classes[b] {
		case plainByte, specialByte:
			out.WriteByte(b)
		case encodeByte:
			escape(b)
		default:
			return "", refuseByte(b)
		}
	}
	return out.String(), nil
}

func refuseByte(b byte) error {
	switch b {
	case '\\':
		return bad("the path has a backslash, which some servers read as a slash")
	case '#':
		return bad("the request has a fragment")
	case ' ':
		return bad("the path has a blank; it is written %%20")
	}
	return bad("the path has the byte 0x%02x, which no path may have", b)
}

// escaped returns the byte that an escape at the beginning of s stands for.
func escaped(s string) (byte, bool) {
	if len(s) < 3 || s[0] != '%' {
		return 0, false
	}
	hi, lo := hex(s[1]), hex(s[2])
	return hi<<4 | lo, hi < 16 && lo < 16
}

func hex(b byte) byte {
	switch {
	case b >= '0' && b <= '9':
		return b - '0'
	case b|0x20 >= 'a' && b|0x20 <= 'f':
		return b | 0x20 - 'a' + 10
	}
	return 0xff
}

// dotSegment tells whether the segment around an encoded dot at i is "." or "..",
// in whatever spelling.
func dotSegment(s string, i int) bool {
	start := strings.LastIndexByte(s[:i], '/') + 1
	end := len(s)
	if j := strings.IndexByte(s[i:], '/'); j >= 0 {
		end = i + j
	}
	dots := 0
	for k := start; k < end; dots++ {
		switch {
		case s[k] == '.':
			k++
		case strings.HasPrefix(s[k:], "%2e") || strings.HasPrefix(s[k:], "%2E"):
			k += 3
		default:
			return false
		}
	}
	return dots <= 2
}

// removeDots is RFC 3986 section 5.2.4 for an absolute path.
func removeDots(s string) string {
	if !strings.Contains(s, "/.") {
		return s
	}
	var out []string
	parts := strings.Split(s[1:], "/")
	for i, part := range parts {
		last := i == len(parts)-1
		switch part {
		case "..":
			if len(out) > 0 {
				out = out[:len(out)-1]
			}
		case ".":
		default:
			out = append(out, part)
			continue
		}
		if last {
			out = append(out, "")
		}
	}
	return "/" + strings.Join(out, "/")
}

// decodeOnce decodes every escape of s; an escaped slash becomes slash. What is no
// escape stays. found is false when there was none.
func decodeOnce(s string, slash byte) (out string, found bool, err error) {
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		d, ok := escaped(s[i:])
		switch {
		case !ok:
			b.WriteByte(s[i])
			continue
		case d < 0x20:
			return "", false, bad("the path hides the control character 0x%02x", d)
		case d == '/':
			d = slash
		}
		b.WriteByte(d)
		found = true
		i += 2
	}
	return b.String(), found, nil
}

// readable refuses a reading that no honest path has.
func readable(s string) error {
	if !utf8.ValidString(s) {
		return bad("the path has bytes that are not UTF-8")
	}
	for i, r := range s {
		switch {
		case r == inner:
		case r == '\\':
			return bad("the path hides a backslash, which some servers read as a slash")
		case unicode.IsControl(r):
			return bad("the path hides the control character %U at %d", r, i)
		}
	}
	for part := range strings.SplitSeq(s[1:], "/") {
		if part == "." || part == ".." {
			return bad("the path hides a dot segment from some of its readers")
		}
	}
	return nil
}
