// Package hello reads the first message of a client: a TLS ClientHello or the
// head of an HTTP/1.x request, as far as is needed to learn which host the
// client asks for. It reads strictly: what two programs could understand in
// two ways is an error, because the caller decides on the result while
// somebody else acts on the bytes.
//
// The package does no input or output, keeps no state outside Parser and
// depends on neither crypto/tls nor net/http.
package hello

import "errors"

// Max is the largest first message, in bytes from the first byte of the
// connection (record headers included). A ClientHello with post-quantum key
// shares takes about 2 KiB and servers accept request heads of 8 to 32 KiB;
// 64 KiB leaves room for both and bounds what one client can make us hold.
const Max = 64 << 10

// MaxName is the longest host name that is accepted, in bytes: RFC 1035 §2.3.4
// allows 255 octets on the wire, which are 253 characters of text.
const MaxName = 253

// ErrIncomplete says that the bytes so far are the beginning of a message that
// may yet turn out well: read more and ask again.
var ErrIncomplete = errors.New("hello: message is incomplete")

// Kind is the protocol that the first byte announced.
type Kind uint8

// The kinds. Unknown goes with an error only.
const (
	Unknown Kind = iota
	TLS
	HTTP
)

// String returns "tls", "http" or "unknown".
func (k Kind) String() string {
	switch k {
	case TLS:
		return "tls"
	case HTTP:
		return "http"
	}
	return "unknown"
}

// Hello is what a first message says about its destination.
type Hello struct {
	// Kind is the protocol. It is set as soon as the first byte is known, also
	// beside an error.
	Kind Kind
	// Name is the host name exactly as it was sent: SNI, or Host without its
	// port. Without an error it is 1 to MaxName bytes of letters, digits, '-',
	// '_' and '.', no IP address and without a final dot. Beside an error it
	// is the offending text if there was one: arbitrary bytes, to be escaped.
	Name string
	// Port is the port in Host, 0 when Host has none; always 0 for TLS.
	Port uint16
	// ECH says that the ClientHello has an encrypted_client_hello extension,
	// so that Name is the outer name. Many clients send a meaningless one.
	ECH bool
}

// Parser reads one first message that arrives in pieces. The zero value is
// ready. It remembers how far it came, so that the work over all calls is
// linear in the size of the message.
type Parser struct {
	kind  Kind
	ended bool
	hello Hello
	err   error
	tls   tlsState
	http  httpState
}

// Parse reads a message from its beginning: see Parser.Parse.
func Parse(buf []byte) (Hello, error) {
	var p Parser
	return p.Parse(buf)
}

// Parse looks at buf, which is everything that the client has sent so far: each
// call on a Parser must pass the bytes of the call before, unchanged, with zero
// or more added (the slice itself may move). Bytes after the message are not
// looked at. It does not keep buf.
//
// The error is nil when the message is complete and good, ErrIncomplete when
// more bytes are needed, and otherwise a Reason, which is final: later calls
// repeat it.
func (p *Parser) Parse(buf []byte) (Hello, error) {
	if p.ended {
		return p.hello, p.err
	}
	h, err := p.parse(buf[:min(len(buf), Max)])
	if err == ErrIncomplete && len(buf) >= Max {
		err = TooLarge
	}
	if err != ErrIncomplete {
		p.ended, p.hello, p.err = true, h, err
		p.tls, p.http = tlsState{}, httpState{}
	}
	return h, err
}

func (p *Parser) parse(buf []byte) (Hello, error) {
	if len(buf) == 0 {
		return Hello{}, ErrIncomplete
	}
	if p.kind == Unknown {
		switch c := buf[0]; {
		case c == recordHandshake:
			p.kind = TLS
		case c >= 'A' && c <= 'Z':
			p.kind = HTTP
		case c >= 0x80:
			return Hello{}, sslv2(buf)
		default:
			return Hello{}, NotRecognised
		}
	}
	if p.kind == TLS {
		return p.tls.parse(buf)
	}
	return p.http.parse(buf)
}

// sslv2 judges a message whose first byte has the top bit set: a two-byte
// length, then message type 1 for an SSLv2 CLIENT-HELLO (RFC 6101, appendix E).
func sslv2(buf []byte) error {
	switch {
	case len(buf) < 3:
		return ErrIncomplete
	case buf[2] == 1:
		return SSLv2
	}
	return NotRecognised
}
