package proxy

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/textproto"
	"strings"
	"testing"
	"time"
)

// versions runs a test with HTTP/1.1 and HTTP/2 towards the client and towards the
// upstream.
func versions(t *testing.T, f func(t *testing.T, client2, upstream1 bool)) {
	for _, c := range []struct {
		name             string
		client2, server1 bool
	}{{"h1 to h1", false, true}, {"h1 to h2", false, false}, {"h2 to h1", true, true}, {"h2 to h2", true, false}} {
		t.Run(c.name, func(t *testing.T) { f(t, c.client2, c.server1) })
	}
}

func TestHeadersTrailersAndBodiesPass(t *testing.T) {
	handler := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		for _, field := range []string{"Connection", "Keep-Alive", "X-Hop", "Proxy-Authorization", "User-Agent", "Accept-Encoding", "Te", "Upgrade"} {
			if v, ok := r.Header[field]; ok {
				w.Header().Add("X-Seen", field+"="+strings.Join(v, ","))
			}
		}
		w.Header().Set("Alt-Svc", `h3=":443"`)
		w.Header().Set("Keep-Alive", "timeout=5")
		w.Header().Set("Trailer", "X-Sum")
		w.Header()["Content-Type"] = nil
		http.NewResponseController(w).EnableFullDuplex()
		n, err := io.Copy(w, r.Body)
		w.Header().Set("X-Sum", fmt.Sprint(n, err, r.Trailer.Get("X-Up")))
	})
	versions(t, func(t *testing.T, client2, upstream1 bool) {
		l := newLab(t, labOptions{rules: []string{"* allowed.test"}, handler: handler, http1: upstream1})
		body := strings.Repeat("0123456789abcdef", 100_000)
		r := request(t, "POST", "https://allowed.test/x", struct{ io.Reader }{strings.NewReader(body)})
		r.Header["User-Agent"] = nil
		if !client2 {
			r.Header.Set("Connection", "X-Hop, Keep-Alive")
			r.Header.Set("X-Hop", "1")
			r.Header.Set("Keep-Alive", "1")
			r.Header.Set("Upgrade", "h2c")
		}
		r.Header.Set("Proxy-Authorization", "secret")
		r.Trailer = http.Header{"X-Up": {"up"}}
		resp, got := l.get(l.client(client2), r)
		if got != body {
			t.Errorf("%d bytes came back of %d", len(got), len(body))
		}
		if resp.Trailer.Get("X-Sum") != fmt.Sprint(len(body), nil, "up") {
			t.Errorf("trailer %v", resp.Trailer)
		}
		if seen := resp.Header["X-Seen"]; len(seen) != 0 {
			t.Errorf("the upstream saw %q", seen)
		}
		for _, field := range []string{"Alt-Svc", "Keep-Alive", "Content-Type"} {
			if v, ok := resp.Header[field]; ok {
				t.Errorf("the client got %s: %q", field, v)
			}
		}
		l.await("the report", func() bool { return len(l.reports) == 1 })
		if e := l.reports[0]; e.Outcome != Allowed || e.Up != int64(len(body)) || e.Down != int64(len(body)) || e.Status != 200 || e.Path != "/x" {
			t.Errorf("report %+v", e)
		}
	})
}

// Each part of an answer of unknown length is there before the next is made, and
// each part of a request before the answer ends.
func TestStreamsAreNotHeldBack(t *testing.T) {
	handler := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		http.NewResponseController(w).EnableFullDuplex()
		w.Header().Set("Content-Type", r.URL.Query().Get("type"))
		w.WriteHeader(200)
		http.NewResponseController(w).Flush()
		lines := bufio.NewScanner(r.Body)
		for lines.Scan() {
			fmt.Fprintf(w, "echo %s\n", lines.Text())
			http.NewResponseController(w).Flush()
		}
	})
	versions(t, func(t *testing.T, client2, upstream1 bool) {
		l := newLab(t, labOptions{rules: []string{"* allowed.test"}, handler: handler, http1: upstream1})
		for _, kind := range []string{"text/event-stream", "application/x-ndjson", "application/grpc"} {
			in, out := io.Pipe()
			resp, err := l.client(client2).Do(request(t, "POST", "https://allowed.test/?type="+kind, in))
			if err != nil {
				t.Fatal(err)
			}
			lines := bufio.NewReader(resp.Body)
			for i := range 5 {
				fmt.Fprintf(out, "%d\n", i)
				if line, err := lines.ReadString('\n'); err != nil || line != fmt.Sprintf("echo %d\n", i) {
					t.Fatalf("%s: %q, %v", kind, line, err)
				}
			}
			out.Close()
			if _, err := lines.ReadByte(); err != io.EOF {
				t.Errorf("%s: %v after the end", kind, err)
			}
			resp.Body.Close()
		}
	})
}

