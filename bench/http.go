package main

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"time"

	"github.com/sandlock/sandlock/bench/measure"
	"github.com/sandlock/sandlock/internal/lab"
	"golang.org/x/sys/unix"
)

const (
	small     = "100"       // bytes of a body
	large     = "104857600" // 100 MB
	firstWait = 60 * time.Millisecond
	maxGrowth = 8 << 10 // KiB that memory may grow by over 50,000 requests and 1 GB
)

var (
	reverseAddr = netip.AddrPortFrom(lab.Shared4, 443).String()
	mitmAddr    = netip.AddrPortFrom(lab.Evil4, 443).String()
)

// web is the server of requests, a client on each side, and the proxies that the
// interceptor is compared with.
type web struct {
	bare, boxed, reverse, mitm *worker
	server                     *http.Server
}

func (b *bench) web() (w *web, err error) {
	w = &web{}
	l, err := net.Listen("tcp", netip.AddrPortFrom(serverAddr, 443).String())
	if err != nil {
		return nil, err
	}
	w.server = &http.Server{Handler: http.HandlerFunc(serveBytes), ErrorLog: log.New(io.Discard, "", 0)}
	go w.server.Serve(tls.NewListener(l, &tls.Config{Certificates: []tls.Certificate{b.cert}, NextProtos: []string{"h2", "http/1.1"}}))
	defer func() {
		if err != nil {
			w.close()
		}
	}()
	os.Setenv(envCA, lab.CAFile())
	if w.bare, w.boxed, err = b.pair([]string{"--http-allow", "GET " + serverName + "/*"}, b.self(), clientWord); err != nil {
		return nil, err
	}
	cert, err := b.certFile()
	if err != nil {
		return nil, err
	}
	upstream := netip.AddrPortFrom(serverAddr, 443).String()
	if w.reverse, err = b.start(b.self(), reverseWord, reverseAddr, serverName, upstream, cert); err != nil {
		return nil, err
	}
	if !w.reverse.out.Scan() {
		return nil, fmt.Errorf("the reverse proxy does not start")
	}
	if path, lookErr := exec.LookPath("mitmdump"); lookErr == nil {
		host, port, _ := net.SplitHostPort(mitmAddr)
		if w.mitm, err = b.start(path, "-q", "--mode", "reverse:https://"+upstream, "--listen-host", host, "-p", port,
			"--certs", "*="+cert, "--set", "keep_host_header=true", "--set", "ssl_insecure=true", "--set", "block_global=false"); err == nil {
			err = awaitPort(mitmAddr)
		}
	}
	return w, err
}

func awaitPort(at string) error {
	for deadline := time.Now().Add(patience); ; time.Sleep(50 * time.Millisecond) {
		c, err := net.Dial("tcp", at)
		if err == nil {
			return c.Close()
		}
		if time.Now().After(deadline) {
			return err
		}
	}
}

func (w *web) close() {
	for _, p := range []*worker{w.reverse, w.mitm} {
		if p != nil {
			p.cmd.Process.Kill()
		}
	}
	for _, p := range []*worker{w.bare, w.boxed, w.reverse, w.mitm} {
		if p != nil {
			p.close()
		}
	}
	w.server.Close()
}

// get is a round of requests by a client, whose sample has the processor time of
// the proxy alone.
func get(client *worker, n int, proto, size, at string, proxy func() time.Duration) measure.Subject {
	return func() (measure.Sample, error) {
		before := proxy()
		s, err := client.ask(n, "get", serverName, tlsPort, proto, size, at)
		s.CPU = proxy() - before
		return s, err
	}
}

// interception compares requests through the interceptor with direct ones and
// with other proxies.
func interception(b *bench) error {
	w, err := b.web()
	if err != nil {
		return err
	}
	defer w.close()
	none := func() time.Duration { return 0 }
	for _, proto := range []string{"h1", "h2"} {
		const n = 200
		names := []string{"interceptor", "plain reverse proxy"}
		subjects := []measure.Subject{get(w.bare, n, proto, small, "-", none), get(w.boxed, n, proto, small, "-", w.boxed.supervisors),
			get(w.bare, n, proto, small, reverseAddr, w.reverse.supervisors)}
		if w.mitm != nil {
			names, subjects = append(names, "mitmproxy"), append(subjects, get(w.bare, n, proto, small, mitmAddr, w.mitm.supervisors))
		}
		s, err := measure.Interleave(b.rounds(40), subjects...)
		if err != nil {
			return err
		}
		for i, name := range names {
			b.table.add(row{name: "requests, " + proto + ": " + name, bare: perSecond(n, s[0]), boxed: perSecond(n, s[1+i]),
				ratio: times(1 / s[1+i].Ratio(s[0], measure.Wall))})
		}
		cpu := func(i int) time.Duration { return each(s[i].Median(measure.CPU), n) }
		b.table.add(row{name: "CPU per request, " + proto + ", plain", bare: span(cpu(2)), boxed: span(cpu(1))}.atMost(s[1].Ratio(s[2], measure.CPU), 1.25))
		if w.mitm != nil {
			b.table.add(row{name: "CPU per request, " + proto + ", mitmproxy", bare: span(cpu(3)), boxed: span(cpu(1))}.atLeast(s[3].Ratio(s[1], measure.CPU), 20))
		}
	}
	if err := b.bodies(w); err != nil {
		return err
	}
	if err := b.newTLS(w); err != nil {
		return err
	}
	return b.flat(w)
}

