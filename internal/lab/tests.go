package lab

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"testing"
	"time"
)

func runTests(m *testing.M) (int, error) {
	if err := startDNS(); err != nil {
		return 1, err
	}
	if err := startOutside(); err != nil {
		return 1, err
	}
	if err := startWeb(); err != nil {
		return 1, err
	}
	return m.Run(), nil
}

// goClient is a small Go program: it gets url with net/http, over IPv4 or IPv6,
// or lists the interfaces.
func goClient(url string) int {
	if url == interfaces {
		return listInterfaces()
	}
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

// interfaces is the goClient's word for a list of the interfaces.
const interfaces = "interfaces"

func listInterfaces() int {
	all, err := net.Interfaces()
	if err != nil {
		return fail(err)
	}
	for _, i := range all {
		addrs, err := i.Addrs()
		if err != nil {
			return fail(err)
		}
		fmt.Println(i.Index, i.Name, i.MTU, i.Flags, addrs)
	}
	return 0
}

// GoInterfaces is the command line of a Go program that lists the interfaces.
func GoInterfaces(t testing.TB) []string { return GoClient(t, interfaces) }

// GoClient is the command line of a Go program that gets url.
func GoClient(t testing.TB, url string) []string {
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
	return []string{"env", envClient + "=" + url, bin}
}
