package proxy

import (
	"bufio"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
)

// The corpus of ambiguous and malformed messages. What follows each of them is a
// request that must never come out on the other side: were the message taken in
// another reading, it would.
var smuggling = []struct{ name, raw string }{
	{"CL and TE", "POST /a HTTP/1.1\r\nHost: allowed.test\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"},
	{"TE and CL", "POST /a HTTP/1.1\r\nHost: allowed.test\r\nTransfer-Encoding: chunked\r\nContent-Length: 4\r\n\r\n0\r\n\r\n"},
	{"two lengths", "POST /a HTTP/1.1\r\nHost: allowed.test\r\nContent-Length: 0\r\nContent-Length: 44\r\n\r\n"},
	{"equal lengths", "POST /a HTTP/1.1\r\nHost: allowed.test\r\nContent-Length: 0\r\nContent-Length: 0\r\n\r\n"},
	{"list of lengths", "POST /a HTTP/1.1\r\nHost: allowed.test\r\nContent-Length: 0, 0\r\n\r\n"},
	{"signed length", "POST /a HTTP/1.1\r\nHost: allowed.test\r\nContent-Length: +0\r\n\r\n"},
	{"huge length", "POST /a HTTP/1.1\r\nHost: allowed.test\r\nContent-Length: 99999999999999999999\r\n\r\n"},
	{"hex length", "POST /a HTTP/1.1\r\nHost: allowed.test\r\nContent-Length: 0x0\r\n\r\n"},
	{"xchunked", "POST /a HTTP/1.1\r\nHost: allowed.test\r\nTransfer-Encoding: xchunked\r\n\r\n0\r\n\r\n"},
	{"two TE", "POST /a HTTP/1.1\r\nHost: allowed.test\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n0\r\n\r\n"},
	{"TE list", "POST /a HTTP/1.1\r\nHost: allowed.test\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n"},
	{"TE in 1.0", "POST /a HTTP/1.0\r\nHost: allowed.test\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"},
	{"TE with a tab", "POST /a HTTP/1.1\r\nHost: allowed.test\r\nTransfer-Encoding:\tchunked\x0b\r\n\r\n0\r\n\r\n"},
	{"space before colon", "POST /a HTTP/1.1\r\nHost: allowed.test\r\nContent-Length : 44\r\n\r\n"},
	{"underscore", "POST /a HTTP/1.1\r\nHost: allowed.test\r\nContent_Length: 44\r\n\r\n"},
	{"folded", "GET /a HTTP/1.1\r\nHost: allowed.test\r\nX: a\r\n b\r\n\r\n"},
	{"folded first", "GET /a HTTP/1.1\r\n Host: allowed.test\r\n\r\n"},
	{"bare LF", "GET /a HTTP/1.1\nHost: allowed.test\n\n"},
	{"one bare LF", "GET /a HTTP/1.1\r\nHost: allowed.test\r\nX: a\nContent-Length: 44\r\n\r\n"},
	{"bare CR", "GET /a HTTP/1.1\r\nHost: allowed.test\r\nX: a\rContent-Length: 44\r\n\r\n"},
	{"NUL", "GET /a HTTP/1.1\r\nHost: allowed.test\r\nX: a\x00b\r\n\r\n"},
	{"no colon", "GET /a HTTP/1.1\r\nHost: allowed.test\r\nX\r\n\r\n"},
	{"no name", "GET /a HTTP/1.1\r\nHost: allowed.test\r\n: a\r\n\r\n"},
	{"two Hosts", "GET /a HTTP/1.1\r\nHost: allowed.test\r\nHost: evil.test\r\n\r\n"},
	{"no Host", "GET /a HTTP/1.1\r\n\r\n"},
	{"empty Host", "GET /a HTTP/1.1\r\nHost:\r\n\r\n"},
	{"Host with a path", "GET /a HTTP/1.1\r\nHost: allowed.test/x\r\n\r\n"},
	{"Host with a user", "GET /a HTTP/1.1\r\nHost: evil.test@allowed.test\r\n\r\n"},
	{"other Host", "GET /a HTTP/1.1\r\nHost: evil.test\r\n\r\n"},
	{"other port", "GET /a HTTP/1.1\r\nHost: allowed.test:8080\r\n\r\n"},
	{"absolute and Host", "GET http://allowed.test/a HTTP/1.1\r\nHost: evil.test\r\n\r\n"},
	{"absolute elsewhere", "GET http://evil.test/a HTTP/1.1\r\nHost: allowed.test\r\n\r\n"},
	{"both elsewhere", "GET http://evil.test/a HTTP/1.1\r\nHost: evil.test\r\n\r\n"},
	{"other scheme", "GET https://allowed.test/a HTTP/1.1\r\nHost: allowed.test\r\n\r\n"},
	{"ftp", "GET ftp://allowed.test/a HTTP/1.1\r\nHost: allowed.test\r\n\r\n"},
	{"user in the target", "GET http://u@allowed.test/a HTTP/1.1\r\nHost: allowed.test\r\n\r\n"},
	{"blank in the target", "GET /a b HTTP/1.1\r\nHost: allowed.test\r\n\r\n"},
	{"two blanks", "GET  /a HTTP/1.1\r\nHost: allowed.test\r\n\r\n"},
	{"no version", "GET /a\r\nHost: allowed.test\r\n\r\n"},
	{"version 1.2", "GET /a HTTP/1.2\r\nHost: allowed.test\r\n\r\n"},
	{"h2 preface", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"},
	{"bad method", "GE T /a HTTP/1.1\r\nHost: allowed.test\r\n\r\n"},
	{"chunk without size", "POST /a HTTP/1.1\r\nHost: allowed.test\r\nTransfer-Encoding: chunked\r\n\r\n\r\n\r\n"},
	{"negative chunk", "POST /a HTTP/1.1\r\nHost: allowed.test\r\nTransfer-Encoding: chunked\r\n\r\n-1\r\n\r\n"},
	{"chunk too long", "POST /a HTTP/1.1\r\nHost: allowed.test\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nab\r\n0\r\n\r\n"},
	{"chunk with LF", "POST /a HTTP/1.1\r\nHost: allowed.test\r\nTransfer-Encoding: chunked\r\n\r\n1\na\r\n0\r\n\r\n"},
	{"long extension", "POST /a HTTP/1.1\r\nHost: allowed.test\r\nTransfer-Encoding: chunked\r\n\r\n1;" + strings.Repeat("x", 4096) + "\r\na\r\n0\r\n\r\n"},
	{"size of 17 digits", "POST /a HTTP/1.1\r\nHost: allowed.test\r\nTransfer-Encoding: chunked\r\n\r\nfffffffffffffffff\r\na\r\n0\r\n\r\n"},
	{"length in the trailer", "POST /a HTTP/1.1\r\nHost: allowed.test\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nContent-Length: 44\r\n\r\n"},
	{"dot segments", "GET /a/%2e%2e/x HTTP/1.1\r\nHost: allowed.test\r\n\r\n"},
	{"CONNECT elsewhere", "CONNECT evil.test:443 HTTP/1.1\r\nHost: evil.test:443\r\n\r\n"},
	{"CONNECT with two hosts", "CONNECT allowed.test:443 HTTP/1.1\r\nHost: evil.test:443\r\n\r\n"},
	{"CONNECT without port", "CONNECT allowed.test HTTP/1.1\r\nHost: allowed.test\r\n\r\n"},
}

func TestAmbiguousRequestsGoNowhere(t *testing.T) {
	bad := 0
	var seen atomic.Int64
	l := newLab(t, labOptions{plain: true, rules: []string{"* allowed.test/a"}, handler: http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		if _, err := io.ReadAll(r.Body); err == nil {
			seen.Add(1)
		}
	})})
	for _, c := range smuggling {
		t.Run(c.name, func(t *testing.T) {
			before := seen.Load()
			if strings.HasPrefix(c.raw, "POST") {
				bad++
			}
			conn := l.open(80)
			if _, err := io.WriteString(conn, c.raw+"GET /a HTTP/1.1\r\nHost: allowed.test\r\nX-Smuggled: yes\r\n\r\n"); err != nil {
				t.Fatal(err)
			}
			resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
			if err != nil {
				t.Fatal(err)
			}
			if resp.StatusCode < 400 || resp.StatusCode > 505 {
				t.Errorf("status %d", resp.StatusCode)
			}
			// The connection ends, and nothing of it got through.
			if _, err := io.Copy(io.Discard, conn); err != nil && !strings.Contains(err.Error(), "reset") {
				t.Errorf("the connection stays open: %v", err)
			}
			if n := seen.Load(); n != before {
				t.Errorf("%d requests came through", n-before)
			}
		})
	}
	l.await("a report for each", func() bool { return len(l.reports) >= len(smuggling) })
	// Those whose body turned out bad later were allowed, and broken off.
	if n := l.counted(Allowed); n < int(seen.Load()) || n > bad {
		t.Errorf("%d requests were reported as allowed, and %d were seen", n, seen.Load())
	}
}

