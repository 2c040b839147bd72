package proxy_test

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"testing"
)

// spellings are ways to write a path at or below /admin/ that some server takes for
// one.
var spellings = []string{
	"/admin/x", "/admin/", "/ADMIN/x", "//admin/x", "///admin//x", "/./admin/x", "/x/../admin/x", "/../admin/x", "/admin/../admin/x", "/admin/./x", "/%61dmin/x", "/%61%64%6d%69%6e/x", "/%41DMIN/x",
	"/admin%2fx", "/%2fadmin/x", "/%2Fadmin%2Fx", "/%2e/admin/x", "/x/%2e%2e/admin/x", "/x/.%2e/admin/x", "/x/..%2fadmin/x", "/x%2f..%2fadmin/x", "/x/%2e%2e%2fadmin/x",
	"/admin;/x", "/admin;a=b/x", "/;/admin/x", "/x/..;/admin/x", "/.;/admin/x", "/admin%3b/x", `/admin\x`, `/x\..\admin\x`, "/admin%5cx", "/x/..%5cadmin/x", "/%2561dmin/x", "/%252561dmin/x", "/admin%252fx",
	"/x/%252e%252e/admin/x", "/x/..%252fadmin/x", "/x/%c0%ae%c0%ae/admin/x", "/admin%c0%afx", "/x/..%u2215admin/x", "/%u0061dmin/x", "/admin%ef%bc%8fx", "/%ef%bd%81dmin/x", "/x/%ef%bc%8e%ef%bc%8e/admin/x",
	"/admin%00/x", "/%00admin/x", "/admin%0a/x", "/%0d%0aadmin/x", "/admin%09/x", "/admin./x", "/admin.../x", "/admin%20/x", "/admin%2e/x", "/admin%c2%a0/x", "/admin/x?a", "/admin/?", "/admin#/x", "/admin/#", "/%", "/%admin/x",
	"/x//../../admin/x", "/%61dmin%2f%2e/x", "http://a.test/admin/x", "https://a.test/admin/x", "http://a.test//admin/x", "http://b.test/admin/x", "HTTPS://A.TEST:443/admin/x", "admin/x", "*", "", "?/admin/x", "//a.test/admin/x",
}

// None of the spellings reaches the upstream, over either version of HTTP; each has
// its own connection, so that none is missed because of another.
func TestSpellingsOfADeniedPath(t *testing.T) {
	for _, path := range spellings {
		for _, port := range []uint16{80, 443} {
			w := newWorld(t, worldOptions{allow: []string{"* */*"}, deny: []string{"* */admin/*"}})
			conn, over := w.connect(port)
			var client net.Conn = conn
			if port == 443 {
				client = w.secure(conn, "a.test")
			}
			fmt.Fprintf(client, "GET %s HTTP/1.1\r\nHost: a.test\r\nConnection: close\r\n\r\n", path)
			answer, err := io.ReadAll(client)
			if err != nil || !strings.HasPrefix(string(answer), "HTTP/1.1 4") {
				t.Errorf("h1, port %d, %q: %.100q, %v", port, path, answer, err)
			}
			conn.Close()
			w.await(over)
			if seen := w.upstream.seen(); len(seen) > 0 || len(w.upstream.bytesSeen()) > 0 || len(w.allowed(0)) > 0 {
				t.Errorf("h1, port %d, %q: upstream saw %q", port, path, seen)
			}
		}
		w := newWorld(t, worldOptions{allow: []string{"* */*"}, deny: []string{"* */admin/*"}})
		conn, over := w.connect(443)
		h := newH2(t, w.secure(conn, "a.test", "h2"))
		if got := h.answer(h.send(true, request("GET", "a.test", path)...)); strings.HasPrefix(got, "2") || strings.HasPrefix(got, "5") {
			t.Errorf("h2, %q: %s", path, got)
		}
		conn.Close()
		w.await(over)
		if seen := w.upstream.seen(); len(seen) > 0 || len(w.allowed(0)) > 0 {
			t.Errorf("h2, %q: upstream saw %q", path, seen)
		}
	}
	// The same connection carries what is not denied.
	w := newWorld(t, worldOptions{allow: []string{"* */*"}, deny: []string{"* */admin/*"}})
	conn, _ := w.connect(443)
	h := newH2(t, w.secure(conn, "a.test", "h2"))
	if got := h.answer(h.send(true, request("GET", "a.test", "/administrator/x")...)); got != "200" || len(w.upstream.seen()) != 1 {
		t.Errorf("%s, %q", got, w.upstream.seen())
	}
}

