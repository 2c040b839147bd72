package proxy_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/net/http2"
)

// client returns an HTTP client all of whose connections go through the proxy.
func (w *world) client() *http.Client {
	protocols := new(http.Protocols)
	protocols.SetHTTP2(true)
	protocols.SetHTTP1(true)
	tr := &http.Transport{Protocols: protocols, ExpectContinueTimeout: guard, TLSClientConfig: &tls.Config{RootCAs: w.roots},
		DialContext: func(context.Context, string, string) (net.Conn, error) {
			c, _ := w.connect(443)
			return c, c.SetDeadline(time.Time{})
		}}
	w.t.Cleanup(tr.CloseIdleConnections)
	return &http.Client{Transport: tr}
}

// Uploads that are refused, by a rule or by the upstream, leave the other streams of
// their connection alone.
func TestRefusedUploadsDisturbNoNeighbour(t *testing.T) {
	t.Parallel()
	const events, rounds, crowd = 100, 500, 8
	next := make(chan struct{})
	w := newWorld(t, worldOptions{allow: []string{"* a.test/ok/*"}, serve: http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/ok/events" {
			rw.WriteHeader(http.StatusRequestEntityTooLarge) // and the body is not read
			return
		}
		for i := range events {
			fmt.Fprintf(rw, "event %d\n", i)
			rw.(http.Flusher).Flush()
			select {
			case <-next:
			case <-r.Context().Done():
				return
			}
		}
	})})
	c := w.client()
	resp, err := c.Get("https://a.test/ok/events")
	if err != nil || resp.ProtoMajor != 2 {
		t.Fatal(resp, err)
	}
	heard := make(chan string, 1)
	go func() {
		b, err := io.ReadAll(resp.Body)
		heard <- fmt.Sprint(strings.Count(string(b), "event "), err)
	}()
	body := bytes.Repeat([]byte("x"), 200<<10)
	var wg sync.WaitGroup
	for n := range crowd {
		wg.Go(func() {
			for i := range rounds {
				path, want := "/no/upload", http.StatusForbidden
				if (n+i)%2 == 0 {
					path, want = "/ok/upload", http.StatusRequestEntityTooLarge
				}
				req, _ := http.NewRequest("POST", "https://a.test"+path, bytes.NewReader(body))
				if n%4 < 2 {
					req.Header.Set("Expect", "100-continue")
				}
				resp, err := c.Do(req)
				if err != nil || resp.StatusCode != want {
					t.Errorf("upload %d.%d: %v, %v", n, i, resp, err)
					return
				}
				_, _ = io.Copy(io.Discard, resp.Body)
				resp.Body.Close()
				if n == 0 && i < events {
					next <- struct{}{}
				}
			}
		})
	}
	wg.Wait()
	if got := <-heard; got != fmt.Sprint(events, nil) {
		t.Errorf("the neighbour heard %s", got)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.connected != 1 || len(w.faults) > 0 {
		t.Errorf("%d connections, faults %q", w.connected, w.faults)
	}
}

// Floods end their own connection, and others go on.
func TestFloods(t *testing.T) {
	const (
		most          = 64 << 20 // bytes that a flood may send before it is stopped
		maxGoroutines = 4000     // of all floods together; a stream takes a handful
	)
	for name, flood := range map[string]func(h *h2) error{
		"rapid reset": func(h *h2) error {
			id := h.send(true, request("POST", "a.test", "/ok/x")...)
			return h.f.WriteRSTStream(id, http2.ErrCodeCancel)
		},
		"rapid reset of refused requests": func(h *h2) error {
			id := h.send(true, request("POST", "a.test", "/no/x")...)
			return h.f.WriteRSTStream(id, http2.ErrCodeCancel)
		},
		"pings": func(h *h2) error { return h.f.WritePing(false, [8]byte{}) },
		"settings": func(h *h2) error {
			return h.f.WriteSettings(http2.Setting{ID: http2.SettingMaxFrameSize, Val: 1 << 20})
		},
		"continuation": func(h *h2) error {
			if h.next == 1 {
				h.next = 3
				return h.f.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: h.block(request("GET", "a.test", "/ok/x")...)})
			}
			return h.f.WriteContinuation(1, false, h.block("x", strings.Repeat("y", 4000)))
		},
		"empty continuation": func(h *h2) error {
			if h.next == 1 {
				h.next = 3
				return h.f.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: h.block(request("GET", "a.test", "/ok/x")...)})
			}
			return h.f.WriteContinuation(1, false, nil)
		},
		"empty data": func(h *h2) error {
			if h.next == 1 {
				h.send(false, request("POST", "a.test", "/ok/x")...)
			}
			return h.f.WriteData(1, false, nil)
		},
	} {
		t.Run(strings.ReplaceAll(name, " ", "_"), func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, worldOptions{allow: []string{"* a.test/ok/*"}})
			conn, over := w.connect(443)
			counted := &counter{Conn: w.secure(conn, "a.test", "h2")}
			h := newH2(t, counted)
			go func() { _, _ = io.Copy(io.Discard, conn) }() // the answers come, and are not looked at
			var err error
			frames := 0
			for ; err == nil && counted.sent < most && frames < 200_000; frames++ {
				err = flood(h)
			}
			t.Logf("%d frames, %d KiB: %v; %d goroutines, upstream saw %d", frames, counted.sent>>10, err, runtime.NumGoroutine(), len(w.upstream.seen()))
			if err == nil && name == "continuation" {
				t.Error("it was not stopped")
			}
			if n := runtime.NumGoroutine(); n > maxGoroutines {
				t.Errorf("%d goroutines", n)
			}
			if resp, err := w.client().Get("https://a.test/ok/other"); err != nil || resp.StatusCode != 200 {
				t.Errorf("another connection: %v, %v", resp, err)
			}
			conn.Close()
			w.await(over)
		})
	}
}

// counter counts what is written.
type counter struct {
	net.Conn
	sent int
}

func (c *counter) Write(b []byte) (int, error) {
	n, err := c.Conn.Write(b)
	c.sent += n
	return n, err
}
