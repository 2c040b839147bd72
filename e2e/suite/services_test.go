package suite

import (
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/sandlock/sandlock/internal/lab"
)

// redis-cli takes an echo of its request for an answer.
func TestRedis(t *testing.T) {
	for name, a := range map[string]netip.Addr{"four.test": lab.Allowed4, "six.test": lab.Allowed6} {
		at := lab.TCP(t, netip.AddrPortFrom(a, 6379))
		_, port := hostPort(at)
		asUsers(t, func(t *testing.T, u lab.User) {
			n, m := lab.Nonce(), lab.Now()
			r := lab.Net(t, u, []string{"--allow", name + ":6379"}, "redis-cli", "-h", name, "-p", port, "SET", "key", n)
			if r.Code != 0 {
				t.Fatalf("code %d: %s%s", r.Code, r.Stdout, r.Stderr)
			}
			m.Arrived(t, n)
			lab.Denied(t, lab.Denial{User: u, Flags: []string{"--allow", name + ":6379"}, Command: []string{"redis-cli", "-h", "evil.test", "SET", "key", n}, Log: "evil.test"})
			lab.Denied(t, lab.Denial{User: u, Flags: []string{"--allow", name + ":6380"}, Command: []string{"redis-cli", "-h", a.String(), "SET", "key", n}, Log: a.String(), Answer: "Connection refused"})
		})
	}
}

func TestSSH(t *testing.T) {
	for name, a := range map[string]netip.Addr{"four.test": lab.Allowed4, "six.test": lab.Allowed6} {
		key := serveSSH(t, netip.AddrPortFrom(a, 22))
		asUsers(t, func(t *testing.T, u lab.User) {
			mine := filepath.Join(lab.Scratch(t, u), "id")
			data, err := os.ReadFile(key)
			if err == nil {
				err = os.WriteFile(mine, data, 0o600)
			}
			if err != nil {
				t.Fatal(err)
			}
			lab.Give(t, u, mine)
			n := lab.Nonce()
			r := lab.Net(t, u, []string{"--allow", name + ":22"}, "ssh", "-F", "none", "-i", mine, "-o", "BatchMode=yes",
				"-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null", "lab@"+name, "echo", n)
			if r.Code != 0 || r.Stdout != n+"\n" {
				t.Fatalf("code %d: %q %s", r.Code, r.Stdout, r.Stderr)
			}
			lab.Denied(t, lab.Denial{User: u, Flags: []string{"--allow", name + ":23"}, Command: []string{"ssh", "-F", "none", "-o", "BatchMode=yes", "lab@" + a.String(), "true"},
				Log: a.String(), Answer: "Connection refused"})
		})
	}
}

// serveSSH runs sshd for each connection, as the ordinary user, who alone may
// log in, and returns the path of the private key that opens it.
func serveSSH(t *testing.T, at netip.AddrPort) string {
	t.Helper()
	dir := lab.Scratch(t, lab.Ordinary)
	for _, k := range []string{"host", "user"} {
		if out, err := exec.Command("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", filepath.Join(dir, k)).CombinedOutput(); err != nil {
			t.Fatalf("ssh-keygen: %v: %s", err, out)
		}
		lab.Give(t, lab.Ordinary, filepath.Join(dir, k))
	}
	conf := filepath.Join(dir, "conf")
	text := fmt.Sprintf("HostKey %s/host\nAuthorizedKeysFile %s/user.pub\nStrictModes no\nUsePAM no\nPidFile none\n", dir, dir)
	if err := os.WriteFile(conf, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", at.String())
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
			f, err := c.(*net.TCPConn).File()
			c.Close()
			if err != nil {
				return
			}
			d := lab.Command(t.Context(), t, lab.Ordinary, "/usr/sbin/sshd", "-i", "-f", conf)
			d.Stdin, d.Stdout = f, f
			if d.Start() == nil {
				go d.Wait()
			}
			f.Close()
		}
	}()
	return filepath.Join(dir, "user")
}
