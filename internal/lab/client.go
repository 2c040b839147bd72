package lab

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// client is what the test binary does when it is run as a client of the lab: it
// gets a URL, with "hello VARIANT NAME ADDRESS" sends a ClientHello, or is one of
// goPrograms.
func client(what string) int {
	switch f := strings.Fields(what); f[0] {
	case "hello":
		return helloClient(f[1], f[2], f[3])
	default:
		if program := goPrograms[f[0]]; program != nil {
			return program()
		}
	}
	return goClient(what)
}

// goClient is a small Go program: it gets url with net/http, over IPv4 or IPv6.
func goClient(url string) int {
	ctx, cancel := context.WithTimeout(context.Background(), guard)
	defer cancel()
	c := &http.Client{Transport: &http.Transport{DialContext: (&net.Dialer{Timeout: 5 * time.Second}).DialContext}}
	q, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return fail(err)
	}
	a, err := c.Do(q)
	if err != nil {
		return fail(err)
	}
	defer a.Body.Close()
	if _, err := io.Copy(os.Stdout, a.Body); err != nil {
		return fail(err)
	}
	fmt.Println(a.Status)
	return 0
}

// GoClient is the command line of a Go program that gets url.
func GoClient(t testing.TB, url string) []string {
	t.Helper()
	return clientCommand(t, url)
}

// Hello is the command line of a program that connects to an address and sends a
// ClientHello for name in one of the Variants. It succeeds when the server
// answers with a handshake.
func Hello(t testing.TB, variant, name, address string) []string {
	t.Helper()
	return clientCommand(t, "hello "+variant+" "+name+" "+address)
}

func clientCommand(t testing.TB, what string) []string {
	t.Helper()
	bin := filepath.Join(Dir(), "bin", "goclient")
	if _, err := os.Stat(bin); err != nil {
		data, err := os.ReadFile("/proc/self/exe")
		if err == nil {
			err = os.WriteFile(bin, data, 0o755)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	return []string{"env", envClient + "=" + what, bin}
}
