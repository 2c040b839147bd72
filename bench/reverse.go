package main

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
)

// reverseWord as the first argument makes this program a plain reverse proxy of
// package net/http, with TLS on both sides: what the interceptor is compared with.
const reverseWord = "reverse"

// reverse is called with the address to listen on, the upstream's name and
// address, and the file with a certificate and its key. It serves until it is
// killed.
func reverse(args []string) {
	cert, err := tls.LoadX509KeyPair(args[3], args[3])
	if err != nil {
		os.Exit(fail(err))
	}
	l, err := net.Listen("tcp", args[0])
	if err != nil {
		os.Exit(fail(err))
	}
	t := &http.Transport{ForceAttemptHTTP2: true, DisableCompression: true, MaxIdleConnsPerHost: 64, TLSClientConfig: &tls.Config{}}
	t.DialContext = dialerTo(net.Dialer{Timeout: patience}, args[2])
	proxy := &httputil.ReverseProxy{Transport: t, Rewrite: func(r *httputil.ProxyRequest) {
		r.SetURL(&url.URL{Scheme: "https", Host: args[1]})
	}}
	fmt.Println("ready")
	l = tls.NewListener(l, &tls.Config{Certificates: []tls.Certificate{cert}, NextProtos: []string{"h2", "http/1.1"}})
	os.Exit(fail(http.Serve(l, proxy)))
}

// dialerTo connects to one address, whatever it is asked for.
func dialerTo(d net.Dialer, to string) func(context.Context, string, string) (net.Conn, error) {
	return func(ctx context.Context, network, _ string) (net.Conn, error) { return d.DialContext(ctx, network, to) }
}

// certFile writes the lab's certificate with its key for other programs.
func (b *bench) certFile() (string, error) {
	text, err := pemOf(b.cert)
	if err != nil {
		return "", err
	}
	path := filepath.Join(b.scratch(), "cert.pem")
	return path, os.WriteFile(path, text, 0o600)
}
