package passthrough

import (
	"bytes"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/sandlock/sandlock/mitm/hello"
)

// clientHello is the first flight of crypto/tls for a name.
func clientHello(t testing.TB, serverName string) []byte {
	t.Helper()
	c, s := net.Pipe()
	defer s.Close()
	go func() {
		_ = tls.Client(c, &tls.Config{ServerName: serverName, InsecureSkipVerify: true}).Handshake()
		c.Close()
	}()
	var b []byte
	part := make([]byte, 4096)
	for {
		n, err := s.Read(part)
		if err != nil {
			t.Fatal(err)
		}
		b = append(b, part[:n]...)
		if len(b) >= 5 && len(b) >= 5+int(b[3])<<8+int(b[4]) {
			return b
		}
	}
}

func TestAcceptedFirstMessages(t *testing.T) {
	r := newRig(t, HelloTimeout, lingerTimeout)
	big := "GET / HTTP/1.1\r\nX: " + strings.Repeat("x", 60000) + "\r\nHost: api.test\r\n\r\n"
	for _, c := range []struct {
		what  string
		msg   []byte
		seen  string
		bytes int // in one write; 0 is all
	}{
		{"TLS", clientHello(t, "api.test"), "api.test", 0},
		{"TLS in capitals", clientHello(t, "API.test"), "API.test", 0},
		{"TLS byte by byte", clientHello(t, "api.test"), "api.test", 1},
		{"HTTP", []byte("POST / HTTP/1.1\r\nHost: api.test:80\r\nContent-Length: 4\r\n\r\nbody"), "api.test", 0},
		{"HTTP byte by byte", []byte("GET / HTTP/1.1\r\nHost: other.test\r\n\r\n"), "other.test", 1},
		{"large HTTP", []byte(big), "api.test", 0},
	} {
		cl, up := r.join(inspected(t, 80))
		step := c.bytes
		if step == 0 {
			step = len(c.msg)
		}
		go func() {
			for b := c.msg; len(b) > 0; b = b[step:] {
				if _, err := cl.Write(b[:step]); err != nil {
					t.Error(err)
				}
			}
			_ = cl.CloseWrite()
		}()
		if got := must(io.ReadAll(up))(t); !bytes.Equal(got, c.msg) {
			t.Errorf("%s: upstream got %d bytes of %d", c.what, len(got), len(c.msg))
		}
		if _, err := up.Write([]byte("answer")); err != nil {
			t.Error(err)
		}
		up.Close()
		if got := must(io.ReadAll(cl))(t); string(got) != "answer" {
			t.Errorf("%s: client got %q", c.what, got)
		}
		cl.Close()
		x := r.result()
		if x.Outcome != Passed || x.Seen != c.seen || x.Err != nil || x.BytesUp != int64(len(c.msg)) || x.BytesDown != 6 || x.Reason != nil {
			t.Errorf("%s: %+v", c.what, x)
		}
	}
}

func TestRefusedFirstMessages(t *testing.T) {
	r := newRig(t, HelloTimeout, lingerTimeout)
	alert := string([]byte{21, 3, 3, 0, 2, 2, 112})
	for _, c := range []struct {
		what, msg, answer, flag, seen string
		reason                        error
	}{
		{"SNI", string(clientHello(t, "evil.test")), alert, "--allow evil.test:80", "evil.test", OtherName},
		{"SNI below", string(clientHello(t, "x.api.test")), alert, "--allow x.api.test:80", "x.api.test", OtherName},
		{"no SNI", string(clientHello(t, "")), alert, "", "", hello.NoName},
		{"SNI, more data", string(clientHello(t, "evil.test")) + strings.Repeat("x", 200000), alert, "--allow evil.test:80", "evil.test", OtherName},
		{"Host", "GET / HTTP/1.1\r\nHost: evil.test\r\n\r\n", "403", "--allow evil.test:80", "evil.test", OtherName},
		{"port", "GET / HTTP/1.1\r\nHost: api.test:81\r\n\r\n", "403", "--allow api.test:81", "api.test", OtherPort},
		{"not a name", "GET / HTTP/1.1\r\nHost: -a.test\r\n\r\n", "403", "", "-a.test", NotAName},
		{"two hosts", "GET / HTTP/1.1\r\nHost: api.test\r\nHost: evil.test\r\n\r\n", "403", "", "api.test", hello.TwoNames},
		{"bytes", "GET / HTTP/1.1\r\nHost: \"\x1b[31m\xff\r\n\r\n", "403", "", "", hello.ControlByte},
		{"quotes", "GET / HTTP/1.1\r\nHost: a\"\xff\r\n\r\n", "403", "", `a\"\xff`, hello.NameBytes},
		{"CONNECT", "CONNECT evil.test:443 HTTP/1.1\r\n", "403", "", "evil.test", hello.Connect},
		{"neither", "SSH-2.0-x\r\n", "", "", "", hello.BadRequestLine},
		{"SSLv2", "\x80\x2e\x01", "", "", "", hello.SSLv2},
	} {
		cl, up := r.join(inspected(t, 80))
		if _, err := cl.Write([]byte(c.msg)); err != nil {
			t.Errorf("%s: %v", c.what, err)
		}
		got := string(must(io.ReadAll(cl))(t))
		silent(t, up)
		switch {
		case c.what == "neither":
		case c.answer == "403":
			host := c.seen
			if host == "" {
				host = "(none)"
			}
			for _, want := range []string{"HTTP/1.1 403 Forbidden\r\n", "Connection: close\r\n", host, c.reason.Error(), c.flag} {
				if !strings.Contains(got, want) {
					t.Errorf("%s: no %q in %q", c.what, want, got)
				}
			}
		case got != c.answer:
			t.Errorf("%s: answer %q", c.what, got)
		}
		cl.Close()
		x := r.result()
		if x.Outcome != Refused || x.Reason != c.reason || x.Seen != c.seen || x.AllowWith != c.flag || x.BytesUp != 0 || x.BytesDown != 0 || x.Err != nil {
			t.Errorf("%s: %+v", c.what, x)
		}
	}
}

