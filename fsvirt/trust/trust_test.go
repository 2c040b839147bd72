package trust

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"io"
	"log"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sandlock/sandlock/dispatch"
	"github.com/sandlock/sandlock/fsvirt/walk"
	"github.com/sandlock/sandlock/internal/launch"
	"github.com/sandlock/sandlock/internal/sys"
	"golang.org/x/sys/unix"
)

// fake is an authority that may still be starting.
type fake struct {
	pem   []byte
	ready chan struct{}
	err   error
}

func started(pem []byte) *fake {
	f := &fake{pem: pem, ready: make(chan struct{})}
	close(f.ready)
	return f
}

func (f *fake) PEM(ctx context.Context) ([]byte, error) {
	select {
	case <-f.ready:
		return f.pem, f.err
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func (f *fake) KeyStore(ctx context.Context, original []byte) ([]byte, error) {
	ca, err := f.PEM(ctx)
	return append(bytes.Clone(original), ca...), err
}

const marker = "AUTHORITY\n"

// run runs a command whose opens the views answer, and returns its output.
func run(t *testing.T, v *Views, env []string, args ...string) (string, error) {
	t.Helper()
	path, err := exec.LookPath(args[0])
	if err != nil {
		t.Fatal(err)
	}
	table := &dispatch.Table{}
	v.Register(table)
	// Landlock lets the command connect nowhere.
	table.Builtin(dispatch.Registration{Name: "connect", Syscalls: []int{unix.SYS_CONNECT}, Handler: dispatch.HandlerFunc(connect)})
	program, err := table.Program()
	if err != nil {
		t.Fatal(err)
	}
	thread := launch.NewThread(launch.KernelABI())
	defer thread.Close()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	p, err := launch.Start(thread, launch.Spec{Path: path, Argv: args, Env: env, Dir: "/", Filter: program,
		FilterFlags: sys.FilterFlagNewListener | sys.FilterFlagWaitKill, Stdio: [3]int{0, int(w.Fd()), int(w.Fd())}})
	w.Close()
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(p.PIDFD)
	loop := table.NewLoop(p.Listener, func(err error) { t.Error(err) })
	loop.Start()
	timeout := time.AfterFunc(time.Minute, func() { unix.Kill(p.PID, unix.SIGKILL) })
	out, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	var ws unix.WaitStatus
	if _, err := unix.Wait4(p.PID, &ws, 0, nil); err != nil {
		t.Fatal(err)
	}
	timeout.Stop()
	loop.Close()
	if ws != 0 {
		err = errors.New("exit status " + string(out))
	}
	return string(out), err
}

// connect connects a socket to a loopback address.
func connect(c *dispatch.Call) dispatch.Action {
	sa := make([]byte, c.Arg(2))
	if err := c.Read(c.Arg(1), sa); err != nil {
		return dispatch.Fail(err)
	}
	to, ok := sys.ParseInet(sa)
	if !ok || !to.Addr().IsLoopback() {
		return dispatch.Errno(unix.ECONNREFUSED)
	}
	fd, err := c.FD(c.Int(0))
	if err != nil {
		return dispatch.Fail(err)
	}
	defer unix.Close(fd)
	return dispatch.Result(0, sys.Connect(fd, sa))
}

func views(t *testing.T, a Authority, bundles ...string) *Views {
	t.Helper()
	w, err := walk.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	v := New(Config{Authority: a, Walker: w, Bundles: bundles, Fault: func(err error) { t.Log(err) }})
	t.Cleanup(v.Close)
	return v
}

// bundle writes a file and returns its name.
func bundle(t *testing.T, dir, name, content string) string {
	t.Helper()
	path := filepath.Join(dir, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestOpens(t *testing.T) {
	dir := t.TempDir()
	own := bundle(t, dir, "own.pem", "OWN") // without a final newline
	certifi := bundle(t, dir, "p/certifi/cacert.pem", "CERTIFI\n")
	jks := bundle(t, dir, "jvm/lib/security/cacerts", "\xfe\xed\xfe\xedJKS\n")
	other := bundle(t, dir, "p/cacert.pem", "OTHER\n")
	secret := bundle(t, dir, "secret", "SECRET\n")
	os.MkdirAll(dir+"/q/certifi", 0o755)
	os.MkdirAll(dir+"/openssl/ssl", 0o755)
	os.Symlink(secret, dir+"/q/certifi/cacert.pem")
	os.Symlink(own, dir+"/cert.pem")
	v := views(t, started([]byte(marker)), own)
	for _, c := range []struct{ path, want string }{
		{own, "OWN\n" + marker}, {dir + "/cert.pem", "OWN\n" + marker}, {"/proc/self/root" + own, "OWN\n" + marker}, {"." + own, "OWN\n" + marker}, {dir + "/p//../own.pem", "OWN\n" + marker},
		{certifi, "CERTIFI\n" + marker}, {jks, "\xfe\xed\xfe\xedJKS\n" + marker}, {other, "OTHER\n"}, {secret, "SECRET\n"}, {dir + "/q/certifi/cacert.pem", "SECRET\n"},
		{Invented, marker}, {"/usr/.." + Invented, marker}, {dir + "/openssl/ssl/cert.pem", marker},
	} {
		if out, err := run(t, v, nil, "cat", c.path); err != nil || out != c.want {
			t.Errorf("%s: %q %v, want %q", c.path, out, err, c.want)
		}
	}
	// A writer gets the file on disk, and what it wrote is seen from then on.
	if out, err := run(t, v, nil, "sh", "-c", "echo MORE >> "+own+"; cat "+own); err != nil || out != "OWNMORE\n"+marker {
		t.Errorf("after a write: %q %v", out, err)
	}
	if b, _ := os.ReadFile(own); string(b) != "OWNMORE\n" {
		t.Errorf("on disk: %q", b)
	}
	if out, err := run(t, v, nil, "sh", "-c", "exec 3<"+own+"; { echo x >/proc/self/fd/3; } 2>/dev/null; cat <&3"); err != nil || out != "OWNMORE\n"+marker {
		t.Errorf("written through its descriptor: %q %v", out, err)
	}
}

// An open waits for an authority that is still starting, and other opens do not.
func TestOpenWaits(t *testing.T) {
	dir := t.TempDir()
	own := bundle(t, dir, "own.pem", "OWN\n")
	fifo := filepath.Join(dir, "fifo")
	if err := unix.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	a := &fake{pem: []byte(marker), ready: make(chan struct{})}
	go func() {
		// Read by the command while its bundle's open waits.
		f, err := os.OpenFile(fifo, os.O_WRONLY, 0)
		if err != nil {
			t.Error(err)
		} else {
			f.WriteString("meanwhile\n")
			f.Close()
		}
		close(a.ready)
	}()
	out, err := run(t, views(t, a, own), nil, "sh", "-c", "cat "+own+" & cat "+fifo+"; wait $!")
	if err != nil || !strings.Contains(out, "OWN\n"+marker) || !strings.Contains(out, "meanwhile\n") {
		t.Errorf("%q %v", out, err)
	}
	broken := &fake{ready: a.ready, err: errors.New("the interceptor died")}
	if out, err := run(t, views(t, broken, own), nil, "cat", own); err != nil || out != "OWN\n" {
		t.Errorf("without an authority: %q %v", out, err)
	}
}

// authority makes a certificate authority and a server certificate of it.
func authority(t *testing.T) (ca []byte, leaf tls.Certificate) {
	t.Helper()
	make := func(tmpl, parent *x509.Certificate, signer *ecdsa.PrivateKey) (*x509.Certificate, []byte, *ecdsa.PrivateKey) {
		key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		tmpl.NotBefore, tmpl.NotAfter = time.Now().Add(-time.Hour), time.Now().Add(time.Hour)
		if parent == nil {
			parent, signer = tmpl, key
		}
		der, err := x509.CreateCertificate(rand.Reader, tmpl, parent, &key.PublicKey, signer)
		if err != nil {
			t.Fatal(err)
		}
		cert, err := x509.ParseCertificate(der)
		if err != nil {
			t.Fatal(err)
		}
		return cert, der, key
	}
	root, der, key := make(&x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "trust test"}, IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign}, nil, nil)
	_, leafDER, leafKey := make(&x509.Certificate{SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: "localhost"}, DNSNames: []string{"localhost"}, KeyUsage: x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}}, root, key)
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), tls.Certificate{Certificate: [][]byte{leafDER}, PrivateKey: leafKey}
}

