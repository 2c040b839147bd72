package certs

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"math/big"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"
)

func mustCA(t testing.TB) *CA {
	t.Helper()
	ca, err := NewCA(time.Now)
	if err != nil {
		t.Fatal(err)
	}
	return ca
}

func mustLeaf(t testing.TB, ca *CA, h Host) *tls.Certificate {
	t.Helper()
	c, err := ca.Leaf(h)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestFormOfCertificates(t *testing.T) {
	ca := mustCA(t)
	a, b := ca.cert, mustCA(t).cert
	if bytes.Equal(a.RawSubject, b.RawSubject) || a.SerialNumber.Cmp(b.SerialNumber) == 0 {
		t.Error("two authorities are not told apart")
	}
	if !bytes.Equal(a.SubjectKeyId, a.AuthorityKeyId) || len(a.SubjectKeyId) != 20 || a.KeyUsage != x509.KeyUsageCertSign|x509.KeyUsageCRLSign || !a.MaxPathLenZero || !a.IsCA {
		t.Errorf("%+v", a)
	}
	for _, h := range []Host{{Name: "api.example.com"}, {Name: strings.Repeat("a.", 100) + "test"}, {Addr: netip.MustParseAddr("192.0.2.1")}, {Addr: netip.MustParseAddr("2001:db8::1")}} {
		c := mustLeaf(t, ca, h).Leaf
		want := h.Name
		if want == "" {
			want = h.Addr.String()
		}
		roots := x509.NewCertPool()
		roots.AppendCertsFromPEM(ca.PEM())
		if h.Name == "" {
			want = "[" + want + "]"
		}
		if _, err := c.Verify(x509.VerifyOptions{DNSName: want, Roots: roots, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}}); err != nil {
			t.Errorf("%v: %v", h, err)
		}
		if n := c.SerialNumber.BitLen(); c.SerialNumber.Sign() <= 0 || n > 8*serialBytes-1 || n < 8*serialBytes-2 {
			t.Errorf("serial of %d bits", n)
		}
		if c.IsCA || !c.BasicConstraintsValid || !bytes.Equal(c.AuthorityKeyId, a.SubjectKeyId) || len(c.SubjectKeyId) != 20 ||
			c.KeyUsage != x509.KeyUsageDigitalSignature || len(c.DNSNames)+len(c.IPAddresses) != 1 || len(c.Subject.CommonName) > 64 {
			t.Errorf("%+v", c)
		}
		if now := time.Now(); c.NotAfter.Sub(now) > leafLife || now.Sub(c.NotBefore) < skew-time.Minute {
			t.Errorf("%v to %v", c.NotBefore, c.NotAfter)
		}
	}
}

func TestHostsWithoutALeaf(t *testing.T) {
	ca := mustCA(t)
	for _, h := range []Host{{}, {Name: "A.test"}, {Name: "a..test"}, {Name: "a.test."}, {Name: "*.test"}, {Name: "a\x00b"}, {Name: "ä.test"}, {Name: strings.Repeat("a", 64)}, {Name: strings.Repeat("a.", 127) + "a"}} {
		if _, err := ca.Leaf(h); !errors.Is(err, errHost) {
			t.Errorf("%q: %v", h.Name, err)
		}
	}
	mapped := mustLeaf(t, ca, Host{Addr: netip.MustParseAddr("::ffff:192.0.2.1")})
	if mapped != mustLeaf(t, ca, Host{Addr: netip.MustParseAddr("192.0.2.1")}) {
		t.Error("one address, two leaves")
	}
}

func TestLeavesAreKeptAndRenewed(t *testing.T) {
	var mu sync.Mutex
	now := time.Now()
	ca, err := NewCA(func() time.Time { mu.Lock(); defer mu.Unlock(); return now })
	if err != nil {
		t.Fatal(err)
	}
	pass := func(d time.Duration) { mu.Lock(); now = now.Add(d); mu.Unlock() }
	h := Host{Name: "a.test"}
	first := mustLeaf(t, ca, h)
	pass(leafLife - leafRest - time.Minute)
	if mustLeaf(t, ca, h) != first {
		t.Error("a good leaf was signed again")
	}
	pass(2 * time.Minute)
	second := mustLeaf(t, ca, h)
	if second == first || second != mustLeaf(t, ca, h) {
		t.Error("an old leaf was not replaced, or twice")
	}
	// Near the end of the authority there is no better leaf to be had.
	pass(caLife - leafLife - time.Hour)
	if last := mustLeaf(t, ca, h).Leaf; last.NotAfter.After(ca.cert.NotAfter) {
		t.Errorf("valid to %v, beyond the authority", last.NotAfter)
	}
}

