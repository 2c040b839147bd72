package hello

import "strings"

// httpState is how far a request head was read.
type httpState struct {
	line    int // offset of the line under way
	scanned int // offset up to which that line has no LF and no bad byte
	started bool
	target  string // authority of an absolute-form target, "" otherwise
	hasHost bool
	host    string
}

func (s *httpState) parse(buf []byte) (Hello, error) {
	h := Hello{Kind: HTTP}
	for {
		end, err := s.nextLine(buf)
		if err != nil {
			return s.seen(h), err
		}
		line := buf[s.line:end]
		s.line, s.scanned = end+2, end+2
		switch {
		case !s.started:
			s.started = true
			err = s.requestLine(string(line))
		case len(line) > 0:
			err = s.header(line)
		default:
			return s.finish(h)
		}
		if err != nil {
			return s.seen(h), err
		}
	}
}

// nextLine returns the offset of the CR that ends the current line.
func (s *httpState) nextLine(buf []byte) (int, error) {
	for i := s.scanned; i < len(buf); i++ {
		switch c := buf[i]; {
		case c == '\n':
			if i == s.line || buf[i-1] != '\r' {
				return 0, BareLF
			}
			return i - 1, nil
		case i > s.line && buf[i-1] == '\r':
			return 0, BareCR
		case c == 0x7f || c < 0x20 && c != '\t' && c != '\r':
			return 0, ControlByte
		case i == s.line && s.started && (c == ' ' || c == '\t'):
			return 0, ObsFold
		}
	}
	s.scanned = len(buf)
	return 0, ErrIncomplete
}

// seen adds the name for the log of a refusal.
func (s *httpState) seen(h Hello) Hello {
	switch {
	case s.hasHost:
		h.Name, h.Port, _ = cutPort(s.host)
	case s.target != "":
		h.Name, h.Port, _ = cutPort(s.target)
	}
	return h
}

// requestLine reads method, target and version (RFC 9112 §3), which one space
// separates.
func (s *httpState) requestLine(line string) error {
	method, rest, ok1 := strings.Cut(line, " ")
	target, version, ok2 := strings.Cut(rest, " ")
	if !ok1 || !ok2 || method == "" || target == "" || strings.ContainsAny(version, " \t") || strings.Contains(target, "\t") {
		return BadRequestLine
	}
	for i := range len(method) {
		if !tokenByte(method[i]) {
			return BadRequestLine
		}
	}
	switch {
	case method == "PRI" && version == "HTTP/2.0":
		return HTTP2Preface
	case method == "CONNECT":
		s.target = target
		return Connect
	case version != "HTTP/1.1" && version != "HTTP/1.0":
		return BadVersion
	case target[0] == '/' || target == "*" && method == "OPTIONS":
		return nil
	}
	const scheme = "http://"
	if len(target) <= len(scheme) || !strings.EqualFold(target[:len(scheme)], scheme) {
		return BadTarget
	}
	authority := target[len(scheme):]
	if i := strings.IndexAny(authority, "/?#"); i >= 0 {
		authority = authority[:i]
	}
	s.target = authority
	if authority == "" || strings.ContainsAny(authority, `@\`) {
		return BadTarget
	}
	return nil
}

// header reads one header line (RFC 9112 §5); only Host matters.
func (s *httpState) header(line []byte) error {
	i := 0
	for i < len(line) && tokenByte(line[i]) {
		i++
	}
	switch {
	case i == 0 || i == len(line):
		return BadHeader
	case line[i] == ' ' || line[i] == '\t':
		return SpaceBeforeColon
	case line[i] != ':':
		return BadHeader
	}
	if !strings.EqualFold(string(line[:i]), "host") {
		return nil
	}
	if s.hasHost {
		return TwoNames
	}
	s.hasHost = true
	s.host = strings.Trim(string(line[i+1:]), " \t")
	return nil
}

// finish judges the head as a whole.
func (s *httpState) finish(h Hello) (Hello, error) {
	if s.host == "" {
		return s.seen(h), NoName
	}
	if s.target != "" && !strings.EqualFold(s.target, s.host) {
		return s.seen(h), TargetNotHost
	}
	var err error
	h.Name, h.Port, err = cutPort(s.host)
	if err == nil {
		err = checkName(h.Name)
	}
	return h, err
}
