package event

import (
	"strconv"
	"strings"
)

// cut marks text that was shortened. Escape doubles every backslash of its
// input, so nothing else can end like this.
const cut = `\...`

// Escape returns s in printable ASCII, on one line: whatever else it holds is
// written as Go writes it in a literal (\n, \x1b, \u202e, \\). So terminal
// controls, line breaks, bidirectional overrides, look-alike letters and bytes
// that are no UTF-8 cannot act on a reader's screen. At most max bytes of s are
// taken; what was shortened ends with `\...`.
func Escape(s string, max int) string {
	long := len(s) > max
	if long {
		s = s[:max]
	}
	if !plain(s, "\\") {
		q := strconv.QuoteToASCII(s)
		s = strings.ReplaceAll(q[1:len(q)-1], `\"`, `"`)
	}
	if long {
		s += cut
	}
	return s
}

// plain tells whether s is printable ASCII without any byte of not.
func plain(s, not string) bool {
	for i := 0; i < len(s); i++ {
		if s[i] < ' ' || s[i] > '~' || strings.IndexByte(not, s[i]) >= 0 {
			return false
		}
	}
	return true
}

// word is Escape for a place within a sentence: text that could be taken for
// more of the sentence than it is stands in double quotes.
func word(s string, max int) string {
	if len(s) <= max && plain(s, " \\\"'`()[];,") {
		return s
	}
	long := len(s) > max
	if long {
		s = s[:max]
	}
	s = strconv.QuoteToASCII(s)
	if long {
		s = s[:len(s)-1] + cut + `"`
	}
	return s
}

// shellSafe are the bytes, besides letters and digits, that no shell treats
// specially within an argument (POSIX XCU 2.2).
const shellSafe = "%+,-./:=@_"

// shellFlag returns "--flag value" so that it can be pasted into a POSIX shell:
// a value with special bytes is put into single quotes. It returns "" for a
// value that is not printable ASCII, for a person cannot check what it says.
func shellFlag(allowWith string) string {
	flag, value, ok := strings.Cut(allowWith, " ")
	if !ok {
		return shellWord(allowWith)
	}
	flag, value = shellWord(flag), shellWord(value)
	if flag == "" || value == "" {
		return ""
	}
	return flag + " " + value
}

func shellWord(s string) string {
	if !plain(s, "") {
		return ""
	}
	for i := 0; i < len(s); i++ {
		c := s[i]
		alnum := 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9'
		if !alnum && strings.IndexByte(shellSafe, c) < 0 {
			return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
		}
	}
	return s
}