// bodies compares large bodies by all the processor time that they take: of
// server, proxies and client.
func (b *bench) bodies(w *web) error {
	for _, proto := range []string{"h1", "h2"} {
		whole := func(client *worker, proxy func() time.Duration) measure.Subject {
			return func() (measure.Sample, error) {
				before := proxy() + ownTime()
				s, err := client.ask(1, "get", serverName, tlsPort, proto, large, "-")
				s.CPU += proxy() + ownTime() - before
				return s, err
			}
		}
		s, err := measure.Interleave(b.rounds(20), whole(w.bare, func() time.Duration { return 0 }), whole(w.boxed, w.boxed.supervisors))
		if err != nil {
			return err
		}
		const bytes = 100 << 20
		b.table.add(row{name: "100 MB, " + proto + ", wall", bare: rate(bytes, s[0].Median(measure.Wall)), boxed: rate(bytes, s[1].Median(measure.Wall)),
			ratio: times(1 / s[1].Ratio(s[0], measure.Wall))})
		b.table.add(row{name: "100 MB, " + proto + ", per core", bare: rate(bytes, s[0].Median(measure.CPU)), boxed: rate(bytes, s[1].Median(measure.CPU))}.
			atLeast(1/s[1].Ratio(s[0], measure.CPU), 0.4))
	}
	return nil
}

func (b *bench) newTLS(w *web) error {
	const n = 5
	ask := func(client *worker) measure.Subject {
		return client.subject(n, "connection", serverName, tlsPort, "h1", small, "-")
	}
	s, err := measure.Interleave(b.rounds(100), ask(w.bare), ask(w.boxed))
	if err != nil {
		return err
	}
	b.table.add(row{name: "connection: TLS, intercepted", bare: span(each(s[0].Median(measure.Wall), n)), boxed: span(each(s[1].Median(measure.Wall), n))}.
		atMost(s[1].Ratio(s[0], measure.Wall), 2.5))
	first := func(args ...string) measure.Subject {
		return func() (measure.Sample, error) {
			start := time.Now()
			err := run(args[0], args[1:]...)
			return measure.Sample{Wall: time.Since(start)}, err
		}
	}
	curl := []string{"curl", "-sSf", "-o", "/dev/null", "https://" + serverName + "/" + small}
	if s, err = measure.Interleave(b.rounds(50), first(curl...), first(b.net([]string{"--http-allow", "GET " + serverName + "/*"}, curl...)...)); err != nil {
		return err
	}
	m := s[1].Median(measure.Wall)
	b.table.add(row{name: "first request, start to end of curl", bare: span(s[0].Median(measure.Wall)), boxed: span(m),
		ratio: times(s[1].Ratio(s[0], measure.Wall)), bar: "<= " + span(firstWait), holds: m <= firstWait})
	return nil
}

// flat looks at the memory of interceptor and supervisor over many requests.
func (b *bench) flat(w *web) error {
	n, bodies := 50000, 10
	if b.quick {
		n, bodies = 5000, 1
	}
	warm := n / 10
	if _, err := w.boxed.ask(warm, "get", serverName, tlsPort, "h2", small, "-"); err != nil {
		return err
	}
	if _, err := w.boxed.ask(2, "get", serverName, tlsPort, "h1", large, "-"); err != nil {
		return err
	}
	before, err := w.boxed.familyResident()
	if err != nil {
		return err
	}
	for _, c := range []struct {
		n           int
		proto, size string
	}{{n / 2, "h1", small}, {n / 2, "h2", small}, {bodies / 2, "h1", large}, {bodies - bodies/2, "h2", large}} {
		if _, err := w.boxed.ask(c.n, "get", serverName, tlsPort, c.proto, c.size, "-"); err != nil {
			return err
		}
	}
	after, err := w.boxed.familyResident()
	if err != nil {
		return err
	}
	b.table.add(row{name: fmt.Sprintf("memory: %d requests, %d bodies", n, bodies), bare: kib(before), boxed: kib(after),
		ratio: times(float64(after) / float64(before)), bar: "flat (+" + kib(maxGrowth) + ")", holds: after-before <= maxGrowth})
	return nil
}

func perSecond(n int, s measure.Series) string {
	return fmt.Sprintf("%.0f/s", float64(n)/s.Median(measure.Wall).Seconds())
}

// ownTime is the processor time of this process, in which the server is.
func ownTime() time.Duration {
	var r unix.Rusage
	unix.Getrusage(unix.RUSAGE_SELF, &r)
	return time.Duration(r.Utime.Nano() + r.Stime.Nano())
}

func pemOf(c tls.Certificate) ([]byte, error) {
	var b bytes.Buffer
	key, err := x509.MarshalPKCS8PrivateKey(c.PrivateKey)
	if err != nil {
		return nil, err
	}
	pem.Encode(&b, &pem.Block{Type: "PRIVATE KEY", Bytes: key})
	for _, der := range c.Certificate {
		pem.Encode(&b, &pem.Block{Type: "CERTIFICATE", Bytes: der})
	}
	return b.Bytes(), nil
}
