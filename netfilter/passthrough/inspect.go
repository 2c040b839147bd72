package passthrough

import (
	"fmt"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/sandlock/sandlock/mitm/hello"
	"github.com/sandlock/sandlock/netfilter/endpoint"
)

// firstRead is how much room the first message gets at first, in bytes: enough
// for a ClientHello with a post-quantum key share.
const firstRead = 2 << 10

// discardMax is how much a refused client may still send before it is cut off.
const discardMax = 1 << 20

// Mismatch is why a well-formed first message was refused. It is an error.
type Mismatch uint8

// The mismatches.
const (
	// OtherName: the name is none of Flow.Names.
	OtherName Mismatch = iota + 1
	// OtherPort: the port in Host is not the one that was connected to.
	OtherPort
	// NotAName: the text is no host name (endpoint.ParseName).
	NotAName
	// Timeout: the first message did not come in time.
	Timeout
)

// Error returns the mismatch in words.
func (m Mismatch) Error() string {
	switch m {
	case OtherName:
		return "host name is not the one this address was resolved for"
	case OtherPort:
		return "port in Host is not the one connected to"
	case NotAName:
		return "not a valid host name"
	case Timeout:
		return "first message did not come in time"
	}
	return "unknown mismatch"
}

// inspect reads the client's first message. Nothing goes upstream before it is
// complete and judged.
func (e *Engine) inspect(f *flow) {
	w := f.first
	for f.readable[client] {
		if len(w.buf) == cap(w.buf) {
			grown := make([]byte, len(w.buf), min(hello.Max, max(firstRead, 2*cap(w.buf))))
			copy(grown, w.buf)
			w.buf = grown
		}
		n, err := unix.Read(f.fd[client], w.buf[len(w.buf):cap(w.buf)])
		switch {
		case err == unix.EINTR:
			continue
		case err == unix.EAGAIN:
			f.readable[client] = false
			if len(w.buf) == 0 {
				w.buf = nil
			}
			return
		case err != nil:
			e.fail(f, client, err)
			return
		case n == 0:
			e.finish(f, nil)
			return
		}
		if len(w.buf) == 0 {
			e.hellos.add(f, e.hello)
		}
		w.buf = w.buf[:len(w.buf)+n]
		h, err := w.parser.Parse(w.buf)
		f.kind = h.Kind
		if err == hello.ErrIncomplete {
			continue
		}
		f.ech, f.seen = h.ECH, escape(h)
		switch {
		case err == nil:
			err = f.judge(h)
		case f.Forbidden != nil && (w.buf[0] == '\r' || w.buf[0] == '\n'):
			// Servers skip empty lines before a request (RFC 9112, section 2.2).
		case f.Forbidden != nil && (err == hello.NotRecognised || err == hello.NoName || err == hello.NameIsAddress):
			err = nil // nobody would take it for a name
		}
		if err == nil {
			if !e.divert(f, h) {
				f.phase, f.outcome = relaying, Passed
			}
			return
		}
		e.refuse(f, err)
		return
	}
}

// judge compares a well-formed first message with the flow.
func (f *flow) judge(h hello.Hello) error {
	name, err := endpoint.ParseName(h.Name)
	if err != nil {
		return NotAName
	}
	if f.Forbidden != nil {
		if f.Forbidden(name) {
			return OtherName
		}
		return nil
	}
	if h.Port != 0 && h.Port != f.Dst.Port() {
		f.flag = allowFlag(name, h.Port)
		return OtherPort
	}
	for _, n := range f.Names {
		if n == name && !n.IsZero() {
			return nil
		}
	}
	f.flag = allowFlag(name, f.Dst.Port())
	return OtherName
}

func allowFlag(n endpoint.Name, port uint16) string {
	return "--allow " + n.String() + ":" + strconv.Itoa(int(port))
}

// escape makes what a client sent printable: one line of ASCII.
func escape(h hello.Hello) string {
	if h.Name == "" {
		return ""
	}
	q := strconv.QuoteToASCII(h.Name[:min(len(h.Name), hello.MaxName)])
	return q[1 : len(q)-1]
}

// refuse answers the client, closes the upstream, which got no byte, and reports.
// The client's socket stays for a moment: closing it with unread bytes would
// reset the connection, and the answer could be lost with it.
func (e *Engine) refuse(f *flow, reason error) {
	f.outcome, f.reason = Refused, reason
	if f.Audit {
		f.phase = relaying
		e.enqueue(f)
		return
	}
	unix.Close(f.fd[upstream])
	f.fd[upstream] = -1
	f.first = nil
	// The answer is far smaller than an empty send buffer: it fits or is lost.
	_, _ = send(f.fd[client], f.answer())
	_ = unix.Shutdown(f.fd[client], unix.SHUT_WR)
	f.phase = lingering
	e.lingers.add(f, e.linger)
	e.report(f.result(nil))
	e.discard(f)
}

// answer is what a refused client gets: a fatal alert unrecognized_name (112,
// RFC 8446 §6.2), or a 403.
func (f *flow) answer() []byte {
	switch f.kind {
	case hello.TLS:
		return []byte{21, 3, 3, 0, 2, 2, 112}
	case hello.HTTP:
		return []byte(f.forbidden())
	}
	return nil
}

func (f *flow) forbidden() string {
	var b strings.Builder
	host := f.seen
	if host == "" {
		host = "(none)"
	}
	fmt.Fprintf(&b, "sandlock: request refused\nhost: %s\nreason: %v\n", host, f.reason)
	if f.flag != "" {
		fmt.Fprintf(&b, "to allow it: %s\n", f.flag)
	}
	return fmt.Sprintf("HTTP/1.1 403 Forbidden\r\nContent-Type: text/plain; charset=us-ascii\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%s", b.Len(), b.String())
}

// discard reads away what a refused client still sends, until it closes.
func (e *Engine) discard(f *flow) {
	var sink [4096]byte
	for f.readable[client] {
		n, err := unix.Read(f.fd[client], sink[:])
		f.discarded += max(0, n)
		switch {
		case err == unix.EINTR:
			continue
		case err == unix.EAGAIN:
			f.readable[client] = false
		case err != nil || n == 0 || f.discarded > discardMax:
			e.finish(f, nil)
			return
		}
	}
}
