package certs

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"strings"
	"time"
)

const (
	pemCertificate = "CERTIFICATE"
	// minRSA is the shortest RSA key that verifiers take (OpenSSL at its security
	// level 2, Go, browsers), in bits.
	minRSA = 2048
)

// LoadCA makes an authority of a certificate and its key, both in PEM form. The
// certificate may be followed by those above it, up to a root. The key is PKCS #8,
// PKCS #1 or SEC 1, without a passphrase. now is the clock, usually time.Now. The
// error says what is wrong and what to do; it quotes nothing of the key.
func LoadCA(certPEM, keyPEM []byte, now func() time.Time) (*CA, error) {
	chain, err := readCertificates(certPEM)
	if err != nil {
		return nil, err
	}
	key, err := readKey(keyPEM)
	if err != nil {
		return nil, err
	}
	if err := checkCA(chain[0], key, now()); err != nil {
		return nil, err
	}
	for i, c := range chain[1:] {
		if err := chain[i].CheckSignatureFrom(c); err != nil {
			return nil, fmt.Errorf("certificate %d in the file did not sign the one before it: %w; write the CA first and what signed it after it", i+2, err)
		}
	}
	return newCA(chain, key, now)
}

func readCertificates(text []byte) (chain []*x509.Certificate, err error) {
	for rest := text; ; {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			break
		}
		if block.Type != pemCertificate {
			continue // a key in the same file, or OpenSSL's own form
		}
		c, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, fmt.Errorf("the CA certificate cannot be read: %w", err)
		}
		chain = append(chain, c)
	}
	if len(chain) == 0 {
		return nil, errors.New("there is no certificate in PEM form (BEGIN CERTIFICATE) in the CA's file; convert it with openssl x509 -inform DER")
	}
	return chain, nil
}

func readKey(text []byte) (crypto.Signer, error) {
	for rest := text; ; {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			return nil, errors.New("there is no private key in PEM form in the CA key's file; convert it with openssl pkey -inform DER")
		}
		if !strings.HasSuffix(block.Type, "PRIVATE KEY") {
			continue
		}
		if block.Type == "ENCRYPTED PRIVATE KEY" || strings.Contains(block.Headers["Proc-Type"], "ENCRYPTED") {
			return nil, errors.New("the CA's key has a passphrase; take it off with openssl pkey, and keep the file readable for yourself only")
		}
		return parseKey(block)
	}
}

func parseKey(block *pem.Block) (key crypto.Signer, err error) {
	var k any
	switch block.Type {
	case "RSA PRIVATE KEY":
		k, err = x509.ParsePKCS1PrivateKey(block.Bytes)
	case "EC PRIVATE KEY":
		k, err = x509.ParseECPrivateKey(block.Bytes)
	default:
		k, err = x509.ParsePKCS8PrivateKey(block.Bytes)
	}
	if err != nil {
		return nil, fmt.Errorf("the CA's key cannot be read: %w", err)
	}
	switch k := k.(type) {
	case *ecdsa.PrivateKey:
		return k, nil
	case *rsa.PrivateKey:
		if k.N.BitLen() < minRSA {
			return nil, fmt.Errorf("the CA's RSA key has %d bits, and clients take no less than %d; make a new CA, best with ECDSA P-256", k.N.BitLen(), minRSA)
		}
		return k, nil
	case ed25519.PrivateKey:
		return nil, errors.New("the CA's key is Ed25519, which many clients do not take; make a CA with ECDSA P-256 or RSA")
	}
	return nil, errors.New("the CA's key is of a kind that clients do not take; make a CA with ECDSA P-256 or RSA")
}

// checkCA checks that clients would accept leaves of this authority.
func checkCA(c *x509.Certificate, key crypto.Signer, now time.Time) error {
	public, ok := c.PublicKey.(interface{ Equal(crypto.PublicKey) bool })
	switch {
	case !ok || !public.Equal(key.Public()):
		return errors.New("the CA's key does not belong to its certificate; give the key of this certificate (the CA's own comes first in its file)")
	case !c.BasicConstraintsValid || !c.IsCA:
		return errors.New("the certificate is not one of a CA (basicConstraints is not CA:TRUE); give the one that signs, not a server's")
	case c.KeyUsage != 0 && c.KeyUsage&x509.KeyUsageCertSign == 0:
		return errors.New("the CA may not sign certificates (keyUsage lacks keyCertSign); make a new one")
	case now.After(c.NotAfter):
		return fmt.Errorf("the CA expired on %s; make a new one", c.NotAfter.UTC().Format(time.DateOnly))
	case now.Before(c.NotBefore):
		return fmt.Errorf("the CA is not valid before %s; check this machine's clock", c.NotBefore.UTC().Format(time.RFC3339))
	}
	return nil
}
