package certs

import (
	"bufio"
	"crypto/tls"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// run calls a program that has to be there and returns what it said.
func run(t *testing.T, args ...string) (string, error) {
	t.Helper()
	c := exec.CommandContext(t.Context(), args[0], args[1:]...)
	c.Env = append(os.Environ(), "NODE_EXTRA_CA_CERTS=", "SSL_CERT_FILE=", "LC_ALL=C")
	out, err := c.CombinedOutput()
	return string(out), err
}

func write(t *testing.T, name string, content []byte) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, content, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// The verifiers read a leaf and the authority; each must accept them, and refuse
// the leaf under another authority and for another host.
func TestStrictVerifiersOffline(t *testing.T) {
	ca := mustCA(t)
	file, other := write(t, "ca.pem", ca.PEM()), write(t, "other.pem", mustCA(t).PEM())
	for _, h := range []Host{{Name: "api.example.com"}, {Addr: netip.MustParseAddr("192.0.2.1")}, {Addr: netip.MustParseAddr("2001:db8::1")}} {
		leaf := write(t, "leaf.pem", pemOf(pemCertificate, mustLeaf(t, ca, h).Certificate[0]))
		openssl := func(ca, host string) []string {
			args := []string{"openssl", "verify", "-x509_strict", "-purpose", "sslserver", "-CAfile", ca}
			if h.Name != "" {
				return append(args, "-verify_hostname", host, leaf)
			}
			return append(args, "-verify_ip", host, leaf)
		}
		gnutls := func(ca, host string) []string {
			return []string{"certtool", "--verify", "--verify-profile=high", "--verify-purpose=1.3.6.1.5.5.7.3.1", "--load-ca-certificate", ca, "--verify-hostname", host, "--infile", leaf}
		}
		good, bad := h.Name, "evil.test"
		if good == "" {
			good, bad = h.Addr.String(), "192.0.2.9"
		}
		for _, tool := range []func(ca, host string) []string{openssl, gnutls} {
			if out, err := run(t, tool(file, good)...); err != nil {
				t.Errorf("%v: %v: %s", tool(file, good), err, out)
			}
			for _, args := range [][]string{tool(other, good), tool(file, bad)} {
				if out, err := run(t, args...); err == nil {
					t.Errorf("%v: accepted: %s", args, out)
				}
			}
		}
	}
}

// serve answers each TLS connection with the nonce, and returns the port.
func serve(t *testing.T, ca *CA, nonce string) string {
	t.Helper()
	l, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{GetCertificate: func(h *tls.ClientHelloInfo) (*tls.Certificate, error) {
		if h.ServerName == "" {
			return ca.Leaf(Host{Addr: netip.MustParseAddr("127.0.0.1")})
		}
		return ca.Leaf(Host{Name: h.ServerName})
	}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				_ = c.SetDeadline(time.Now().Add(time.Minute))
				for r := bufio.NewReader(c); ; {
					if line, err := r.ReadString('\n'); err != nil {
						return
					} else if strings.TrimSpace(line) == "" {
						break
					}
				}
				_, _ = c.Write([]byte("HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nConnection: close\r\n\r\n" + nonce))
			}()
		}
	}()
	_, port, _ := net.SplitHostPort(l.Addr().String())
	return port
}

const pythonClient = `
import ssl, sys, urllib.request
c = ssl.create_default_context(cafile=sys.argv[1])
c.verify_flags |= ssl.VERIFY_X509_STRICT
print(urllib.request.build_opener(urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=c)).open(sys.argv[2]).read())
`

const nodeClient = `
const [ca, url] = process.argv.slice(-2);
require('https').get(url, {ca: require('fs').readFileSync(ca)}, r => r.on('data', d => console.log(String(d))));
`

const javaClient = `
import java.net.URI;
import java.net.http.*;
public class Client {
	public static void main(String[] a) throws Exception {
		System.out.println(HttpClient.newHttpClient().send(HttpRequest.newBuilder(URI.create(a[0])).build(), HttpResponse.BodyHandlers.ofString()).body());
	}
}
`

// Clients ask a server of ours by name and by address; each must accept it, and
// refuse it under another authority.
func TestClients(t *testing.T) {
	ca, nonce := mustCA(t), "nonce-8c1f"
	port := serve(t, ca, nonce)
	file, other := write(t, "ca.pem", ca.PEM()), write(t, "other.pem", mustCA(t).PEM())
	node := write(t, "client.js", []byte(nodeClient))
	for name, client := range map[string]func(ca, host string) []string{
		"curl": func(ca, host string) []string {
			return []string{"curl", "-sS", "--noproxy", "*", "--cacert", ca, "https://" + host + ":" + port + "/"}
		},
		"wget": func(ca, host string) []string {
			return []string{"wget", "-qO-", "--no-proxy", "--no-hsts", "--ca-certificate", ca, "https://" + host + ":" + port + "/"}
		},
		"python": func(ca, host string) []string {
			return []string{"python3", "-c", pythonClient, ca, "https://" + host + ":" + port + "/"}
		},
		"node": func(ca, host string) []string {
			return []string{"node", node, ca, "https://" + host + ":" + port + "/"}
		},
	} {
		for _, host := range []string{"localhost", "127.0.0.1"} {
			if out, err := run(t, client(file, host)...); err != nil || !strings.Contains(out, nonce) {
				t.Errorf("%s, %s: %v: %s", name, host, err, out)
			}
			if out, _ := run(t, client(other, host)...); strings.Contains(out, nonce) {
				t.Errorf("%s, %s: another authority was accepted", name, host)
			}
		}
	}
}