func TestACrowdWaitsForOneLeaf(t *testing.T) {
	ca := mustCA(t)
	const crowd = 50
	got := make([]*tls.Certificate, crowd)
	var wg sync.WaitGroup
	for i := range crowd {
		wg.Go(func() { got[i], _ = ca.Leaf(Host{Name: "a.test"}) })
	}
	wg.Wait()
	for _, c := range got {
		if c == nil || c != got[0] {
			t.Fatal("signed twice")
		}
	}
}

func TestTheCacheIsBounded(t *testing.T) {
	var c cache
	signed := 0
	sign := func(Host) (*tls.Certificate, time.Time, error) {
		signed++
		return &tls.Certificate{}, time.Now().Add(time.Hour), nil
	}
	ask := func(i int) {
		if _, err := c.get(Host{Name: string(rune('a'+i%26)) + strings.Repeat("x", i/26)}, time.Now(), sign); err != nil {
			t.Fatal(err)
		}
	}
	for i := range maxLeaves {
		ask(i)
	}
	ask(0) // makes 1 the one that was not used for longest
	ask(maxLeaves)
	if signed != maxLeaves+1 || c.used.Len() != maxLeaves || len(c.byKey) != maxLeaves {
		t.Errorf("signed %d, kept %d and %d", signed, c.used.Len(), len(c.byKey))
	}
	if ask(0); signed != maxLeaves+1 {
		t.Error("what was used last is forgotten")
	}
	if ask(1); signed != maxLeaves+2 {
		t.Error("what was not used is kept")
	}
	fails := errors.New("no")
	for range 2 {
		if _, err := c.get(Host{Name: "z.test"}, time.Now(), func(Host) (*tls.Certificate, time.Time, error) { signed++; return nil, time.Time{}, fails }); err != fails {
			t.Error(err)
		}
	}
	if signed != maxLeaves+4 {
		t.Error("a failure is kept")
	}
}

func pemOf(kind string, der []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der})
}

// authority makes a certificate and its key, as a user has them.
func authority(t testing.TB, key crypto.Signer, change func(*x509.Certificate), parent *x509.Certificate, signer crypto.Signer) (*x509.Certificate, []byte) {
	t.Helper()
	template := &x509.Certificate{SerialNumber: big.NewInt(7), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour * 1000),
		BasicConstraintsValid: true, IsCA: true, KeyUsage: x509.KeyUsageCertSign}
	template.Subject.CommonName = "own CA"
	if change != nil {
		change(template)
	}
	if parent == nil {
		parent, signer = template, key
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, key.Public(), signer)
	if err != nil {
		t.Fatal(err)
	}
	c, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	pkcs8, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return c, pemOf("PRIVATE KEY", pkcs8)
}