func TestInformationalAnswersAndExpectations(t *testing.T) {
	handler := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/reject" {
			w.WriteHeader(http.StatusExpectationFailed)
			return
		}
		w.Header().Set("Link", "</style.css>; rel=preload")
		w.WriteHeader(http.StatusEarlyHints)
		w.Header().Del("Link")
		io.Copy(w, r.Body)
	})
	versions(t, func(t *testing.T, client2, upstream1 bool) {
		l := newLab(t, labOptions{rules: []string{"* allowed.test"}, handler: handler, http1: upstream1})
		for path, want := range map[string]int{"/reject": http.StatusExpectationFailed, "/take": http.StatusOK, "/hints": http.StatusOK} {
			var hints []string
			r := request(t, "POST", "https://allowed.test"+path, strings.NewReader("body"))
			r.Header.Set("Expect", "100-continue")
			if path == "/hints" {
				r = request(t, "GET", "https://allowed.test"+path, nil)
			}
			r = r.WithContext(httptrace.WithClientTrace(t.Context(), &httptrace.ClientTrace{Got1xxResponse: func(code int, h textproto.MIMEHeader) error {
				if code == http.StatusEarlyHints {
					hints = append(hints, h.Get("Link"))
				}
				return nil
			}}))
			resp, body := l.get(l.client(client2), r)
			if resp.StatusCode != want || path == "/take" && body != "body" || path == "/hints" && (len(hints) != 1 || hints[0] == "") || resp.Header.Get("Link") != "" {
				t.Errorf("%s: status %d, body %q, hints %q, header %v", path, resp.StatusCode, body, hints, resp.Header)
			}
		}
	})
}

// A gRPC server says how a call went in a trailer that it did not announce, or in the
// header of an answer without a body.
func TestGRPCShapesPass(t *testing.T) {
	l := newLab(t, labOptions{rules: []string{"POST allowed.test/ok/*"}, handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/grpc")
		if r.Header.Get("Te") != "trailers" {
			w.Header().Set("Grpc-Status", "13")
			return
		}
		if r.URL.Path == "/ok/only" {
			w.Header().Set("Grpc-Status", "5")
			return
		}
		io.Copy(w, r.Body)
		w.Header().Set(http.TrailerPrefix+"Grpc-Status", "0")
	})})
	for path, want := range map[string]struct{ header, trailer string }{"/ok/call": {"", "0"}, "/ok/only": {"5", ""}, "/denied": {"7", ""}} {
		r := request(t, "POST", "https://allowed.test"+path, struct{ io.Reader }{strings.NewReader("message")})
		r.Header.Set("Content-Type", "application/grpc")
		r.Header.Set("Te", "trailers")
		resp, _ := l.get(l.client(true), r)
		if resp.StatusCode != 200 || resp.Header.Get("Grpc-Status") != want.header || resp.Trailer.Get("Grpc-Status") != want.trailer {
			t.Errorf("%s: status %d, header %v, trailer %v", path, resp.StatusCode, resp.Header, resp.Trailer)
		}
	}
}

func TestWebSocketsPassAndOtherUpgradesDoNot(t *testing.T) {
	closed := make(chan struct{}, 8)
	l := newLab(t, labOptions{rules: []string{"GET allowed.test/ws"}, handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Upgrade") == "" {
			io.WriteString(w, "plain")
			return
		}
		conn, rw, err := http.NewResponseController(w).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		defer conn.Close()
		fmt.Fprint(rw, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: "+r.Header.Get("Upgrade")+"\r\n\r\nhello ")
		rw.Flush()
		line, _ := rw.ReadString('\n')
		fmt.Fprint(rw, "got "+line)
		rw.Flush()
		if r.URL.RawQuery == "client" {
			io.Copy(io.Discard, rw)
		}
		closed <- struct{}{}
	})})
	for _, who := range []string{"server", "client"} {
		conn := l.tls()
		// The first frame comes right behind the request.
		io.WriteString(conn, "GET /ws?"+who+" HTTP/1.1\r\nHost: allowed.test\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\nframe\n")
		r := bufio.NewReader(conn)
		resp, err := http.ReadResponse(r, nil)
		if err != nil || resp.StatusCode != 101 || !upgradesToWebSocket(resp.Header) {
			t.Fatalf("%+v, %v", resp, err)
		}
		if line, err := r.ReadString('\n'); err != nil || line != "hello got frame\n" {
			t.Fatalf("%q, %v", line, err)
		}
		if who == "client" {
			conn.Close()
		} else if _, err := r.ReadByte(); err == nil || isTimeout(err) {
			t.Errorf("the server closed, and the client got %v", err)
		}
		select {
		case <-closed:
		case <-time.After(guard):
			t.Fatalf("closed by the %s: the other side was not told", who)
		}
	}
	l.await("reports", func() bool { return len(l.reports) == 2 && l.ended == 2 })
	for _, protocol := range []string{"h2c", "foo", "websocket, h2c"} {
		conn := l.tls()
		io.WriteString(conn, "GET /ws HTTP/1.1\r\nHost: allowed.test\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: "+protocol+"\r\nHTTP2-Settings: AAMAAABk\r\n\r\n")
		resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
		if err != nil {
			t.Fatal(err)
		}
		if body, _ := io.ReadAll(resp.Body); resp.StatusCode != 200 || string(body) != "plain" {
			t.Errorf("%s: %d %q", protocol, resp.StatusCode, body)
		}
	}
}