func TestJavaKeyStores(t *testing.T) {
	ca, nonce := mustCA(t), "nonce-51e0"
	port := serve(t, ca, nonce)
	client := write(t, "Client.java", []byte(javaClient))
	classes := t.TempDir()
	if out, err := run(t, "javac", "-d", classes, client); err != nil {
		t.Fatal(err, out)
	}
	before := write(t, "before.pem", mustCA(t).PEM())
	none := []string{"-J-Dkeystore.pkcs12.certProtectionAlgorithm=NONE", "-J-Dkeystore.pkcs12.macAlgorithm=NONE"}
	for _, c := range []struct {
		name, kind, password string
		options              []string
		err                  error
	}{
		{"JKS", "JKS", "changeit", nil, nil},
		{"PKCS12 with a password", "PKCS12", "changeit", nil, nil},
		{"PKCS12 with another password", "PKCS12", "secret99", nil, nil},
		{"PKCS12 without one", "PKCS12", "changeit", none, nil},
		{"JKS with another password", "JKS", "secret99", nil, ErrPassword},
	} {
		path := filepath.Join(t.TempDir(), "cacerts")
		args := append([]string{"keytool", "-importcert", "-noprompt", "-alias", "before", "-file", before, "-keystore", path, "-storetype", c.kind, "-storepass", c.password}, c.options...)
		if out, err := run(t, args...); err != nil {
			t.Fatal(c.name, err, out)
		}
		original, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		added, err := KeyStore(original, ca.PEM(), time.Now())
		if err != c.err {
			t.Errorf("%s: %v", c.name, err)
		}
		if c.err != nil || err != nil {
			continue
		}
		store := write(t, "added", added)
		out, err := run(t, "keytool", "-list", "-v", "-keystore", store, "-storepass", c.password)
		if err != nil || !strings.Contains(out, "Your keystore contains 2 entries") || strings.Count(out, "trustedCertEntry") != 2 ||
			!strings.Contains(out, "Alias name: before") || !strings.Contains(out, "Alias name: "+entryAlias(0)) || !strings.Contains(out, ca.cert.Subject.CommonName) {
			t.Errorf("%s: keytool: %v: %s", c.name, err, out)
		}
		// Java opens its trust store without a password unless it is told one.
		java := func(store string) (string, error) {
			args := []string{"java", "-Djavax.net.ssl.trustStore=" + store, "-cp", classes, "Client", "https://localhost:" + port + "/"}
			if c.password != "changeit" {
				args = append(args[:1], append([]string{"-Djavax.net.ssl.trustStorePassword=" + c.password}, args[1:]...)...)
			}
			return run(t, args...)
		}
		if out, err := java(store); err != nil || !strings.Contains(out, nonce) {
			t.Errorf("%s: java: %v: %s", c.name, err, out)
		}
		if c.kind != "JKS" {
			continue
		}
		if out, _ := java(path); strings.Contains(out, nonce) {
			t.Errorf("%s: java trusts the authority without it", c.name)
		}
	}
}

func TestWhatIsNoKeyStore(t *testing.T) {
	ca := mustCA(t)
	for _, original := range [][]byte{nil, []byte("x"), []byte("-----BEGIN CERTIFICATE-----"), ca.cert.Raw, make([]byte, 100), append([]byte{0xfe, 0xed, 0xfe, 0xed, 0, 0, 0, 1}, make([]byte, 40)...)} {
		if out, err := KeyStore(original, ca.PEM(), time.Now()); err == nil {
			t.Errorf("%.20q became %.20q", original, out)
		}
	}
	if _, err := KeyStore(nil, nil, time.Now()); err == nil {
		t.Error("nothing was added")
	}
}

func FuzzKeyStore(f *testing.F) {
	ca := mustCA(f)
	f.Add([]byte{0x30, 3, 2, 1, 3})
	if out, err := addToPKCS12([]byte{0x30, 0x14, 2, 1, 3, 0x30, 0x0f, 6, 9, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 7, 1, 0xa0, 2, 4, 0}, [][]byte{ca.cert.Raw}); err == nil {
		f.Add(out)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		_, _ = KeyStore(b, ca.PEM(), time.Unix(0, 0))
	})
}
