package proxy

import (
	"bytes"
	"io"
	"net"
	"sync/atomic"

	"github.com/sandlock/sandlock/proxy/rule"
)

// maxHead bounds a request head in bytes. Servers take 8 to 64 KiB.
const maxHead = 256 << 10

// headReader stands between an HTTP/1 client and net/http and lets through only
// what has one reading. net/http is lenient where it can be: it takes a bare LF for
// the end of a line, joins folded lines, and drops one of two lengths. It cannot tell
// afterwards that it did. After a message that is refused nothing more is read.
type headReader struct {
	net.Conn
	buf     []byte
	r, v, w int // of buf: r to v may be handed on, v to w is not yet looked at
	state   state
	left    uint64 // bytes of body or chunk
	err     error  // of the body, once what is in buf was handed on

	next    headInfo // of the head that is being read
	length  int      // of that head so far
	lines   int
	ended   bool // the head is complete, and not yet handed on
	current atomic.Pointer[headInfo]
	linger  linger
	// unfinished: the client has more of a body to send.
	unfinished atomic.Bool
	body       atomic.Pointer[rule.Error]
}

// headInfo is what net/http does not tell about a request.
type headInfo struct {
	host      string // of the Host field, "" without one
	hosts     int
	connect   bool
	get       bool
	old       bool // HTTP/1.0
	lengths   int
	size      uint64
	chunked   bool
	websocket bool
	close     bool // Connection says that it is the last
	keep      bool // or, in HTTP/1.0, that it is not
	raw       bool // what follows is not HTTP, if the request is granted
	err       *rule.Error
}

type state uint8

const (
	inHead state = iota
	inBody
	inChunkSize
	inChunk
	inChunkEnd
	inTrailer
	inRaw
	inNothing // after a fault
)

func newHeadReader(c net.Conn) *headReader {
	h := &headReader{Conn: c, buf: make([]byte, 4096)}
	h.linger.change.L = &h.linger.mu
	return h
}

// fault returns why the current request is refused, nil if it is not.
func (h *headReader) fault() error {
	if i := h.current.Load(); i != nil && i.err != nil {
		return i.err
	}
	if e := h.body.Load(); e != nil {
		return e
	}
	return nil
}

// host returns the Host field of the current request.
func (h *headReader) host() string {
	if i := h.current.Load(); i != nil {
		return i.host
	}
	return ""
}

// isRaw tells whether what follows the current request is not looked at.
func (h *headReader) isRaw() bool {
	i := h.current.Load()
	return i != nil && i.raw
}

// CloseWrite ends the direction to the client.
func (h *headReader) CloseWrite() error {
	if c, ok := h.Conn.(interface{ CloseWrite() error }); ok {
		return c.CloseWrite()
	}
	return nil
}

// Read hands on what was found good. It stops at the end of a head and of a
// message, so that what it knows is about the request that net/http is at.
func (h *headReader) Read(p []byte) (int, error) {
	for {
		if h.r == h.v {
			h.advance()
		}
		if h.r < h.v {
			n := copy(p, h.buf[h.r:h.v])
			h.r += n
			if h.ended && h.r == h.v {
				h.ended = false
				done := h.next
				h.current.Store(&done)
				h.next, h.length, h.lines = headInfo{}, 0, 0
			}
			return n, nil
		}
		switch {
		case h.state == inNothing && h.err != nil:
			return 0, h.err
		case h.state == inNothing:
			return 0, io.EOF
		case h.state == inRaw && h.v == h.w:
			return h.Conn.Read(p)
		case h.v == h.w && (h.state == inBody || h.state == inChunk):
			n, err := h.Conn.Read(p[:min(uint64(len(p)), h.left)])
			h.took(uint64(n))
			return n, err
		}
		if err := h.fill(); err != nil {
			if err == io.EOF && h.last() {
				err = h.linger.wait()
			}
			return 0, err
		}
	}
}