// A request that is not one for its connection is answered with 400 or 421, and the
// upstream sees nothing.
func TestHostsThatDisagree(t *testing.T) {
	refused := func(what string, w *world, got, want string) {
		t.Helper()
		if !slices.Contains(strings.Fields(want), got) {
			t.Errorf("%s: %s, want %s", what, got, want)
		}
		if seen := w.upstream.seen(); len(seen) > 0 || len(w.allowed(0)) > 0 {
			t.Errorf("%s: upstream saw %q", what, seen)
		}
	}
	everything := worldOptions{allow: []string{"* */*", "* *:8443/*"}}
	for _, c := range []struct{ sni, line, host, want string }{
		{"a.test", "GET / HTTP/1.1", "b.test", "421"},
		{"a.test", "GET / HTTP/1.1", "evil.test", "421"},
		{"a.test", "GET / HTTP/1.1", "203.0.113.5", "421"},
		{"a.test", "GET / HTTP/1.1", "a.test:80", "421"},
		{"a.test", "GET / HTTP/1.1", "a.test:8443", "421"},
		{"a.test", "GET / HTTP/1.1", "a.test@b.test", "400"},
		{"a.test", "GET / HTTP/1.1", "", "400"},
		{"a.test", "GET https://b.test/ HTTP/1.1", "a.test", "400"},
		{"a.test", "GET https://b.test/ HTTP/1.1", "b.test", "421"},
		{"a.test", "GET http://a.test/ HTTP/1.1", "a.test", "400"},
		{"evil.test", "GET / HTTP/1.1", "a.test", "421"},
		{"evil.test", "GET / HTTP/1.1", "evil.test", "421"},
		{"a.test", "CONNECT b.test:443 HTTP/1.1", "b.test:443", "421"},
		{"a.test", "CONNECT evil.test:443 HTTP/1.1", "a.test:443", "400"},
		{"a.test", "CONNECT a.test:22 HTTP/1.1", "a.test:22", "403"},
		{"", "GET / HTTP/1.1", "a.test", "421"},
		{"", "GET / HTTP/1.1", "203.0.113.6", "421"},
		{"-", "GET / HTTP/1.1", "evil.test", "421"},
		{"-", "GET / HTTP/1.1", "203.0.113.6", "421"},
		{"-", "GET / HTTP/1.1", "a.test:443", "421"},
		{"-", "GET http://b.test/ HTTP/1.1", "a.test", "400"},
		{"-", "GET https://a.test/ HTTP/1.1", "a.test", "400"},
		{"-", "CONNECT evil.test:80 HTTP/1.1", "evil.test:80", "421"},
		{"-", "CONNECT a.test HTTP/1.1", "a.test", "400"},
	} {
		w := newWorld(t, everything)
		port := uint16(443)
		if c.sni == "-" {
			port = 80
		}
		conn, over := w.connect(port)
		var client net.Conn = conn
		if port == 443 {
			name := c.sni
			if name == "" {
				name = dst.String()
			}
			client = w.secure(conn, name, "http/1.1")
		}
		fmt.Fprintf(client, "%s\r\nHost: %s\r\nConnection: close\r\n\r\n", c.line, c.host)
		got := "closed"
		if resp, err := http.ReadResponse(bufio.NewReader(client), nil); err == nil {
			got = fmt.Sprint(resp.StatusCode)
		}
		conn.Close()
		w.await(over)
		refused(fmt.Sprint(c), w, got, c.want)
	}
	for _, c := range []struct {
		fields []string
		want   string
	}{
		{request("GET", "b.test", "/"), "421"},
		{request("GET", "evil.test", "/"), "421"},
		{request("GET", "a.test:80", "/"), "421"},
		{request("GET", "a.test", "/", "host", "b.test"), "400"},
		{request("GET", "a.test", "/", "host", "a.test", "host", "b.test"), "400"},
		{request("GET", "a.test@evil.test", "/"), "reset_PROTOCOL_ERROR"},
		{request("GET", "", "/"), "400"},
		{request("GET", "a.test\x00", "/"), "reset_PROTOCOL_ERROR"},
		{[]string{":method", "GET", ":scheme", "https", ":path", "/"}, "400"},
		{[]string{":method", "GET", ":scheme", "https", ":path", "/", "host", "b.test"}, "421"},
		{[]string{":method", "GET", ":scheme", "https", ":authority", "a.test", ":authority", "b.test", ":path", "/"}, "reset_PROTOCOL_ERROR"},
		{[]string{":method", "GET", ":scheme", "https", ":authority", "a.test", ":path", "/", ":path", "/x"}, "reset_PROTOCOL_ERROR"},
		{[]string{":method", "CONNECT", ":authority", "a.test:443"}, "405"},
		{[]string{":method", "CONNECT", ":protocol", "websocket", ":scheme", "https", ":authority", "a.test", ":path", "/"}, "405 400 reset_PROTOCOL_ERROR"},
		{request("GET", "a.test", "https://b.test/"), "400"},
	} {
		w := newWorld(t, everything)
		conn, over := w.connect(443)
		h := newH2(t, w.secure(conn, "a.test", "h2"))
		got := strings.ReplaceAll(h.answer(h.send(true, c.fields...)), " ", "_")
		conn.Close()
		w.await(over)
		refused(fmt.Sprintf("%q", c.fields), w, got, c.want)
	}
}

