package tunnel

import (
	"bytes"
	"fmt"
	"strconv"

	"golang.org/x/sys/unix"
)

// maxHead bounds the head of an answer, in bytes; servers and proxies commonly take
// 8 KiB of one.
const maxHead = 8 << 10

// Errors of an answer that is none.
var (
	errMalformed = fmt.Errorf("the answer is not HTTP/1: %w", unix.EPROTO)
	errTooLong   = fmt.Errorf("the head of the answer is longer than %d bytes: %w", maxHead, unix.EPROTO)
	errNone      = fmt.Errorf("the proxy closed the connection without an answer: %w", unix.ECONNRESET)
)

// StatusError is an answer that makes no tunnel.
type StatusError struct {
	Code   int
	Reason string // the proxy's own words, as it sent them
}

// Error returns the status with the proxy's words, escaped.
func (e *StatusError) Error() string {
	q := strconv.QuoteToASCII(e.Reason)
	return fmt.Sprintf("the proxy answered %d %s", e.Code, q[1:len(q)-1])
}

// Unwrap returns what a connection that is refused is called elsewhere.
func (e *StatusError) Unwrap() error { return unix.ECONNREFUSED }

// parseHead looks for the head of an answer at the beginning of b. Length is how long it
// is with the empty line at its end, 0 while that has not come. Whatever is no
// head is refused as soon as that shows.
func parseHead(b []byte) (length int, s StatusError, err error) {
	for first := true; ; first = false {
		line := b[length:]
		n := bytes.IndexByte(line, '\n')
		if n < 0 && len(b) < maxHead {
			return 0, s, nil
		}
		if n < 0 || length+n >= maxHead {
			return 0, s, errTooLong
		}
		length += n + 1
		line, whole := bytes.CutSuffix(line[:n], []byte{'\r'})
		if !whole || bytes.ContainsFunc(line, control) {
			return 0, s, errMalformed
		}
		switch {
		case first:
			if s, err = parseStatus(line); err != nil {
				return 0, s, err
			}
		case len(line) == 0:
			return length, s, nil
		default:
			name, _, found := bytes.Cut(line, []byte{':'})
			if !found || len(name) == 0 || bytes.ContainsAny(name, " \t") {
				return 0, s, errMalformed
			}
		}
	}
}

func control(r rune) bool { return r < ' ' && r != '\t' || r == 0x7f }

// parseStatus reads HTTP/1.x SP 3DIGIT [SP reason] (RFC 9112 section 4).
func parseStatus(line []byte) (s StatusError, err error) {
	version, rest, _ := bytes.Cut(line, []byte{' '})
	digits, reason, _ := bytes.Cut(rest, []byte{' '})
	code, err := strconv.ParseUint(string(digits), 10, 16)
	if v := string(version); v != "HTTP/1.1" && v != "HTTP/1.0" || err != nil || len(digits) != 3 || code < 100 {
		return s, errMalformed
	}
	return StatusError{Code: int(code), Reason: string(reason)}, nil
}