// Clients trust the authority, with the usual variables and without any.
func TestClients(t *testing.T) {
	ca, leaf := authority(t)
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "trusted\n") }))
	server.TLS = &tls.Config{Certificates: []tls.Certificate{leaf}}
	server.Config.ErrorLog = log.New(io.Discard, "", 0)
	server.StartTLS()
	defer server.Close()
	_, port, err := net.SplitHostPort(server.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	url := "https://localhost:" + port + "/"
	bare := []string{"PATH=" + os.Getenv("PATH"), "HOME=" + t.TempDir()}
	set := append(slices.Clone(bare), Environment(bare)...)
	clients := []struct {
		args    []string
		without bool // works without variables too
	}{
		{[]string{"curl", "-sS", url}, true},
		{[]string{"wget", "-qO-", url}, true},
		{[]string{"python3", "-c", "import urllib.request as u,sys; print(u.urlopen(sys.argv[1]).read().decode(), end='')", url}, true},
		{[]string{"python3", "-c", "import requests,sys; print(requests.get(sys.argv[1]).text, end='')", url}, true},
		{[]string{"node", "-e", "require('https').get(process.argv[1], r => r.pipe(process.stdout)).on('error', e => { console.error(e); process.exit(1) })", url}, false},
		{[]string{"sh", "-c", "echo | openssl s_client -verify_return_error -connect localhost:" + port + " 2>&1 >/dev/null | grep -q 'verify return:1' && echo trusted", url}, true},
	}
	stranger, _ := authority(t)
	for _, c := range clients {
		if out, err := run(t, views(t, started(stranger)), set, c.args...); err == nil && out == "trusted\n" {
			t.Errorf("%s trusts a stranger", c.args[0])
		}
		for _, env := range [][]string{bare, set} {
			if len(env) == len(bare) && !c.without {
				continue
			}
			if out, err := run(t, views(t, started(ca)), env, c.args...); err != nil || out != "trusted\n" {
				t.Errorf("%v with %d variables: %q %v", c.args[:2], len(env), out, err)
			}
		}
	}
}

func TestEnvironment(t *testing.T) {
	env := []string{"SSL_CERT_FILE=/corp.pem", "CURL_CA_BUNDLE=relative.pem", "OTHER=/x"}
	if got := Named(env); len(got) != 1 || got[0] != "/corp.pem" {
		t.Errorf("named: %q", got)
	}
	add := Environment(env)
	for _, kv := range add {
		name, value, _ := strings.Cut(kv, "=")
		if name == "SSL_CERT_FILE" || name == "CURL_CA_BUNDLE" || !strings.HasPrefix(value, "/") {
			t.Errorf("added %q", kv)
		}
	}
	if len(add) != len(variables)-2+1 {
		t.Errorf("%d variables added: %q", len(add), add)
	}
}
