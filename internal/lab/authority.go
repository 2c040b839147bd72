package lab

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// tlsNames are the names on the certificate of every server of the lab.
var tlsNames = []string{"allowed.test", "four.test", "six.test", "evil.test", "shared.test", "neighbour.test", "*.wild.test", HostsName}

// CAFile holds the lab's CA certificate in PEM.
func CAFile() string { return filepath.Join(Dir(), "etc", "ca.pem") }

// LeafFile is the path, without ".pem" and ".key", of the servers' certificate and
// its key, for servers that root runs.
func LeafFile() string { return filepath.Join(Dir(), "etc", "leaf") }

// issue makes a CA for this run and a certificate for the lab's names.
func issue() (tls.Certificate, error) {
	none := tls.Certificate{}
	caKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return none, err
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return none, err
	}
	ca := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "lab CA"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign}
	caDER, err := x509.CreateCertificate(rand.Reader, ca, ca, &caKey.PublicKey, caKey)
	if err != nil {
		return none, err
	}
	if ca, err = x509.ParseCertificate(caDER); err != nil {
		return none, err
	}
	leaf := &x509.Certificate{SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: "allowed.test"}, DNSNames: tlsNames,
		NotBefore: ca.NotBefore, NotAfter: ca.NotAfter, KeyUsage: x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}}
	der, err := x509.CreateCertificate(rand.Reader, leaf, ca, &key.PublicKey, caKey)
	if err != nil {
		return none, err
	}
	if err := os.WriteFile(CAFile(), pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: caDER}), 0o644); err != nil {
		return none, err
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return none, err
	}
	for path, block := range map[string]*pem.Block{LeafFile() + ".pem": {Type: "CERTIFICATE", Bytes: der}, LeafFile() + ".key": {Type: "PRIVATE KEY", Bytes: keyDER}} {
		if err := os.WriteFile(path, pem.EncodeToMemory(block), 0o600); err != nil {
			return none, err
		}
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, nil
}

// trust makes the system's clients accept the lab's CA: it mounts a directory
// with the system's bundle plus the CA, under its hashed name too, on
// /etc/ssl/certs.
func trust() error {
	const place = "/etc/ssl/certs"
	own := filepath.Join(Dir(), "etc", "certs")
	if err := os.Mkdir(own, 0o755); err != nil {
		return err
	}
	ca, err := os.ReadFile(CAFile())
	if err != nil {
		return err
	}
	bundle, err := os.ReadFile(place + "/ca-certificates.crt")
	if err != nil && !os.IsNotExist(err) {
		return err
	}
	hash, err := exec.Command("openssl", "x509", "-noout", "-hash", "-in", CAFile()).Output()
	if err != nil {
		return fmt.Errorf("openssl x509: %w", err)
	}
	for name, data := range map[string][]byte{"ca-certificates.crt": append(append(bundle, '\n'), ca...), strings.TrimSpace(string(hash)) + ".0": ca} {
		if err := os.WriteFile(filepath.Join(own, name), data, 0o644); err != nil {
			return err
		}
	}
	// Java's own store, untouched: only what is terminated leads to the lab's CA.
	if cacerts, err := os.ReadFile(place + "/java/cacerts"); err == nil {
		if err := os.Mkdir(filepath.Join(own, "java"), 0o755); err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(own, "java", "cacerts"), cacerts, 0o644); err != nil {
			return err
		}
	}
	store := filepath.Join(Dir(), "etc", "java.p12")
	if keytool, err := exec.LookPath("keytool"); err == nil {
		if out, err := exec.Command(keytool, "-importcert", "-noprompt", "-alias", "lab", "-file", CAFile(), "-keystore", store,
			"-storepass", "changeit", "-storetype", "PKCS12").CombinedOutput(); err != nil {
			return fmt.Errorf("keytool: %w: %s", err, out)
		}
	}
	if err := unix.Mount(own, place, "", unix.MS_BIND, ""); err != nil {
		return fmt.Errorf("replace %s: %w", place, err)
	}
	return nil
}
