package main

import (
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"sync"
	"sync/atomic"
)

// inParallel is how many requests are under way at once in the command "get".
const inParallel = 8

// httpGet has the client get paths of n requests in all: NAME PORT PROTO BYTES
// ADDRESS, where PROTO is h1 or h2 and ADDRESS is where to connect to, "-" for
// what NAME leads to. The certificate must be one that the system trusts.
func (c *netClient) httpGet(n int, args []string) error {
	if len(args) != 5 {
		return fmt.Errorf("get: NAME PORT PROTO BYTES ADDRESS")
	}
	client := c.httpClient(args)
	var left atomic.Int64
	left.Store(int64(n))
	var wg sync.WaitGroup
	failed := make(chan error, inParallel)
	for range min(n, inParallel) {
		wg.Go(func() {
			for left.Add(-1) >= 0 {
				if err := getOnce(client, "https://"+net.JoinHostPort(args[0], args[1])+"/"+args[3]); err != nil {
					failed <- err
					return
				}
			}
		})
	}
	wg.Wait()
	select {
	case err := <-failed:
		return err
	default:
		return nil
	}
}

// httpNew is get with a connection for each request, one after the other.
func (c *netClient) httpNew(n int, args []string) error {
	client := c.httpClient(args)
	for range n {
		if err := getOnce(client, "https://"+net.JoinHostPort(args[0], args[1])+"/"+args[3]); err != nil {
			return err
		}
		client.CloseIdleConnections()
	}
	return nil
}

func (c *netClient) httpClient(args []string) *http.Client {
	key := fmt.Sprint(args[0], args[1], args[2], args[4])
	if known := c.http[key]; known != nil {
		return known
	}
	h2 := args[2] == "h2"
	t := &http.Transport{ForceAttemptHTTP2: h2, MaxIdleConnsPerHost: inParallel, DisableCompression: true, TLSClientConfig: &tls.Config{}}
	if !h2 {
		t.TLSNextProto = map[string]func(string, *tls.Conn) http.RoundTripper{}
	}
	if args[4] != "-" {
		to := args[4]
		dialer := net.Dialer{Timeout: patience}
		t.DialContext = dialerTo(dialer, to)
	}
	client := &http.Client{Transport: t, Timeout: patience}
	c.http[key] = client
	return client
}

func getOnce(client *http.Client, url string) error {
	r, err := client.Get(url)
	if err != nil {
		return err
	}
	defer r.Body.Close()
	n, err := io.Copy(io.Discard, r.Body)
	if err != nil {
		return err
	}
	if r.StatusCode != http.StatusOK || n != r.ContentLength {
		return fmt.Errorf("%s: %s, %d bytes", url, r.Status, n)
	}
	return nil
}

// serveBytes answers /N with N bytes.
func serveBytes(w http.ResponseWriter, r *http.Request) {
	n, err := strconv.Atoi(r.URL.Path[1:])
	if err != nil {
		http.NotFound(w, r)
		return
	}
	w.Header().Set("Content-Length", strconv.Itoa(n))
	w.Header().Set("Content-Type", "application/octet-stream")
	for n > 0 {
		sent, err := w.Write(zeros[:min(n, len(zeros))])
		if err != nil {
			return
		}
		n -= sent
	}
}

var zeros [128 << 10]byte