// The same bytes, in whatever pieces they come, are understood in the same way.
func TestGoodRequestsPassInPieces(t *testing.T) {
	l := newLab(t, labOptions{plain: true, rules: []string{"* allowed.test"}, handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		b, err := io.ReadAll(r.Body)
		fmt.Fprintf(w, "%s %s %s %s %v %v", r.Method, r.Host, r.URL, b, r.Trailer["X-T"], err)
	})})
	raw := "\r\nGET http://allowed.test/1?q HTTP/1.1\r\nHost: allowed.test\r\n\r\n" +
		"POST /2 HTTP/1.1\r\nHost: allowed.test:80\r\nContent-Length: 5\r\n\r\nhello" +
		"POST /3 HTTP/1.1\r\nHost: allowed.test\r\nTransfer-Encoding: Chunked\r\nTrailer: X-T\r\n\r\n3;e=1\r\nabc\r\n2\r\nde\r\n0\r\nX-T: end\r\n\r\n" +
		"OPTIONS * HTTP/1.1\r\nHost: allowed.test\r\nConnection: close\r\n\r\n"
	want := []string{"GET allowed.test /1?q  [] <nil>", "POST allowed.test:80 /2 hello [] <nil>", "POST allowed.test /3 abcde [end] <nil>", "" /* net/http answers it by itself */}
	for _, piece := range []int{1, 7, 64, len(raw)} {
		conn := l.open(80)
		go func() {
			for at := 0; at < len(raw); at += piece {
				io.WriteString(conn, raw[at:min(at+piece, len(raw))])
			}
		}()
		r := bufio.NewReader(conn)
		for i, w := range want {
			resp, err := http.ReadResponse(r, nil)
			if err != nil {
				t.Fatalf("pieces of %d, answer %d: %v", piece, i, err)
			}
			body, err := io.ReadAll(resp.Body)
			if err != nil || string(body) != w {
				t.Errorf("pieces of %d: %q, %v; want %q", piece, body, err, w)
			}
		}
	}
}
