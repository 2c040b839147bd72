package proxy_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"golang.org/x/net/http2"
)

// HTTP/2 has no framing in its header, so what looks like framing there must not
// become one on the way to a server that speaks HTTP/1.1 only.
func TestHTTP2BecomesOneHTTP1Request(t *testing.T) {
	for _, c := range []struct {
		name   string
		fields []string
		body   string // nil ends the stream with the header
		want   string // status; "" for any, or a broken stream: it races with the body
	}{
		{"plain", request("GET", "a.test", "/ok/1"), "", "200"},
		{"a body", request("POST", "a.test", "/ok/1"), inside, "200"},
		{"a body with its length", request("POST", "a.test", "/ok/1", "content-length", fmt.Sprint(len(inside))), inside, "200"},
		{"a length that is too short", request("POST", "a.test", "/ok/1", "content-length", "0"), inside, ""},
		{"a length that is too short, but not 0", request("POST", "a.test", "/ok/1", "content-length", "5"), inside, ""},
		{"a length that is too long", request("POST", "a.test", "/ok/1", "content-length", "500"), inside, ""},
		{"two lengths", request("POST", "a.test", "/ok/1", "content-length", "0", "content-length", fmt.Sprint(len(inside))), inside, ""},
		{"a length with a line", request("POST", "a.test", "/ok/1", "content-length", "0\r\nx: y"), inside, ""},
		{"chunked", request("POST", "a.test", "/ok/1", "transfer-encoding", "chunked"), "0\r\n\r\n" + inside, "400"},
		{"chunked in other letters", request("POST", "a.test", "/ok/1", "Transfer-Encoding", "chunked"), "0\r\n\r\n" + inside, ""},
		{"chunked with an underscore", request("POST", "a.test", "/ok/1", "transfer_encoding", "chunked"), "0\r\n\r\n" + inside, "400"},
		{"a length with an underscore", request("POST", "a.test", "/ok/1", "content_length", "0"), inside, "400"},
		{"a line in a value", request("GET", "a.test", "/ok/1", "x", "y\r\ntransfer-encoding: chunked"), "", ""},
		{"a line in a name", request("GET", "a.test", "/ok/1", "x: y\r\ntransfer-encoding", "chunked"), "", ""},
		{"a line in the path", request("GET", "a.test", "/ok/1 HTTP/1.1\r\nHost: a.test\r\n\r\nGET /secret"), "", ""},
		{"a blank in the path", request("GET", "a.test", "/ok/1 HTTP/1.1"), "", "400"},
		{"a line in the method", request("GET /secret HTTP/1.1\r\nHost: a.test\r\n\r\nGET", "a.test", "/ok/1"), "", ""},
		{"a blank in the method", request("GET /secret", "a.test", "/ok/1"), "", ""},
		{"a line in the authority", request("GET", "a.test\r\nx: y", "/ok/1"), "", ""},
		{"connection", request("GET", "a.test", "/ok/1", "connection", "upgrade", "upgrade", "h2c"), "", "400"},
		{"an upgrade", request("GET", "a.test", "/ok/1", "upgrade", "websocket"), "", "400"},
		{"keep-alive", request("GET", "a.test", "/ok/1", "keep-alive", "timeout=5"), "", "400"},
		{"a GET with a body", request("GET", "a.test", "/ok/1"), inside, "200"},
		{"an override", request("POST", "a.test", "/ok/1", "x-http-method-override", "DELETE"), "", "403"},
		{"an override with underscores", request("POST", "a.test", "/ok/1", "x_http_method_override", "DELETE"), "", "403"},
		{"a path in a header", request("GET", "a.test", "/ok/1", "x-original-url", "/secret"), "", "403"},
	} {
		w := newWorld(t, worldOptions{allow: []string{"* a.test/ok/*"}, deny: []string{"DELETE */*"}})
		w.upstream.http1 = true
		conn, over := w.connect(443)
		h := newH2(t, w.secure(conn, "a.test", "h2"))
		id := h.send(c.body == "", c.fields...)
		if c.body != "" {
			_ = h.f.WriteData(id, true, []byte(c.body))
		}
		got := h.answer(id)
		if c.want != "" && got != c.want {
			t.Errorf("%s: %s, want %s", c.name, got, c.want)
		}
		_ = h.f.WriteRSTStream(id, http2.ErrCodeCancel)
		conn.Close()
		w.await(over)
		w.proxy.Close()
		var seen []string
		for _, b := range w.upstream.bytesSeen() {
			requests, _, err := strictly(b)
			if err != nil || strings.Contains(strings.ToLower(string(b)), "transfer_") || strings.Contains(strings.ToLower(string(b)), "content_") {
				t.Errorf("%s: upstream saw %.300q: %v", c.name, b, err)
			}
			seen = append(seen, requests...)
		}
		if allowed := w.allowed(0); len(seen) > len(allowed) || c.want == "200" && !slices.Equal(seen, allowed) || slices.ContainsFunc(seen, func(s string) bool { return !strings.Contains(s, " /ok/") }) {
			t.Errorf("%s: upstream saw %q, and %q was allowed", c.name, seen, allowed)
		}
	}
}
