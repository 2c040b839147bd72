package suite

import (
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sandlock/sandlock/internal/lab"
)

// Echo requests go out by an icmp:// rule for the address or the name only.
func TestEcho(t *testing.T) {
	lab.ICMP(t)
	p := lab.Probe(t)
	for _, a := range []netip.Addr{lab.Evil4, lab.Evil6} {
		for _, connect := range []string{"", "connect"} {
			t.Run(a.String()+" "+connect, func(t *testing.T) {
				asUsers(t, func(t *testing.T, u lab.User) {
					n := lab.Nonce()
					cmd := append([]string{p, "echo", a.String(), n}, strings.Fields(connect)...)
					lab.Bare(t, u, n, cmd...)
					m := lab.Now()
					if r := lab.Net(t, u, flags("--allow", "icmp://"+a.String()), cmd...); r.Code != 0 {
						t.Fatalf("code %d: %s%s", r.Code, r.Stdout, r.Stderr)
					}
					m.Arrived(t, n)
					for _, d := range []lab.Denial{
						{Flags: flags("--allow", "icmp://192.0.2.99"), Answer: "ECONNREFUSED", Log: "icmp://" + a.String()},
						{Flags: flags("--allow", "icmp://*", "--deny", a.String()), Answer: "ECONNREFUSED", Log: a.String()},
						{Flags: flags("--allow", "udp://*"), Answer: "EPERM"},
						{Flags: flags("--allow", a.String()), Answer: "EPERM"},
					} {
						d.User, d.Command = u, cmd
						lab.Denied(t, d)
					}
				})
			})
		}
	}
}

// ping and traceroute as they are installed.
func TestPing(t *testing.T) {
	lab.ICMP(t)
	for _, c := range []struct {
		name    string
		rules   []string
		command []string
	}{
		{"address", flags("--allow", "icmp://"+lab.Allowed4.String()), []string{"ping", "-n", "-c", "1", "-W", "1", lab.Allowed4.String()}},
		{"name", flags("--allow", "icmp://four.test"), []string{"ping", "-n", "-c", "1", "-W", "1", "four.test"}},
		{"IPv6 name", flags("--allow", "icmp://six.test"), []string{"ping", "-n", "-c", "1", "-W", "1", "six.test"}},
		{"hop limit and type of service", flags("--allow", "icmp://four.test"), []string{"ping", "-n", "-c", "1", "-W", "1", "-t", "9", "-Q", "16", "four.test"}},
		{"traceroute", flags("--allow", "udp://four.test:33434-33534"), []string{"traceroute", "-n", "-w", "1", "-m", "2", "-q", "1", "four.test"}},
		{"traceroute by echo", flags("--allow", "icmp://four.test"), []string{"traceroute", "-n", "-w", "1", "-m", "2", "-q", "1", "-I", "four.test"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			asUsers(t, func(t *testing.T, u lab.User) {
				command := append([]string{withoutCapabilities(t, u, c.command[0])}, c.command[1:]...)
				r := lab.Net(t, u, c.rules, command...)
				ok := strings.Contains(r.Stdout, "1 received") || strings.Contains(r.Stdout, " 1  "+lab.Allowed4.String())
				if r.Code != 0 || !ok {
					t.Errorf("code %d: %s%s", r.Code, r.Stdout, r.Stderr)
				}
				lab.Now().Since(t) // waits for what is on its way
				m := lab.Now()
				command[len(command)-1] = lab.Evil4.String()
				r = lab.Net(t, u, c.rules, command...)
				for _, a := range m.Since(t) {
					t.Errorf("%s reached %s", a.Kind, a.Sink)
				}
				if strings.Contains(r.Stdout, "1 received") || strings.Contains(r.Stdout, " 1  "+lab.Evil4.String()) || r.Took > lab.DenyGuard {
					t.Errorf("denied: code %d after %s: %s%s", r.Code, r.Took, r.Stdout, r.Stderr)
				}
			})
		})
	}
}

// withoutCapabilities returns a copy of a program. The kernel does not execute a
// file with capabilities that root has lost for good (capabilities(7)).
func withoutCapabilities(t *testing.T, u lab.User, name string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	own := filepath.Join(lab.Scratch(t, u), filepath.Base(name))
	if err := os.WriteFile(own, data, 0o755); err != nil {
		t.Fatal(err)
	}
	return own
}
