package tunnel

import (
	"errors"
	"os"
	"strings"
	"testing"

	"github.com/sandlock/sandlock/netfilter/endpoint"
	"golang.org/x/sys/unix"
)

func TestParse(t *testing.T) {
	for text, want := range map[string]string{
		"http://10.0.0.5:3128":         "http://10.0.0.5:3128",
		"http://proxy.example:8080/":   "http://proxy.example:8080",
		"http://[fd00::5]:3128":        "http://[fd00::5]:3128",
		"http://me:s3c%40ret@a.test:1": "http://a.test:1",
	} {
		p, err := Parse(text)
		if err != nil || p.URL() != want {
			t.Errorf("%s: %v, %v", text, p, err)
		}
	}
	if p, err := Parse("http://me:s3c%40ret@a.test:1"); err != nil || p.auth != "Basic bWU6czNjQHJldA==" {
		t.Errorf("%+v, %v", p, err)
	}
	for _, text := range []string{"", "proxy:3128", "10.0.0.5:3128", "https://a.test:1", "socks5://a.test:1", "http://a.test", "http://a.test:0", "http://a.test:99999",
		"http://:3128", "http://me:s3cret@a test:1", "http://me:s3cret@a.test:x", "http://a.test:1/path", "http://a.test:1?q", "http://me%3Ax:s3cret@a.test:1", "http://a_$.test:1"} {
		p, err := Parse(text)
		if err == nil || strings.Contains(err.Error(), "s3cret") || strings.Contains(err.Error(), "\n") {
			t.Errorf("%q: %+v, %v", text, p, err)
		}
	}
}

func TestParseHead(t *testing.T) {
	const head = "HTTP/1.1 200 Connection established\r\nX: y\r\n\r\n"
	for i := range len(head) {
		if n, _, err := parseHead([]byte(head[:i])); n != 0 || err != nil {
			t.Errorf("%q: %d, %v", head[:i], n, err)
		}
	}
	for _, test := range []struct {
		text   string
		length int
		code   int
		err    error
	}{
		{head + "SSH-2.0\r\n\r\n", len(head), 200, nil},
		{"HTTP/1.0 299\r\n\r\n", 16, 299, nil},
		{"HTTP/1.1 403 No\r\n\r\n", 19, 403, nil},
		{"HTTP/1.1 200 OK\n\n", 0, 0, errMalformed},
		{"HTTP/2 200 OK\r\n", 0, 0, errMalformed},
		{"HTTP/1.1 20 OK\r\n", 0, 0, errMalformed},
		{"HTTP/1.1 +20 OK\r\n", 0, 0, errMalformed},
		{"HTTP/1.1  200 OK\r\n", 0, 0, errMalformed},
		{"HTTP/1.1 099 OK\r\n", 0, 0, errMalformed},
		{"HTTP/1.1 200 O\rK\r\n", 0, 0, errMalformed},
		{"HTTP/1.1 200 OK\r\nX\r\n", 0, 0, errMalformed},
		{"HTTP/1.1 200 OK\r\n X: y\r\n", 0, 0, errMalformed},
		{"HTTP/1.1 200 OK\r\nX : y\r\n", 0, 0, errMalformed},
		{"HTTP/1.1 200 OK\r\nX: " + strings.Repeat("y", maxHead), 0, 0, errTooLong},
		{strings.Repeat("y", maxHead), 0, 0, errTooLong},
	} {
		n, s, err := parseHead([]byte(test.text))
		if n != test.length || err != test.err || err == nil && s.Code != test.code {
			t.Errorf("%.40q: %d, %d, %v", test.text, n, s.Code, err)
		}
	}
}

// What the host says right behind the proxy's answer stays in the socket, however
// the answer comes in.
func TestConnect(t *testing.T) {
	name, err := endpoint.ParseName("a.test")
	if err != nil {
		t.Fatal(err)
	}
	p, err := Parse("http://me:x@10.0.0.5:3128")
	if err != nil {
		t.Fatal(err)
	}
	const head = "HTTP/1.1 200 OK\r\nX: y\r\n\r\n"
	for cut := range len(head) {
		fds := pair(t)
		done := make(chan error, 1)
		go func() { done <- p.Connect(t.Context(), fds[0], name, 443) }()
		request := make([]byte, 512)
		peer := os.NewFile(uintptr(fds[1]), "peer")
		n, err := peer.Read(request)
		if want := "CONNECT a.test:443 HTTP/1.1\r\nHost: a.test:443\r\nProxy-Authorization: Basic bWU6eA==\r\n\r\n"; err != nil || string(request[:n]) != want {
			t.Fatalf("%q, %v", request[:n], err)
		}
		peer.WriteString(head[:cut])
		peer.WriteString(head[cut:] + "banner")
		if err := <-done; err != nil {
			t.Fatal(err)
		}
		if n, err := unix.Read(fds[0], request); string(request[:max(n, 0)]) != "banner" {
			t.Fatalf("cut at %d: %q, %v", cut, request[:max(n, 0)], err)
		}
		peer.Close()
	}
	for answer, want := range map[string]string{"HTTP/1.1 407 Proxy\x80 Auth\r\n\r\n": `407 Proxy\x80 Auth`, "": "closed the connection", "SSH-2.0\r\n": "not HTTP/1"} {
		fds := pair(t)
		unix.Write(fds[1], []byte(answer))
		unix.Shutdown(fds[1], unix.SHUT_WR)
		err := p.Connect(t.Context(), fds[0], name, 443)
		var status *StatusError
		var errno unix.Errno
		if !errors.As(err, &errno) || !strings.Contains(err.Error(), want) || errors.As(err, &status) != strings.Contains(answer, "407") {
			t.Errorf("%q: %v", answer, err)
		}
		unix.Close(fds[1])
	}
}

func pair(t *testing.T) [2]int {
	t.Helper()
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(fds[0]) })
	return fds
}