func TestAuditPassesAndTells(t *testing.T) {
	r := newRig(t, HelloTimeout, lingerTimeout)
	fl := inspected(t, 443)
	fl.Audit = true
	cl, up := r.join(fl)
	msg := clientHello(t, "evil.test")
	_, _ = cl.Write(msg)
	_ = cl.CloseWrite()
	if got := must(io.ReadAll(up))(t); !bytes.Equal(got, msg) {
		t.Errorf("upstream got %d bytes", len(got))
	}
	up.Close()
	if x := r.result(); x.Outcome != Refused || x.Reason != OtherName || x.BytesUp != int64(len(msg)) {
		t.Errorf("%+v", x)
	}
}

// Nothing of the upstream's passes before the first message was accepted.
func TestUpstreamWaits(t *testing.T) {
	r := newRig(t, HelloTimeout, lingerTimeout)
	cl, up := r.join(inspected(t, 80))
	_, _ = up.Write([]byte("early"))
	_, _ = cl.Write([]byte("GET / HTTP/1.1\r\nHost: evil.test\r\n\r\n"))
	if got := string(must(io.ReadAll(cl))(t)); strings.Contains(got, "early") || !strings.Contains(got, "403") {
		t.Errorf("client got %q", got)
	}
	r.result()

	cl, up = r.join(inspected(t, 80))
	_, _ = up.Write([]byte("early"))
	_, _ = cl.Write([]byte("GET / HTTP/1.1\r\nHost: api.test\r\n\r\n"))
	b := make([]byte, 5)
	if _, err := io.ReadFull(cl, b); err != nil || string(b) != "early" {
		t.Errorf("%q, %v", b, err)
	}
}

func TestEndsDuringInspection(t *testing.T) {
	r := newRig(t, HelloTimeout, lingerTimeout)
	for _, sent := range []string{"", "GET / HT", string(clientHello(t, "api.test")[:100])} {
		cl, up := r.join(inspected(t, 80))
		_, _ = cl.Write([]byte(sent))
		_ = cl.CloseWrite()
		silent(t, up)
		if x := r.result(); x.Outcome != Unseen || x.Err != nil || x.BytesUp != 0 {
			t.Errorf("client closed after %q: %+v", sent, x)
		}
	}
	cl, up := r.join(inspected(t, 80))
	_ = cl.SetLinger(0)
	cl.Close()
	silent(t, up)
	if x := r.result(); x.Outcome != Unseen || x.Err == nil {
		t.Errorf("client reset: %+v", x)
	}
	cl, up = r.join(inspected(t, 80))
	up.Close()
	if b, err := io.ReadAll(cl); len(b) != 0 || err != nil {
		t.Errorf("upstream closed: client saw %q, %v", b, err)
	}
	if x := r.result(); x.Outcome != Unseen || x.Err != nil {
		t.Errorf("upstream closed: %+v", x)
	}
}

func TestHelloTimeout(t *testing.T) {
	r := newRig(t, 50*time.Millisecond, 50*time.Millisecond)
	idle, _ := r.join(inspected(t, 80))
	cl, up := r.join(inspected(t, 80))
	_, _ = cl.Write([]byte("GET / HTTP/1.1\r\n"))
	silent(t, up)
	if x := r.result(); x.Reason != Timeout || x.Outcome != Refused {
		t.Errorf("%+v", x)
	}
	if got := string(must(io.ReadAll(cl))(t)); !strings.Contains(got, Timeout.Error()) {
		t.Errorf("%q", got)
	}
	// After the linger time the engine closes for good: writes run into a reset.
	for {
		if _, err := cl.Write([]byte("x")); err != nil {
			var ne net.Error
			if errors.As(err, &ne) && ne.Timeout() {
				t.Error("refused client was kept")
			}
			break
		}
	}
	// The flow without a byte is as it was.
	_, _ = idle.Write([]byte("GET / HTTP/1.1\r\nHost: evil.test\r\n\r\n"))
	if x := r.result(); x.Reason != OtherName {
		t.Errorf("%+v", x)
	}
}
