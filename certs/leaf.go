package certs

import (
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"time"
)

// Host is whom a leaf speaks for: a name or an address.
type Host struct {
	// Name is a DNS name in lower case, as letters, digits, '-', '_' and '.'.
	Name string
	// Addr is asked when Name is "".
	Addr netip.Addr
}

const (
	maxName = 253 // RFC 1035 section 2.3.4, without the final dot
	// maxCommonName is ub-common-name of RFC 5280 appendix A.1.
	maxCommonName = 64
)

var errHost = errors.New("a certificate is for a DNS name or an address")

// Leaf returns a certificate for one host, from the cache or signed anew: about 0.2
// ms. It is valid for what strict verifiers ask, for a few days, and for nothing
// but serving TLS. The certificate is shared: do not change it.
func (ca *CA) Leaf(h Host) (*tls.Certificate, error) {
	h.Addr = h.Addr.Unmap().WithZone("")
	if h.Name != "" {
		h.Addr = netip.Addr{}
	}
	if h.Name == "" && !h.Addr.IsValid() || h.Name != "" && !isName(h.Name) {
		return nil, errHost
	}
	return ca.leaves.get(h, ca.now(), ca.sign)
}

func isName(s string) bool {
	if len(s) > maxName {
		return false
	}
	for label := range strings.SplitSeq(s, ".") {
		if label == "" || len(label) > 63 {
			return false
		}
		for i := range len(label) {
			if c := label[i]; (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '-' && c != '_' {
				return false
			}
		}
	}
	return true
}

// sign makes a leaf and says when it has to be replaced.
func (ca *CA) sign(h Host) (*tls.Certificate, time.Time, error) {
	serial, err := newSerial()
	if err != nil {
		return nil, time.Time{}, err
	}
	now := ca.now()
	template := &x509.Certificate{
		SerialNumber:          serial,
		Subject:               pkix.Name{Organization: []string{organization}},
		NotBefore:             later(now.Add(-skew), ca.cert.NotBefore),
		NotAfter:              earlier(now.Add(leafLife), ca.cert.NotAfter),
		BasicConstraintsValid: true,
		KeyUsage:              x509.KeyUsageDigitalSignature,
		ExtKeyUsage:           []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		SubjectKeyId:          keyID(&ca.leafKey.PublicKey),
	}
	text := h.Name
	if text != "" {
		template.DNSNames = []string{text}
	} else {
		text = h.Addr.String()
		template.IPAddresses = []net.IP{h.Addr.AsSlice()}
	}
	// No verifier may rely on the common name; people read it.
	if len(text) <= maxCommonName {
		template.Subject.CommonName = text
	}
	der, err := x509.CreateCertificate(rand.Reader, template, ca.cert, &ca.leafKey.PublicKey, ca.key)
	if err != nil {
		return nil, time.Time{}, fmt.Errorf("signing a certificate for %s: %w", text, err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, time.Time{}, fmt.Errorf("reading the certificate for %s back: %w", text, err)
	}
	out := &tls.Certificate{Certificate: [][]byte{der}, PrivateKey: ca.leafKey, Leaf: leaf}
	for _, c := range ca.chain {
		// A root need not be sent: whoever trusts it has it.
		if c.CheckSignatureFrom(c) != nil {
			out.Certificate = append(out.Certificate, c.Raw)
		}
	}
	return out, leaf.NotAfter.Add(-leafRest), nil
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

func earlier(a, b time.Time) time.Time {
	if a.Before(b) {
		return a
	}
	return b
}
