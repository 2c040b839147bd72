package suite

import (
	"context"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/sandlock/sandlock/internal/lab"
)

func openUnix(t *testing.T, network, kind string) string {
	t.Helper()
	if kind == "abstract" {
		name := "@" + lab.Nonce()
		lab.Unix(t, network, name)
		return name
	}
	dir := lab.Scratch(t, lab.Ordinary)
	path := filepath.Join(dir, "s")
	lab.Unix(t, network, path)
	for _, f := range []string{dir, path} {
		if err := os.Chmod(f, 0o777); err != nil {
			t.Fatal(err)
		}
	}
	switch kind {
	case "symlink":
		link := filepath.Join(dir, "l")
		if err := os.Symlink(path, link); err != nil {
			t.Fatal(err)
		}
		return link
	case "root":
		return "/proc/self/root" + path
	}
	return path
}

// A thread rewrites the address during the call; only the allowed sink may see
// anything.
func TestAddressRaces(t *testing.T) {
	p := lab.Probe(t)
	for _, c := range []string{"race-connect", "race-sendto", "race-sendmsg", "race-sendmmsg"} {
		t.Run(c, func(t *testing.T) {
			good, bad := netip.AddrPortFrom(lab.Allowed4, 0), netip.AddrPortFrom(lab.Evil4, 0)
			if c == "race-connect" {
				good, bad = lab.TCP(t, good), lab.TCP(t, bad)
			} else {
				good, bad = lab.UDP(t, good), lab.UDP(t, bad)
			}
			gip, gport := hostPort(good)
			bip, bport := hostPort(bad)
			asUsers(t, func(t *testing.T, u lab.User) {
				n, m := lab.Nonce(), lab.Now()
				lab.Bare(t, u, n, p, c, "1", gip, gport, bip, bport, n)
				if !reached(m.Since(t), bad) {
					t.Fatal("control: the race is never won without a sandbox")
				}
				m = lab.Now()
				r := lab.Net(t, u, []string{"--quiet", "--allow", good.String()}, p, c, raceSeconds(), gip, gport, bip, bport, n)
				if r.Code != 0 {
					t.Fatalf("code %d: %s%s", r.Code, r.Stdout, r.Stderr)
				}
				if reached(m.Since(t), bad) {
					t.Error("the denied sink was reached")
				}
				t.Log(strings.TrimSpace(r.Stdout))
			})
		})
	}
}

func reached(as []lab.Arrival, at netip.AddrPort) bool {
	for _, a := range as {
		if strings.HasSuffix(a.Sink, " "+at.String()) {
			return true
		}
	}
	return false
}

// Nothing of the supervisor can be read, limited, signalled or traced.
func TestSupervisorIsClosed(t *testing.T) {
	p := lab.Probe(t)
	for _, c := range [][]string{{"prlimit"}, {"kill", "9"}, {"kill", "19"}, {"open-parent", "mem"}, {"open-parent", "environ"}, {"open-parent", "maps"}, {"open-parent", "fd/0"},
		{"syscall", "425", "1"}, {"syscall", "272", "0x10000000"}, {"syscall", "272", "0x40000000"}, {"syscall", "435"}, {"syscall", "56", "0x10000011"}} {
		t.Run(strings.Join(c, " "), func(t *testing.T) {
			asUsers(t, func(t *testing.T, u lab.User) {
				lab.Denied(t, lab.Denial{User: u, Flags: []string{"--allow", "*"}, Command: append([]string{p}, c...)})
			})
		})
	}
}

// A descriptor that the caller leaves open does not reach the command.
func TestInheritedDescriptor(t *testing.T) {
	p := lab.Probe(t)
	at := sink(t, lab.Evil4)
	asUsers(t, func(t *testing.T, u lab.User) {
		for _, wrapped := range []bool{false, true} {
			conn, err := net.Dial("tcp", at.String())
			if err != nil {
				t.Fatal(err)
			}
			file, err := conn.(*net.TCPConn).File()
			conn.Close()
			if err != nil {
				t.Fatal(err)
			}
			n, m := lab.Nonce(), lab.Now()
			args := []string{p, "inherited", "3", n}
			if wrapped {
				args = lab.NetArgs(nil, args...)
			}
			ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
			c := lab.Command(ctx, t, u, args...)
			c.ExtraFiles = []*os.File{file}
			r := lab.Finish(t, ctx, c)
			cancel()
			file.Close()
			arrived := false
			for _, a := range m.Since(t) {
				arrived = arrived || strings.Contains(a.Text, n)
			}
			if arrived == wrapped {
				t.Errorf("sandboxed %v, arrived %v: %+v", wrapped, arrived, r)
			}
		}
	})
}
