// Package certs makes the certificates with which sandlock speaks for other hosts:
// an authority for one run, a certificate for each host, and copies of trust stores
// to which the authority was added. Keys stay in memory: nothing in this package
// writes a file, and only KeyPEM hands a key out.
package certs

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"encoding/pem"
	"fmt"
	"math/big"
	"time"
)

const (
	// caLife is how long an authority of our own is valid. It cannot be renewed,
	// because programs have read it; its key ends with the run.
	caLife = 366 * 24 * time.Hour
	// leafLife is how long a leaf is valid; it is replaced when less than leafRest
	// is left.
	leafLife = 7 * 24 * time.Hour
	leafRest = 24 * time.Hour
	// skew is how far validity reaches back, for clocks that are behind ours.
	skew = 24 * time.Hour
	// serialBytes is the length of a serial number: RFC 5280 section 4.1.2.2
	// allows 20 bytes, 8 have to be random.
	serialBytes = 16
)

// CA is a certificate authority. Any number of goroutines may use it.
type CA struct {
	cert  *x509.Certificate
	chain []*x509.Certificate // cert and what stands above it, as far as it is known
	key   crypto.Signer
	// leafKey is the key of every leaf: all of them live and end in this process.
	leafKey *ecdsa.PrivateKey
	now     func() time.Time
	leaves  cache
}

// NewCA makes an authority for one run: ECDSA P-256, with a name of its own, so that
// the authorities of two runs in one trust store are told apart. now is the clock,
// usually time.Now.
func NewCA(now func() time.Time) (*CA, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("making the key of the certificate authority: %w", err)
	}
	serial, err := newSerial()
	if err != nil {
		return nil, err
	}
	id := keyID(&key.PublicKey)
	template := &x509.Certificate{
		SerialNumber:          serial,
		Subject:               pkix.Name{Organization: []string{organization}, CommonName: organization + " CA " + hex.EncodeToString(id[:6])},
		NotBefore:             now().Add(-skew),
		NotAfter:              now().Add(caLife),
		BasicConstraintsValid: true,
		IsCA:                  true,
		MaxPathLenZero:        true,
		KeyUsage:              x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
		SubjectKeyId:          id,
		// Strict verifiers ask for it even of a certificate that signs itself.
		AuthorityKeyId: id,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		return nil, fmt.Errorf("signing the certificate authority: %w", err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, fmt.Errorf("reading the certificate authority back: %w", err)
	}
	return newCA([]*x509.Certificate{cert}, key, now)
}

// organization is what every certificate of ours says about its maker.
const organization = "sandlock"

func newCA(chain []*x509.Certificate, key crypto.Signer, now func() time.Time) (*CA, error) {
	leafKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("making a key: %w", err)
	}
	return &CA{cert: chain[0], chain: chain, key: key, leafKey: leafKey, now: now}, nil
}

// PEM returns the certificate of the authority, and of those above it that LoadCA was
// given: what a program has to trust. It holds no key.
func (ca *CA) PEM() []byte {
	var out []byte
	for _, c := range ca.chain {
		out = append(out, pem.EncodeToMemory(&pem.Block{Type: pemCertificate, Bytes: c.Raw})...)
	}
	return out
}

// newSerial returns a random serial number: positive, and never of fewer bytes than
// serialBytes.
func newSerial() (*big.Int, error) {
	b := make([]byte, serialBytes)
	if _, err := rand.Read(b); err != nil {
		return nil, fmt.Errorf("making a serial number: %w", err)
	}
	b[0] = b[0]&0x7f | 0x40
	return new(big.Int).SetBytes(b), nil
}

// keyID is method 1 of RFC 7093 section 2: the first 160 bits of the SHA-256 hash of
// the public key.
func keyID(key *ecdsa.PublicKey) []byte {
	point, err := key.Bytes()
	if err != nil {
		return nil // not for a key on the curve that it was made on
	}
	sum := sha256.Sum256(point)
	return sum[:20]
}