// Each request of a connection is judged by itself.
func TestEachRequestIsJudged(t *testing.T) {
	o := worldOptions{allow: []string{"GET a.test/ok/*"}}
	w := newWorld(t, o)
	conn, _ := w.connect(443)
	client := w.secure(conn, "a.test")
	r := bufio.NewReader(client)
	for i, c := range []struct {
		line string
		want int
	}{{"GET /ok/1", 200}, {"GET /no/1", 403}, {"GET /ok/2", 200}, {"POST /ok/2", 403}, {"GET /ok/../no", 403}, {"GET /ok/3", 200}} {
		fmt.Fprintf(client, "%s HTTP/1.1\r\nHost: a.test\r\nContent-Length: 0\r\n\r\n", c.line)
		resp, err := http.ReadResponse(r, nil)
		if err != nil || resp.StatusCode != c.want {
			t.Fatalf("%d: %s: %+v, %v", i, c.line, resp, err)
		}
		_, _ = io.Copy(io.Discard, resp.Body)
	}
	want := []string{"GET a.test /ok/1", "GET a.test /ok/2", "GET a.test /ok/3"}
	if seen := w.upstream.seen(); !slices.Equal(seen, want) {
		t.Errorf("h1: %q", seen)
	}

	w = newWorld(t, o)
	conn, _ = w.connect(443)
	h := newH2(t, w.secure(conn, "a.test", "h2"))
	var ids []uint32
	for i := range 40 {
		path := fmt.Sprintf("/ok/%d", i)
		if i%2 == 1 {
			path = fmt.Sprintf("/no/%d", i)
		}
		ids = append(ids, h.send(true, request("GET", "a.test", path)...))
	}
	got := h.answers(ids)
	for i, id := range ids {
		if want := map[bool]string{true: "403", false: "200"}[i%2 == 1]; got[id] != want {
			t.Errorf("stream %d: %s", id, got[id])
		}
	}
	if seen := w.upstream.seen(); len(seen) != 20 || slices.ContainsFunc(seen, func(s string) bool { return strings.Contains(s, "/no/") }) {
		t.Errorf("h2: %q", seen)
	}
}
