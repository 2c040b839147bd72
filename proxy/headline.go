package proxy

import (
	"bytes"
	"strconv"
	"strings"

	"github.com/sandlock/sandlock/proxy/rule"
)

// takeHead judges a line of the head and lets it through.
func (h *headReader) takeHead(line []byte) {
	text, reason := cutLine(line)
	h.length += len(line)
	switch {
	case reason != "":
		h.refuse(400, reason)
		return
	case len(text) == 0 && h.lines == 0:
		// An empty line before a request is ignored (RFC 9112 section 2.2).
		h.v += len(line)
		h.r = h.v // which it was: nothing of this head was let through
		return
	case len(text) == 0:
		if status, reason := h.next.finish(); reason != "" {
			h.refuse(status, reason)
			return
		}
		h.v += len(line)
		h.ended = true
		h.begin()
		return
	case h.lines == 0:
		status, reason := h.next.requestLine(string(text))
		if reason != "" {
			h.refuse(status, reason)
			return
		}
	default:
		name, value, reason := field(text)
		if reason == "" {
			reason = h.next.field(name, value)
		}
		if reason != "" {
			h.refuse(400, reason)
			return
		}
	}
	h.lines++
	h.v += len(line)
}

// begin sets what follows the head.
func (h *headReader) begin() {
	switch i := &h.next; {
	case i.connect, i.websocket && i.get && i.lengths == 0 && !i.chunked:
		i.raw, h.state = true, inRaw
	case i.chunked:
		h.state = inChunkSize
	case i.size > 0:
		h.state, h.left = inBody, i.size
	}
	h.unfinished.Store(h.state == inChunkSize || h.state == inBody)
}

// cutLine takes the end off a line, which is CR LF and nothing else (RFC 9112
// section 2.2), and refuses control characters.
func cutLine(line []byte) (text []byte, reason string) {
	text, ok := bytes.CutSuffix(line, []byte("\r\n"))
	if !ok {
		return nil, "a line ends in LF without CR"
	}
	for _, c := range text {
		switch {
		case c == '\r':
			return nil, "CR without LF"
		case c < ' ' && c != '\t' || c == 0x7f:
			return nil, "control byte in the request head"
		}
	}
	return text, ""
}

// requestLine reads method, target and version, which one space separates.
func (i *headInfo) requestLine(line string) (status int, reason string) {
	method, rest, ok := strings.Cut(line, " ")
	target, version, ok2 := strings.Cut(rest, " ")
	switch {
	case !ok || !ok2 || !isToken(method) || target == "" || strings.ContainsAny(target, "\t") || strings.ContainsAny(version, " \t"):
		return 400, "malformed request line"
	case version == "HTTP/2.0":
		return 505, "HTTP/2 without TLS is not possible"
	case version != "HTTP/1.1" && version != "HTTP/1.0":
		return 505, "HTTP version is neither 1.0 nor 1.1"
	}
	i.connect, i.get, i.old = method == "CONNECT", method == "GET", version == "HTTP/1.0"
	return 0, ""
}

// field reads a header line (RFC 9112 section 5).
func field(line []byte) (name, value, reason string) {
	if len(line) > 0 && (line[0] == ' ' || line[0] == '\t') {
		return "", "", "folded header line"
	}
	n, v, ok := bytes.Cut(line, []byte(":"))
	if !ok || !isToken(string(n)) {
		if ok && isToken(strings.TrimRight(string(n), " \t")) {
			return "", "", "white space before the colon of a header"
		}
		return "", "", "malformed header line"
	}
	return string(n), string(bytes.Trim(v, " \t")), ""
}

// framing are the fields that say where a message ends or whom it is for.
var framing = map[string]bool{"content-length": true, "transfer-encoding": true, "host": true}

// canonicalField is a name in the form that framing has. Some servers take an
// underscore for a hyphen.
func canonicalField(name string) string {
	return strings.ReplaceAll(strings.ToLower(name), "_", "-")
}

// field takes note of a field that matters. It returns why the field is refused.
func (i *headInfo) field(name, value string) string {
	lower := strings.ToLower(name)
	if !framing[lower] && framing[canonicalField(name)] {
		return spelledAs(name)
	}
	switch lower {
	case "host":
		if i.hosts > 0 {
			return "more than one Host"
		}
		if value != "" {
			if _, _, err := rule.ParseAuthority(value); err != nil {
				return err.Error()
			}
		}
		i.hosts, i.host = 1, value
	case "content-length":
		i.lengths++
		n, err := strconv.ParseUint(value, 10, 63)
		if err != nil || strings.Trim(value, "0123456789") != "" {
			return "Content-Length is not a number"
		}
		if i.lengths > 1 {
			return "more than one Content-Length"
		}
		i.size = n
	case "transfer-encoding":
		if i.chunked || !strings.EqualFold(value, "chunked") {
			return "Transfer-Encoding is not chunked"
		}
		i.chunked = true
	case "connection":
		for word := range strings.SplitSeq(strings.ToLower(value), ",") {
			word = strings.TrimSpace(word)
			i.close, i.keep = i.close || word == "close", i.keep || word == "keep-alive"
		}
	case "upgrade":
		i.websocket = i.websocket || strings.EqualFold(value, "websocket")
	}
	return ""
}

// finish judges a head as a whole.
func (i *headInfo) finish() (status int, reason string) {
	switch {
	case i.chunked && i.lengths > 0:
		return 400, "both Content-Length and Transfer-Encoding"
	case i.chunked && i.old:
		return 400, "Transfer-Encoding in HTTP/1.0"
	case i.hosts == 0 && !i.old, i.hosts == 1 && i.host == "":
		return 400, "no Host"
	}
	return 0, ""
}

// maxChunkLine bounds a chunk's size with its extensions, in bytes. Extensions are
// for one connection; hardly anybody sends any.
const maxChunkLine = 256

// maxChunkDigits is what net/http takes; nobody needs leading zeros.
const maxChunkDigits = 16

// chunkSize reads the line before a chunk (RFC 9112 section 7.1).
func chunkSize(line []byte) (size uint64, reason string) {
	text, reason := cutLine(line)
	if reason != "" {
		return 0, reason
	}
	if len(text) > maxChunkLine {
		return 0, "the extensions of a chunk are too long"
	}
	digits, _, _ := bytes.Cut(text, []byte(";"))
	size, err := strconv.ParseUint(string(digits), 16, 63)
	if err != nil || len(digits) > maxChunkDigits || bytes.ContainsAny(digits, "_+-xX") {
		return 0, "the size of a chunk is not a number"
	}
	return size, ""
}

// isToken tells whether a text is a token of RFC 9110 section 5.6.2.
func isToken(s string) bool {
	for i := range len(s) {
		c := s[i]
		if !(c|0x20 >= 'a' && c|0x20 <= 'z' || c >= '0' && c <= '9' || strings.IndexByte("!#$%&'*+-.^_`|~", c) >= 0) {
			return false
		}
	}
	return s != ""
}
