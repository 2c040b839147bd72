package proxy_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"io"
	"math/big"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/sandlock/sandlock/netfilter/endpoint"
	"github.com/sandlock/sandlock/proxy"
)

// A server whose certificate is not good for the host is answered for with 502 and
// the fault; no byte of the request reaches it.
func TestUpstreamsAreVerified(t *testing.T) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	issue := func(change func(*x509.Certificate), parent *x509.Certificate) *x509.Certificate {
		c := &x509.Certificate{SerialNumber: big.NewInt(5), Subject: pkix.Name{CommonName: "a.test"}, DNSNames: []string{"a.test"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
			KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}, BasicConstraintsValid: true}
		if change != nil {
			change(c)
		}
		if parent == nil {
			parent = c
		}
		der, err := x509.CreateCertificate(rand.Reader, c, parent, &key.PublicKey, key)
		if err != nil {
			t.Fatal(err)
		}
		out, err := x509.ParseCertificate(der)
		if err != nil {
			t.Fatal(err)
		}
		return out
	}
	root := issue(func(c *x509.Certificate) {
		c.Subject.CommonName, c.IsCA, c.DNSNames, c.KeyUsage, c.ExtKeyUsage = "root", true, nil, x509.KeyUsageCertSign, nil
	}, nil)
	roots := x509.NewCertPool()
	roots.AddCert(root)
	for _, c := range []struct {
		name   string
		leaf   *x509.Certificate
		max    uint16
		status string
		fault  string
	}{
		{"good", issue(nil, root), 0, "200", ""},
		{"expired", issue(func(c *x509.Certificate) { c.NotAfter = time.Now().Add(-time.Minute) }, root), 0, "502", "expired"},
		{"not yet valid", issue(func(c *x509.Certificate) { c.NotBefore = time.Now().Add(time.Minute) }, root), 0, "502", "not yet valid"},
		{"for another host", issue(func(c *x509.Certificate) { c.DNSNames = []string{"b.test"} }, root), 0, "502", "b.test"},
		{"in its common name only", issue(func(c *x509.Certificate) { c.DNSNames = nil }, root), 0, "502", "Common Name"},
		{"signed by itself", issue(nil, nil), 0, "502", "unknown authority"},
		{"for clients", issue(func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth} }, root), 0, "502", "usage"},
		{"TLS 1.1", issue(nil, root), tls.VersionTLS11, "502", "protocol version"},
	} {
		got := make(chan string, 1)
		w := newWorld(t, worldOptions{allow: []string{"* a.test/*"}, change: func(conf *proxy.Config) {
			conf.Roots = func() *x509.CertPool { return roots }
			conf.Dial = func(context.Context, uint64, endpoint.Name, uint16) (net.Conn, error) {
				ours, theirs, err := loopback()
				if err != nil {
					return nil, err
				}
				go func() {
					defer theirs.Close()
					s := tls.Server(theirs, &tls.Config{MinVersion: tls.VersionTLS10, MaxVersion: c.max, Certificates: []tls.Certificate{{Certificate: [][]byte{c.leaf.Raw}, PrivateKey: key}}})
					b := make([]byte, 4096)
					n, _ := s.Read(b)
					got <- string(b[:n])
					_, _ = io.WriteString(s, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok")
				}()
				return ours, nil
			}
		}})
		resp, err := w.client().Get("https://a.test/secret")
		if err != nil {
			t.Fatal(c.name, err)
		}
		body, _ := io.ReadAll(resp.Body)
		if !strings.HasPrefix(resp.Status, c.status) {
			t.Errorf("%s: %s %s", c.name, resp.Status, body)
		}
		if seen := <-got; (seen != "") != (c.fault == "") {
			t.Errorf("%s: the server saw %q", c.name, seen)
		}
		if c.fault == "" {
			continue
		}
		var answer struct{ Error string }
		if err := json.Unmarshal(body, &answer); err != nil || !strings.Contains(answer.Error, c.fault) || resp.Header.Get("X-Sandlock-Reason") == "" {
			t.Errorf("%s: %s", c.name, body)
		}
		w.mu.Lock()
		if len(w.reports) != 1 || w.reports[0].Status != 502 || !strings.Contains(w.reports[0].Reason, c.fault) {
			t.Errorf("%s: %+v", c.name, w.reports)
		}
		w.mu.Unlock()
	}
}