func TestLoadCA(t *testing.T) {
	ec, _ := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	other, _ := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	long, _ := rsa.GenerateKey(rand.Reader, 2048)
	_, ed, _ := ed25519.GenerateKey(rand.Reader)
	sec1, _ := x509.MarshalECPrivateKey(ec)
	root, _ := authority(t, other, nil, nil, nil)
	load := func(c *x509.Certificate, key []byte, more ...*x509.Certificate) (*CA, error) {
		text := []byte("a comment\n")
		for _, c := range append([]*x509.Certificate{c}, more...) {
			text = append(text, pemOf(pemCertificate, c.Raw)...)
		}
		return LoadCA(text, key, time.Now)
	}
	good := func(what string, ca *CA, err error, sent int) {
		t.Helper()
		if err != nil {
			t.Errorf("%s: %v", what, err)
			return
		}
		leaf := mustLeaf(t, ca, Host{Name: "a.test"})
		roots := x509.NewCertPool()
		roots.AppendCertsFromPEM(ca.PEM())
		if _, err := leaf.Leaf.Verify(x509.VerifyOptions{DNSName: "a.test", Roots: roots}); err != nil || len(leaf.Certificate) != sent {
			t.Errorf("%s: %v, %d certificates", what, err, len(leaf.Certificate))
		}
	}
	c, key := authority(t, ec, nil, nil, nil)
	ca, err := load(c, key)
	good("PKCS #8", ca, err, 1)
	ca, err = load(c, pemOf("EC PRIVATE KEY", sec1))
	good("SEC 1", ca, err, 1)
	ca, err = LoadCA(append(append([]byte{}, key...), pemOf(pemCertificate, c.Raw)...), append(pemOf(pemCertificate, c.Raw), key...), time.Now)
	good("one file", ca, err, 1)
	c, _ = authority(t, long, nil, nil, nil)
	ca, err = load(c, pemOf("RSA PRIVATE KEY", x509.MarshalPKCS1PrivateKey(long)))
	good("RSA", ca, err, 1)
	c, key = authority(t, ec, func(c *x509.Certificate) { c.Subject.CommonName = "below" }, root, other)
	ca, err = load(c, key, root)
	good("below a root", ca, err, 2)
	ca, err = load(c, key)
	good("below a root that is not given", ca, err, 2)

	bad := func(remedy string, ca *CA, err error) {
		t.Helper()
		if err == nil || ca != nil || !strings.Contains(err.Error(), remedy) {
			t.Errorf("%v, want %q", err, remedy)
		}
	}
	ca, err = load(c, key, c)
	bad("what signed it after it", ca, err)
	ca, err = load(root, key)
	bad("key of this certificate", ca, err)
	for remedy, change := range map[string]func(*x509.Certificate){
		"not a server's": func(c *x509.Certificate) { c.IsCA = false },
		"keyCertSign":    func(c *x509.Certificate) { c.KeyUsage = x509.KeyUsageDigitalSignature },
		"expired on":     func(c *x509.Certificate) { c.NotAfter = time.Now().Add(-time.Minute) },
		"clock":          func(c *x509.Certificate) { c.NotBefore = time.Now().Add(time.Minute) },
	} {
		c, key := authority(t, ec, change, nil, nil)
		ca, err = load(c, key)
		bad(remedy, ca, err)
	}
	c, key = authority(t, ed, nil, nil, nil)
	ca, err = load(c, key)
	bad("ECDSA P-256 or RSA", ca, err)
	for text, remedy := range map[string]string{
		"": "no private key", "x": "no private key", string(pemOf("ENCRYPTED PRIVATE KEY", []byte{1})): "passphrase", string(pemOf("PRIVATE KEY", []byte{1})): "cannot be read",
		"-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\nDEK-Info: AES-128-CBC,00\n\nAAAA\n-----END RSA PRIVATE KEY-----\n": "passphrase",
	} {
		ca, err = load(root, []byte(text))
		bad(remedy, ca, err)
	}
	for text, remedy := range map[string]string{"": "no certificate", string(root.Raw): "-inform DER", string(pemOf(pemCertificate, []byte{1})): "cannot be read"} {
		ca, err = LoadCA([]byte(text), key, time.Now)
		bad(remedy, ca, err)
	}
}

// No method or text gives a key away.
func TestTheKeyIsNotInWhatIsGivenOut(t *testing.T) {
	ca := mustCA(t)
	der, err := x509.MarshalPKCS8PrivateKey(ca.key)
	if err != nil {
		t.Fatal(err)
	}
	if text := ca.PEM(); bytes.Contains(text, []byte("PRIVATE")) || bytes.Contains(text, der[len(der)-32:]) {
		t.Error("the key is in the certificate")
	}
}

func BenchmarkNewCA(b *testing.B) {
	for b.Loop() {
		mustCA(b)
	}
}

func BenchmarkLeaf(b *testing.B) {
	ca := mustCA(b)
	b.Run("signed", func(b *testing.B) {
		for b.Loop() {
			if _, _, err := ca.sign(Host{Name: "api.example.com"}); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("kept", func(b *testing.B) {
		for b.Loop() {
			mustLeaf(b, ca, Host{Name: "api.example.com"})
		}
	})
}
