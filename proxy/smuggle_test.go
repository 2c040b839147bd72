package proxy_test

import (
	"bufio"
	"io"
	"log"
	"net"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"
)

func discard() *log.Logger { return log.New(io.Discard, "", 0) }

// inside is a request that nobody may take for one: it stands where an honest client
// sends a body.
const inside = "GET /secret HTTP/1.1\r\nHost: a.test\r\n\r\n"

// corpus are messages in which two readers may see two different rows of requests.
// They begin with a request that is allowed or refused, and try to carry one more.
var corpus = []struct{ name, bytes string }{
	{"plain", "GET /ok/1 HTTP/1.1\r\nHost: a.test\r\n\r\n"},
	{"both lengths, TE last", "POST /ok/1 HTTP/1.1\r\nHost: a.test\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" + inside},
	{"both lengths, TE first", "POST /ok/1 HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: chunked\r\nContent-Length: 44\r\n\r\n0\r\n\r\n" + inside},
	{"two lengths that differ", "POST /ok/1 HTTP/1.1\r\nHost: a.test\r\nContent-Length: 0\r\nContent-Length: 40\r\n\r\n" + inside},
	{"two lengths that agree", "POST /ok/1 HTTP/1.1\r\nHost: a.test\r\nContent-Length: 5\r\nContent-Length: 5\r\n\r\nhello"},
	{"a list of lengths", "POST /ok/1 HTTP/1.1\r\nHost: a.test\r\nContent-Length: 5, 5\r\n\r\nhello"},
	{"a length with a sign", "POST /ok/1 HTTP/1.1\r\nHost: a.test\r\nContent-Length: +5\r\n\r\nhello" + inside},
	{"a negative length", "POST /ok/1 HTTP/1.1\r\nHost: a.test\r\nContent-Length: -1\r\n\r\n" + inside},
	{"a length with a blank", "POST /ok/1 HTTP/1.1\r\nHost: a.test\r\nContent-Length: 4 0\r\n\r\n" + inside},
	{"a hexadecimal length", "POST /ok/1 HTTP/1.1\r\nHost: a.test\r\nContent-Length: 0x28\r\n\r\n" + inside},
	{"a huge length", "POST /ok/1 HTTP/1.1\r\nHost: a.test\r\nContent-Length: 18446744073709551616\r\n\r\n" + inside},
	{"a length beyond int64", "POST /ok/1 HTTP/1.1\r\nHost: a.test\r\nContent-Length: 9223372036854775808\r\n\r\n" + inside},
	{"an octal-looking length", "POST /ok/1 HTTP/1.1\r\nHost: a.test\r\nContent-Length: 010\r\n\r\n1234567890" + inside},
	{"an empty length", "POST /ok/1 HTTP/1.1\r\nHost: a.test\r\nContent-Length:\r\n\r\n" + inside},
	{"a length in another script", "POST /ok/1 HTTP/1.1\r\nHost: a.test\r\nContent-Length: \u0665\r\n\r\nhello"},
	{"a length on GET", "GET /ok/1 HTTP/1.1\r\nHost: a.test\r\nContent-Length: 38\r\n\r\n" + inside},
	{"a length that is too short", "POST /ok/1 HTTP/1.1\r\nHost: a.test\r\nContent-Length: 0\r\n\r\n" + inside},
	{"a name with an underscore", "POST /ok/1 HTTP/1.1\r\nHost: a.test\r\nContent_Length: 38\r\n\r\n" + inside},
	{"TE with an underscore", "POST /ok/1 HTTP/1.1\r\nHost: a.test\r\nContent-Length: 5\r\nTransfer_Encoding: chunked\r\n\r\n0\r\n\r\n" + inside},
	{"xchunked", "POST /ok/1 HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: xchunked\r\n\r\n0\r\n\r\n" + inside},
	{"chunked, identity", "POST /ok/1 HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n" + inside},
	{"identity, chunked", "POST /ok/1 HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: identity, chunked\r\n\r\n0\r\n\r\n" + inside},
	{"gzip, chunked", "POST /ok/1 HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n" + inside},
	{"identity", "POST /ok/1 HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: identity\r\nContent-Length: 38\r\n\r\n" + inside},
	{"twice chunked", "POST /ok/1 HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" + inside},
	{"chunked, then cow", "POST /ok/1 HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: cow\r\n\r\n0\r\n\r\n" + inside},
	{"chunked in quotes", "POST /ok/1 HTTP/1.1\r\nHost: a.test\r\nContent-Length: 5\r\nTransfer-Encoding: \"chunked\"\r\n\r\n0\r\n\r\n" + inside},
	{"chunked with VT", "POST /ok/1 HTTP/1.1\r\nHost: a.test\r\nContent-Length: 5\r\nTransfer-Encoding: \x0bchunked\r\n\r\n0\r\n\r\n" + inside},
	{"chunked after a tab", "POST /ok/1 HTTP/1.1\r\nHost: a.test\r\nContent-Length: 5\r\nTransfer-Encoding:\tchunked\r\n\r\n0\r\n\r\n" + inside},
	{"chunked with NUL", "POST /ok/1 HTTP/1.1\r\nHost: a.test\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\x00\r\n\r\n0\r\n\r\n" + inside},
	{"chunked with a parameter", "POST /ok/1 HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: chunked;x=y\r\n\r\n0\r\n\r\n" + inside},
	{"empty TE", "POST /ok/1 HTTP/1.1\r\nHost: a.test\r\nContent-Length: 5\r\nTransfer-Encoding:\r\n\r\nhello" + inside},
	{"TE with a comma", "POST /ok/1 HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: ,chunked\r\n\r\n0\r\n\r\n" + inside},
	{"a blank before the colon", "POST /ok/1 HTTP/1.1\r\nHost: a.test\r\nContent-Length: 5\r\nTransfer-Encoding : chunked\r\n\r\n0\r\n\r\n" + inside},
	{"a tab before the colon", "POST /ok/1 HTTP/1.1\r\nHost: a.test\r\nContent-Length\t: 38\r\n\r\n" + inside},
	{"a blank before the name", "POST /ok/1 HTTP/1.1\r\n Host: a.test\r\nHost: a.test\r\n\r\n" + inside},
	{"a folded TE", "POST /ok/1 HTTP/1.1\r\nHost: a.test\r\nContent-Length: 5\r\nTransfer-Encoding:\r\n chunked\r\n\r\n0\r\n\r\n" + inside},
	{"a folded header", "GET /ok/1 HTTP/1.1\r\nHost: a.test\r\nX: y\r\n z\r\n\r\n"},
	{"a TE in a fold", "POST /ok/1 HTTP/1.1\r\nHost: a.test\r\nContent-Length: 5\r\nX: y\r\n Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n" + inside},
	{"bare LF everywhere", "GET /ok/1 HTTP/1.1\nHost: a.test\n\n"},
	{"bare LF in a header", "POST /ok/1 HTTP/1.1\r\nHost: a.test\r\nX: y\nTransfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n" + inside},
	{"bare LF at the end", "POST /ok/1 HTTP/1.1\r\nHost: a.test\r\nContent-Length: 38\r\n\n" + inside},
	{"bare CR in a header", "POST /ok/1 HTTP/1.1\r\nHost: a.test\r\nX: y\rTransfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n" + inside},
	{"CR CR LF", "POST /ok/1 HTTP/1.1\r\nHost: a.test\r\nContent-Length: 38\r\r\n\r\n" + inside},
	{"NUL in a name", "POST /ok/1 HTTP/1.1\r\nHost: a.test\r\nContent-Length\x00: 38\r\n\r\n" + inside},
	{"NUL in a value", "GET /ok/1 HTTP/1.1\r\nHost: a.test\r\nX: a\x00b\r\n\r\n"},
	{"a header without a colon", "GET /ok/1 HTTP/1.1\r\nHost: a.test\r\nX\r\n\r\n"},
	{"a header without a name", "GET /ok/1 HTTP/1.1\r\nHost: a.test\r\n: x\r\n\r\n"},
	{"a name outside ASCII", "POST /ok/1 HTTP/1.1\r\nHost: a.test\r\nTransfer-Encodin\u011f: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n" + inside},
	{"a name with a parenthesis", "GET /ok/1 HTTP/1.1\r\nHost: a.test\r\nX(y): z\r\n\r\n"},
	{"no header, no end", "GET /ok/1 HTTP/1.1\r\n\r\n"},
	{"two hosts", "GET /ok/1 HTTP/1.1\r\nHost: a.test\r\nHost: b.test\r\n\r\n"},
	{"the same host twice", "GET /ok/1 HTTP/1.1\r\nHost: a.test\r\nHost: a.test\r\n\r\n"},
	{"a host with an underscore", "GET /ok/1 HTTP/1.1\r\nHost: a.test\r\nHost_: b.test\r\n\r\n"},
	{"an empty host", "GET /ok/1 HTTP/1.1\r\nHost:\r\n\r\n"},
	{"a host with a blank", "GET /ok/1 HTTP/1.1\r\nHost: a.test b.test\r\n\r\n"},
	{"a host with a path", "GET /ok/1 HTTP/1.1\r\nHost: a.test/secret\r\n\r\n"},
	{"absolute and Host differ", "GET http://b.test/ok/1 HTTP/1.1\r\nHost: a.test\r\n\r\n"},
	{"absolute with a user", "GET http://a.test@b.test/ok/1 HTTP/1.1\r\nHost: a.test\r\n\r\n"},
	{"absolute without Host", "GET http://a.test/ok/1 HTTP/1.0\r\n\r\n"},
	{"a blank in the target", "GET /ok/1 /secret HTTP/1.1\r\nHost: a.test\r\n\r\n"},
	{"a tab in the request line", "GET\t/ok/1\tHTTP/1.1\r\nHost: a.test\r\n\r\n"},
	{"two blanks", "GET  /ok/1 HTTP/1.1\r\nHost: a.test\r\n\r\n"},
	{"LF in the target", "GET /ok/1\nGET /secret HTTP/1.1\r\nHost: a.test\r\n\r\n"},
	{"CR in the target", "GET /ok/1\rHTTP/1.1\r\nHost: a.test\r\n\r\n"},
	{"an escaped line end in the target", "GET /ok/1%0d%0aX:%20y HTTP/1.1\r\nHost: a.test\r\n\r\n"},
	{"an escaped line end in the query", "GET /ok/1?%0d%0aGET%20/secret HTTP/1.1\r\nHost: a.test\r\n\r\n"},
	{"HTTP/0.9", "GET /ok/1\r\n"},
	{"HTTP/1.2", "GET /ok/1 HTTP/1.2\r\nHost: a.test\r\n\r\n"},
	{"HTTP/2.0", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"},
	{"http/1.1", "GET /ok/1 http/1.1\r\nHost: a.test\r\n\r\n"},
	{"HTTP/1.1x", "GET /ok/1 HTTP/1.1x\r\nHost: a.test\r\n\r\n"},
	{"HTTP/1.0 chunked", "POST /ok/1 HTTP/1.0\r\nHost: a.test\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" + inside},
	{"HTTP/1.0 kept alive", "GET /ok/1 HTTP/1.0\r\nHost: a.test\r\nConnection: keep-alive\r\n\r\n" + inside},
	{"a method in two parts", "GE T /ok/1 HTTP/1.1\r\nHost: a.test\r\n\r\n"},
	{"a method with a quote", "\"GET\" /ok/1 HTTP/1.1\r\nHost: a.test\r\n\r\n"},
	{"empty lines first", "\r\n\r\nGET /ok/1 HTTP/1.1\r\nHost: a.test\r\n\r\n"},
	{"a bare LF first", "\nGET /ok/1 HTTP/1.1\r\nHost: a.test\r\n\r\n"},
	{"chunked", "POST /ok/1 HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n"},
	{"chunked with trailers", "POST /ok/1 HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: chunked\r\nTrailer: X\r\n\r\n5\r\nhello\r\n0\r\nX: y\r\n\r\n"},
	{"framing in a trailer", "POST /ok/1 HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nContent-Length: 38\r\n\r\n" + inside},
	{"chunk with an extension", "POST /ok/1 HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: chunked\r\n\r\n5;x=y\r\nhello\r\n0\r\n\r\n"},
	{"LF in an extension", "POST /ok/1 HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: chunked\r\n\r\n2;\nxx\r\n26\r\n0\r\n\r\n" + inside + "\r\n0\r\n\r\n"},
	{"CR in an extension", "POST /ok/1 HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: chunked\r\n\r\n2;\rxx\r\nxx\r\n0\r\n\r\n" + inside},
	{"a long extension", "POST /ok/1 HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: chunked\r\n\r\n1;" + strings.Repeat("x", 70000) + "\r\nx\r\n0\r\n\r\n"},
	{"a chunk size in LF", "POST /ok/1 HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: chunked\r\n\r\n5\nhello\n0\n\n" + inside},
	{"a chunk that is too long", "POST /ok/1 HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhelloo\r\n0\r\n\r\n" + inside},
	{"a chunk that is too short", "POST /ok/1 HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhell\r\n0\r\n\r\n" + inside},
	{"a chunk size with 0x", "POST /ok/1 HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: chunked\r\n\r\n0x5\r\nhello\r\n0\r\n\r\n" + inside},
	{"a chunk size with a sign", "POST /ok/1 HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: chunked\r\n\r\n+5\r\nhello\r\n0\r\n\r\n" + inside},
	{"a chunk size with a blank", "POST /ok/1 HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: chunked\r\n\r\n5 \r\nhello\r\n0\r\n\r\n" + inside},
	{"a chunk size with an underscore", "POST /ok/1 HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: chunked\r\n\r\n0_0\r\n\r\n" + inside},
	{"a negative chunk", "POST /ok/1 HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: chunked\r\n\r\n-1\r\n\r\n" + inside},
	{"a chunk size that overflows", "POST /ok/1 HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: chunked\r\n\r\n10000000000000000\r\nhello\r\n0\r\n\r\n" + inside},
	{"many zeros", "POST /ok/1 HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: chunked\r\n\r\n0000000000000000000005\r\nhello\r\n0\r\n\r\n"},
	{"an empty chunk size", "POST /ok/1 HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: chunked\r\n\r\n\r\n0\r\n\r\n" + inside},
	{"a chunk extension with quotes", "POST /ok/1 HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: chunked\r\n\r\n5;x=\"\r\nhello\r\n0\r\n\r\n"},
	{"a length and Connection: content-length", "POST /ok/1 HTTP/1.1\r\nHost: a.test\r\nConnection: content-length\r\nContent-Length: 38\r\n\r\n" + inside},
	{"Connection: transfer-encoding", "POST /ok/1 HTTP/1.1\r\nHost: a.test\r\nConnection: transfer-encoding\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"},
	{"Connection: host", "GET /ok/1 HTTP/1.1\r\nHost: a.test\r\nConnection: host\r\n\r\n"},
	{"Expect and an early request", "POST /ok/1 HTTP/1.1\r\nHost: a.test\r\nExpect: 100-continue\r\nContent-Length: 38\r\n\r\n" + inside},
	{"an unknown expectation", "POST /ok/1 HTTP/1.1\r\nHost: a.test\r\nExpect: 200-ok\r\nContent-Length: 0\r\n\r\n"},
	{"Upgrade: h2c", "GET /ok/1 HTTP/1.1\r\nHost: a.test\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n\r\n"},
	{"Upgrade: websocket to a server without", "GET /ok/1 HTTP/1.1\r\nHost: a.test\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n" + inside},
	{"Upgrade: websocket with a body", "GET /ok/1 HTTP/1.1\r\nHost: a.test\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nContent-Length: 38\r\n\r\n" + inside},
	{"CONNECT elsewhere", "CONNECT evil.test:443 HTTP/1.1\r\nHost: evil.test:443\r\n\r\n"},
	{"a refused request with a body", "POST /secret HTTP/1.1\r\nHost: a.test\r\nContent-Length: 36\r\n\r\nGET /ok/2 HTTP/1.1\r\nHost: a.test\r\n\r\n"},
	{"pipelined, the second refused", "GET /ok/1 HTTP/1.1\r\nHost: a.test\r\n\r\n" + inside + "GET /ok/2 HTTP/1.1\r\nHost: a.test\r\n\r\n"},
	{"pipelined, all allowed", "GET /ok/1 HTTP/1.1\r\nHost: a.test\r\n\r\nGET /ok/2 HTTP/1.1\r\nHost: b.test\r\n\r\n"},
	{"a body on HEAD", "HEAD /ok/1 HTTP/1.1\r\nHost: a.test\r\nContent-Length: 38\r\n\r\n" + inside},
	{"a huge head", "GET /ok/1 HTTP/1.1\r\nHost: a.test\r\nX: " + strings.Repeat("x", 300<<10) + "\r\n\r\n"},
	{"many headers", "GET /ok/1 HTTP/1.1\r\nHost: a.test\r\n" + strings.Repeat("X: y\r\n", 50000) + "\r\n"},
	{"a method override", "POST /ok/1 HTTP/1.1\r\nHost: a.test\r\nX-HTTP-Method-Override: DELETE\r\nContent-Length: 0\r\n\r\n"},
	{"a path override", "GET /ok/1 HTTP/1.1\r\nHost: a.test\r\nX-Original-URL: /secret\r\nX-Rewrite-URL: /secret\r\n\r\n"},
}

// TestSmuggling sends each message, and a last request behind it, and compares what
// came out upstream, read strictly and read by net/http, with what was allowed.
func TestSmuggling(t *testing.T) {
	for _, port := range []uint16{80, 443} {
		for _, c := range corpus {
			t.Run(strings.ReplaceAll(c.name, " ", "_"), func(t *testing.T) {
				t.Parallel()
				smuggle(t, port, c.bytes)
			})
		}
	}
}

func smuggle(t *testing.T, port uint16, message string) {
	w := newWorld(t, worldOptions{allow: []string{"* a.test/ok/*", "* b.test/ok/*", "* a.test:443/ok/*"}, deny: []string{"DELETE */*"}})
	conn, over := w.connect(port)
	var client net.Conn = conn
	if port == 443 {
		client = w.secure(conn, "a.test", "http/1.1")
	}
	go func() {
		_, _ = io.WriteString(client, message+"GET /ok/last HTTP/1.1\r\nHost: a.test\r\nConnection: close\r\n\r\n")
	}()
	// A message may swallow the last request; its sender then goes away.
	_ = client.SetReadDeadline(time.Now().Add(2 * time.Second))
	answers, _ := io.ReadAll(client)
	conn.Close()
	w.await(over)
	allowed := w.allowed(0)
	var seen []string
	for _, b := range w.upstream.bytesSeen() {
		requests, _, err := strictly(b)
		if err != nil {
			t.Errorf("upstream saw %.500q: %v", b, err)
		}
		seen = append(seen, requests...)
	}
	understood := w.upstream.seen()
	if port == 443 {
		for _, r := range understood {
			method, rest, _ := strings.Cut(r, " ")
			_, target, _ := strings.Cut(rest, " ")
			seen = append(seen, method+" "+target)
		}
	}
	for i, r := range seen {
		seen[i], _, _ = strings.Cut(r, "?")
	}
	slices.Sort(seen)
	slices.Sort(allowed)
	broken := strings.Contains(message, "hunked")
	if !slices.Equal(seen, allowed) && !(broken && len(seen) < len(allowed)) {
		t.Errorf("upstream saw %q, and %q was allowed; answers %.300q", seen, allowed, answers)
	}
	for _, r := range append(seen, understood...) {
		if path, _, _ := strings.Cut(r, "?"); strings.Contains(path, "secret") || strings.HasPrefix(r, "DELETE") {
			t.Errorf("upstream saw %q", r)
		}
	}
	for _, r := range w.upstream.overrides() {
		t.Errorf("upstream was told %s", r)
	}
	for r := bufio.NewReader(strings.NewReader(string(answers))); ; {
		resp, err := http.ReadResponse(r, nil)
		if err != nil {
			break
		}
		if _, err := io.Copy(io.Discard, resp.Body); err != nil {
			break
		}
		if resp.StatusCode >= 500 && resp.StatusCode != 505 {
			t.Errorf("answer %d", resp.StatusCode)
		}
	}
	t.Logf("%d answers, allowed %q", strings.Count(string(answers), "HTTP/1.1 "), allowed)
}
