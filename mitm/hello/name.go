package hello

import (
	"net/netip"
	"strings"
)

// checkName judges a host name as sent. It returns nil or a Reason.
func checkName(s string) error {
	if s == "" {
		return NoName
	}
	if isAddress(s) {
		return NameIsAddress
	}
	if s[len(s)-1] == '.' && s != "." {
		return NameTrailingDot
	}
	if len(s) > MaxName {
		return NameTooLong
	}
	label := 0
	for i := range len(s) {
		switch c := s[i]; {
		case c == '.' && label > 0:
			label = 0
		case c != '.' && nameByte(c):
			label++
		default:
			return NameBytes
		}
	}
	return nil
}

// isAddress also takes what old resolvers read as an IPv4 address: a last label
// that is a number, decimal or with 0x (127.1, 0x7f000001, 2130706433). No
// top-level domain is one (RFC 3696 §2).
func isAddress(s string) bool {
	t := strings.TrimSuffix(s, ".")
	if _, err := netip.ParseAddr(strings.Trim(t, "[]")); err == nil {
		return true
	}
	last := t[strings.LastIndexByte(t, '.')+1:]
	if last == "" {
		return false
	}
	set := "0123456789"
	if len(last) >= 2 && last[0] == '0' && last[1]|0x20 == 'x' {
		last, set = last[2:], "0123456789abcdefABCDEF"
	}
	return strings.Trim(last, set) == ""
}

// cutPort splits "name" or "name:port". The name is not judged; an IPv6 literal
// in brackets is returned whole as the name.
func cutPort(s string) (name string, port uint16, err error) {
	if strings.HasPrefix(s, "[") {
		return s, 0, nil
	}
	name, digits, found := strings.Cut(s, ":")
	if !found {
		return s, 0, nil
	}
	if _, err := netip.ParseAddr(s); err == nil {
		return s, 0, nil
	}
	if len(digits) == 0 || len(digits) > 5 {
		return name, 0, BadPort
	}
	n := 0
	for i := range len(digits) {
		if digits[i] < '0' || digits[i] > '9' {
			return name, 0, BadPort
		}
		n = n*10 + int(digits[i]-'0')
	}
	if n == 0 || n > 65535 {
		return name, 0, BadPort
	}
	return name, uint16(n), nil
}

func nameByte(c byte) bool {
	return c|0x20 >= 'a' && c|0x20 <= 'z' || c >= '0' && c <= '9' || c == '-' || c == '_'
}

// tokenByte is tchar of RFC 9110 §5.6.2.
func tokenByte(c byte) bool {
	return nameByte(c) || strings.IndexByte("!#$%&'*+.^`|~", c) >= 0
}