// last tells whether the client has nothing more to say behind its last request.
func (h *headReader) last() bool {
	i := h.current.Load()
	return i != nil && h.state == inHead && h.v == h.w && h.lines == 0 && (i.close || i.old && !i.keep)
}

// advance looks at what has come, as far as it goes.
func (h *headReader) advance() {
	for h.v < h.w && !h.ended {
		switch h.state {
		case inNothing:
			return
		case inRaw, inBody, inChunk:
			whole := h.state != inChunk
			h.pass(uint64(h.w - h.v))
			if whole {
				return
			}
			continue
		}
		i := bytes.IndexByte(h.buf[h.v:h.w], '\n')
		if i < 0 {
			switch {
			case h.length+h.w-h.v <= maxHead:
			case h.state == inHead:
				h.refuse(431, "the request head is too large")
			default:
				h.breakBody("the chunked body has an endless line")
			}
			return
		}
		last := h.state == inTrailer
		h.take(h.buf[h.v : h.v+i+1])
		if last && h.state == inHead {
			return
		}
	}
}

// pass lets up to n bytes of the body through, as far as they belong to it.
func (h *headReader) pass(n uint64) {
	if h.state != inRaw {
		n = min(n, h.left)
	}
	h.v += int(n)
	h.took(n)
}

// took counts bytes of the body down.
func (h *headReader) took(n uint64) {
	if h.state == inRaw {
		return
	}
	if h.left -= n; h.left > 0 {
		return
	}
	if h.state == inChunk {
		h.state = inChunkEnd
	} else {
		h.state = inHead
		h.unfinished.Store(false)
	}
}

// fill reads more.
func (h *headReader) fill() error {
	if h.r > 0 { // and r is v
		copy(h.buf, h.buf[h.r:h.w])
		h.w -= h.r
		h.r, h.v = 0, 0
	}
	if h.w == len(h.buf) {
		h.buf = append(h.buf, make([]byte, len(h.buf))...)
	}
	n, err := h.Conn.Read(h.buf[h.w:])
	h.w += n
	if n > 0 {
		return nil
	}
	return err
}

// refuse ends the connection's input with a request that the handler refuses: the
// head that has begun is completed so that net/http takes it.
func (h *headReader) refuse(status int, reason string) {
	h.next.err = &rule.Error{Status: status, Reason: reason}
	end := "\r\n"
	if h.next.hosts == 0 {
		end = "Host: invalid\r\n\r\n"
	}
	if h.lines == 0 {
		end = "GET / HTTP/1.1\r\n" + end
	}
	h.buf = append(h.buf[:h.v:h.v], end...)
	h.v, h.w = len(h.buf), len(h.buf)
	h.state, h.ended = inNothing, true
}

// take judges a line by the state.
func (h *headReader) take(line []byte) {
	switch h.state {
	case inHead:
		h.takeHead(line)
	case inChunkSize:
		size, reason := chunkSize(line)
		if reason != "" {
			h.breakBody(reason)
			return
		}
		h.left, h.state = size, inChunk
		if size == 0 {
			h.state = inTrailer
		}
		h.v += len(line)
	case inChunkEnd:
		if string(line) != "\r\n" {
			h.breakBody("a chunk is longer than it says")
			return
		}
		h.v += len(line)
		h.state = inChunkSize
	case inTrailer:
		text, reason := cutLine(line)
		if len(text) == 0 && reason == "" {
			h.v += len(line)
			h.state, h.length = inHead, 0
			h.unfinished.Store(false)
			return
		}
		h.length += len(line)
		name, _, why := field(text)
		switch {
		case reason == "" && why != "":
			reason = why
		case reason == "" && framing[canonicalField(name)]:
			reason = "a trailer field is for the head"
		}
		if reason != "" {
			h.breakBody(reason)
			return
		}
		h.v += len(line)
	}
}

// breakBody ends the connection's input in the midst of a body.
func (h *headReader) breakBody(reason string) {
	e := &rule.Error{Status: 400, Reason: reason}
	h.body.Store(e)
	h.state, h.w, h.err = inNothing, h.v, e
}
