package proxy_test

import (
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
	"testing"
	"time"
)

// FuzzHTTP1 sends bytes to the front in clear. What comes out upstream is one row of
// requests for every reader, and each of them was allowed.
func FuzzHTTP1(f *testing.F) {
	for _, c := range corpus {
		if len(c.bytes) < 4096 {
			f.Add([]byte(c.bytes))
		}
	}
	for _, path := range spellings {
		f.Add(fmt.Appendf(nil, "GET %s HTTP/1.1\r\nHost: a.test\r\n\r\n", path))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		w := newWorld(t, worldOptions{allow: []string{"* a.test/ok/*", "* b.test/ok/*"}, deny: []string{"DELETE */*"}})
		c, over := w.connect(80)
		go func() {
			_, _ = c.Write(b)
			_ = c.(*net.TCPConn).CloseWrite()
		}()
		_, _ = io.Copy(io.Discard, c)
		c.Close()
		w.await(over)
		w.proxy.Close() // which ends the connections to the upstream
		allowed := w.allowed(0)
		for _, b := range w.upstream.bytesSeen() {
			requests, _, err := strictly(b)
			if err != nil {
				t.Errorf("upstream saw %.500q: %v", b, err)
			}
			for _, r := range requests {
				r, _, _ = strings.Cut(r, "?")
				i := slices.Index(allowed, r)
				if i < 0 {
					t.Fatalf("upstream saw %q, and %q was allowed", r, w.allowed(0))
				}
				allowed = slices.Delete(allowed, i, i+1)
			}
		}
	})
}

// FuzzBytes sends bytes to the front as they are, and inside TLS as HTTP/2: it goes
// on serving others.
func FuzzBytes(f *testing.F) {
	f.Add([]byte("GET /ok/1 HTTP/1.1\r\nHost: a.test\r\n\r\n"), false)
	f.Add([]byte{22, 3, 1, 0, 5, 1, 0, 0, 1, 0}, false)
	f.Add([]byte("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00"), true)
	f.Add([]byte("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00\x00\x00\x0d\x01\x05\x00\x00\x00\x01\x82\x87\x84\x41\x06a.test\x44"), true)
	f.Fuzz(func(t *testing.T, b []byte, inside bool) {
		w := newWorld(t, worldOptions{allow: []string{"* a.test/ok/*"}})
		c, over := w.connect(443)
		var client net.Conn = c
		if inside {
			client = w.secure(c, "a.test", "h2")
		}
		_ = client.SetDeadline(time.Now().Add(guard))
		go func() {
			_, _ = client.Write(b)
			_ = client.(interface{ CloseWrite() error }).CloseWrite()
			_ = c.(*net.TCPConn).CloseWrite()
		}()
		_, _ = io.Copy(io.Discard, client)
		c.Close()
		w.await(over)
		if seen, allowed := w.upstream.seen(), w.allowed(0); len(seen) > len(allowed) {
			t.Fatalf("upstream saw %q, and %q was allowed", seen, allowed)
		}
	})
}