func isTimeout(err error) bool {
	var e net.Error
	return errors.As(err, &e) && e.Timeout()
}

// tls opens a connection and speaks HTTP/1.1 over TLS on it.
func (l *lab) tls() *tls.Conn {
	l.t.Helper()
	c := tls.Client(l.open(443), &tls.Config{RootCAs: l.trust, ServerName: host})
	if err := c.Handshake(); err != nil {
		l.t.Fatal(err)
	}
	return c
}

// An answer that breaks off is not taken for a whole one.
func TestBrokenAnswersAreBroken(t *testing.T) {
	handler := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/sized" {
			w.Header().Set("Content-Length", "100000")
		}
		w.Write(bytes.Repeat([]byte("x"), 10000))
		http.NewResponseController(w).Flush()
		panic(http.ErrAbortHandler)
	})
	versions(t, func(t *testing.T, client2, upstream1 bool) {
		l := newLab(t, labOptions{rules: []string{"* allowed.test"}, handler: handler, http1: upstream1})
		for _, path := range []string{"/sized", "/chunked"} {
			resp, err := l.client(client2).Do(request(t, "GET", "https://allowed.test"+path, nil))
			if err != nil {
				continue // it broke off before the header was out
			}
			if n, err := io.Copy(io.Discard, resp.Body); err == nil {
				t.Errorf("%s: %d bytes were taken for all", path, n)
			}
			resp.Body.Close()
		}
	})
}

// A client may end its direction behind its last request and still wants the answer.
func TestHalfClosedClientsGetTheirAnswer(t *testing.T) {
	l := newLab(t, labOptions{plain: true, rules: []string{"* allowed.test"}, handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		select {
		case <-r.Context().Done():
			t.Error("the request was given up")
		case <-time.After(50 * time.Millisecond): // long enough for the end to be seen
		}
		io.WriteString(w, "answer")
	})})
	for _, raw := range []string{"GET / HTTP/1.0\r\nHost: allowed.test\r\n\r\n", "POST / HTTP/1.1\r\nHost: allowed.test\r\nConnection: close\r\nContent-Length: 1\r\n\r\nx"} {
		conn := l.open(80)
		io.WriteString(conn, raw)
		conn.(*net.TCPConn).CloseWrite()
		got, err := io.ReadAll(conn)
		if err != nil || !strings.HasSuffix(string(got), "answer") {
			t.Errorf("%q, %v", got, err)
		}
	}
	l.await("ends", func() bool { return l.ended == 2 })
}

// A server that answers before it has the whole body is heard, although the client
// still sends.
func TestEarlyAnswersToUploadsAreHeard(t *testing.T) {
	handler := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		io.CopyN(io.Discard, r.Body, 1000)
		w.WriteHeader(http.StatusRequestEntityTooLarge)
		io.WriteString(w, "enough")
	})
	for _, upstream1 := range []bool{false, true} {
		l := newLab(t, labOptions{rules: []string{"* allowed.test"}, handler: handler, http1: upstream1})
		for _, expect := range []string{"", "Expect: 100-continue\r\n"} {
			if upstream1 && expect != "" {
				continue // net/http's server resets such a connection itself
			}
			for range 5 {
				conn := l.tls()
				io.WriteString(conn, "PUT /x HTTP/1.1\r\nHost: allowed.test\r\n"+expect+"Content-Length: 30000000\r\n\r\n")
				sent := make(chan error, 1)
				go func() {
					_, err := io.Copy(conn, io.LimitReader(zeros{}, 30_000_000))
					sent <- err
				}()
				r := bufio.NewReader(conn)
				resp, err := http.ReadResponse(r, nil)
				if err == nil && resp.StatusCode == http.StatusContinue {
					resp, err = http.ReadResponse(r, nil)
				}
				if err != nil || resp.StatusCode != http.StatusRequestEntityTooLarge {
					t.Fatalf("%q: %+v, %v", expect, resp, err)
				}
				if body, err := io.ReadAll(resp.Body); err != nil || string(body) != "enough" {
					t.Errorf("%q: %q, %v", expect, body, err)
				}
				conn.Close()
				<-sent
			}
		}
	}
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { clear(p); return len(p), nil }
