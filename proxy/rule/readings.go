package rule

import (
	"slices"
	"strings"
)

// inner is a slash that was encoded, inside a decoded segment. No path holds the byte
// itself, because control characters are refused.
const inner = 0

// maxDecodes is how often a path may be decoded until nothing is left to decode.
// Twice is what a server behind a careless front end does; Jenkins writes branch
// names that way.
const maxDecodes = 3

// read fills in the readings of p.text, whose escapes are well formed.
func (p *Path) read() error {
	levels, err := decodings(p.text)
	if err != nil {
		return err
	}
	add := func(s string) error {
		if slices.Contains(p.readings, s) {
			return nil
		}
		if err := readable(s); err != nil {
			return err
		}
		p.readings = append(p.readings, s)
		return nil
	}
	for _, level := range levels {
		if err := add(level); err != nil {
			return err
		}
	}
	// Each transformation is made, or not made, by some server. A reading that was
	// added is itself transformed by the ones that follow.
	for _, transform := range []func(string) string{compatible, stripParameters, dropAuthority, collapse} {
		for _, s := range slices.Clone(p.readings) {
			if err := add(transform(s)); err != nil {
				return err
			}
		}
	}
	for _, s := range p.readings {
		if b := collapse(blur(s)); !slices.Contains(p.readings, b) && !slices.Contains(p.blurred, b) {
			p.blurred = append(p.blurred, b)
		}
	}
	if len(p.readings) == 1 && p.readings[0] == p.text {
		p.readings = nil
	}
	return nil
}

// decodings returns what is seen by servers that decode escapes segment by
// segment, that decode the path as a whole, and that decode it again.
func decodings(s string) ([]string, error) {
	first, _, err := decodeOnce(s, inner)
	if err != nil {
		return nil, err
	}
	out := []string{first}
	whole := strings.ReplaceAll(first, string(rune(inner)), "/")
	for range maxDecodes {
		out = append(out, whole)
		again, found, err := decodeOnce(whole, '/')
		if err != nil || !found {
			return out, err
		}
		whole = again
	}
	return nil, bad("the path is encoded more than %d times", maxDecodes)
}

// compatible maps the characters that Unicode calls compatible with a slash, a dot
// and the rest of ASCII; servers that normalise (NFKC) or that convert to an old
// code page do so.
func compatible(s string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case r >= 0xff01 && r <= 0xff5e: // full width
			return r - 0xff01 + '!'
		case r == 0x2044 || r == 0x2215 || r == 0x29f8:
			return '/'
		case r == 0x2024:
			return '.'
		case r == 0x2216 || r == 0x29f5 || r == 0xfe68:
			return '\\'
		}
		return r
	}, s)
}

// stripParameters drops what follows a semicolon in a segment (RFC 2396 section
// 3.3; servlet containers do it), and what an encoded question mark or number sign
// would cut off.
func stripParameters(s string) string {
	if i := strings.IndexAny(s, "?#"); i >= 0 {
		s = s[:i]
	}
	if !strings.Contains(s, ";") {
		return s
	}
	parts := strings.Split(s, "/")
	for i, part := range parts {
		parts[i], _, _ = strings.Cut(part, ";")
	}
	return strings.Join(parts, "/")
}

// dropAuthority takes a path with two slashes in front for a reference with a host, as
// parsers of URLs do (RFC 3986 section 4.2).
func dropAuthority(s string) string {
	rest, ok := strings.CutPrefix(s, "//")
	if !ok {
		return s
	}
	if i := strings.IndexByte(rest, '/'); i >= 0 {
		return rest[i:]
	}
	return "/"
}

// collapse drops empty segments, but for the last.
func collapse(s string) string {
	for strings.Contains(s, "//") {
		s = strings.ReplaceAll(s, "//", "/")
	}
	return s
}

// blur drops dots and blanks at the end of each segment, as file systems of Windows
// do.
func blur(s string) string {
	parts := strings.Split(s, "/")
	for i, part := range parts {
		parts[i] = strings.TrimRight(part, ". \u00a0")
	}
	return strings.Join(parts, "/")
}
