package mitm

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"strings"
	"syscall"
)

// Reason says why there is no TLS connection with a client.
type Reason uint8

// The reasons.
const (
	Broken      Reason = iota // the handshake is malformed, or fails in another way
	Untrusted                 // the client does not accept the certificate
	NotTLS                    // what the client sends is not TLS
	TooOld                    // the client speaks only versions before TLS 1.2
	NoProtocol                // the client wants another protocol than HTTP
	Ended                     // the client closed the connection
	TimedOut                  // the client took too long
	Certificate               // there is no certificate for what the client asks for
)

// String returns the reason for people.
func (r Reason) String() string {
	switch r {
	case Untrusted:
		return "the program does not accept the certificate of the run's authority; it may have its own list of authorities (--inject-ca names its file), or pin a certificate (pass the host through with --allow alone)"
	case NotTLS:
		return "what the program sends is not TLS"
	case TooOld:
		return "the program speaks no TLS version from 1.2 on"
	case NoProtocol:
		return "the program asks for a protocol other than HTTP/1.1 and HTTP/2 inside TLS"
	case Ended:
		return "the program closed the connection during the TLS handshake; it may not accept the certificate"
	case TimedOut:
		return "the program did not finish the TLS handshake in time"
	case Certificate:
		return "there is no certificate for the host that the program asked for"
	}
	return "the TLS handshake failed"
}

// Error says why a handshake failed.
type Error struct {
	Reason Reason
	Err    error // of crypto/tls or the connection
}

// Error returns the reason and what is behind it.
func (e *Error) Error() string { return e.Reason.String() + ": " + e.Err.Error() }

// Unwrap returns what is behind the reason.
func (e *Error) Unwrap() error { return e.Err }

// reasonOf sorts the errors of a handshake. crypto/tls has no types for most of them;
// alerts of the client are those of RFC 8446 section 6.2.
func reasonOf(ctx context.Context, err error) Reason {
	var record tls.RecordHeaderError
	var op *net.OpError
	switch {
	case ctx.Err() != nil:
		return TimedOut
	case errors.As(err, &record):
		return NotTLS
	case errors.As(err, &op) && op.Op == "remote error":
		if text := op.Err.Error(); strings.Contains(text, "certificate") {
			return Untrusted
		}
		return Broken
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, syscall.ECONNRESET), errors.Is(err, io.ErrClosedPipe):
		return Ended
	}
	for _, known := range [...]struct {
		text   string
		reason Reason
	}{
		{"unsupported versions", TooOld},
		{"requested unsupported application protocols", NoProtocol},
		{"server name", Certificate},
		// OpenSSL's clients tell what they think of a certificate in TLS 1.3 without
		// encryption, which cannot be read as the record that it should be.
		{"bad record MAC", Untrusted},
	} {
		if strings.Contains(err.Error(), known.text) {
			return known.reason
		}
	}
	return Broken
}
