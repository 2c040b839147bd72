package suite

import (
	"bufio"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/sandlock/sandlock/internal/lab"
	"golang.org/x/sys/unix"
)

func TestExitCodes(t *testing.T) {
	asUsers(t, func(t *testing.T, u lab.User) {
		plain := filepath.Join(lab.Scratch(t, u), "plain")
		if err := os.WriteFile(plain, []byte("x"), 0o644); err != nil {
			t.Fatal(err)
		}
		for _, c := range []struct {
			name  string
			code  int
			flags []string
			cmd   []string
		}{
			{"own", 5, nil, []string{"sh", "-c", "exit 5"}}, {"signal", 128 + 15, nil, []string{"sh", "-c", "kill $$"}},
			{"time-out", 124, []string{"--timeout", "100ms"}, []string{"sleep", "60"}}, {"not found", 127, nil, []string{"no-such-command"}},
			{"not executable", 126, nil, []string{plain}}, {"empty rule", 2, []string{"--allow", ""}, []string{"true"}}, {"bad rule", 2, []string{"--allow", "a..b:443"}, []string{"true"}},
			{"bad port", 2, []string{"--allow", "a.test:99999"}, []string{"true"}}, {"unknown flag", 2, []string{"--no-such"}, []string{"true"}},
			{"denied again", 2, []string{"--allow", "a.test:443", "--deny", "*"}, []string{"true"}},
		} {
			t.Run(c.name, func(t *testing.T) {
				if r := lab.Run(t, u, lab.NetArgs(c.flags, c.cmd...)...); r.Code != c.code {
					t.Errorf("code %d, want %d: %s", r.Code, c.code, r.Stderr)
				}
			})
		}
		if r := lab.Run(t, u, lab.Sandlock(), "net"); r.Code != 2 {
			t.Errorf("without a command: code %d: %s", r.Code, r.Stderr)
		}
	})
}

// listenFull returns a listener that accepts nothing and has a backlog of one:
// connects to it wait once the probe has filled it.
func listenFull(t *testing.T) (ip, port string) {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	f := os.NewFile(uintptr(fd), "full")
	t.Cleanup(func() { f.Close() })
	if err := unix.Bind(fd, &unix.SockaddrInet4{Addr: lab.Evil4.As4()}); err != nil {
		t.Fatal(err)
	}
	if err := unix.Listen(fd, 0); err != nil {
		t.Fatal(err)
	}
	l, err := net.FileListener(f)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return hostPort(l.Addr().(*net.TCPAddr).AddrPort())
}

func TestBlockingConnect(t *testing.T) {
	p := lab.Probe(t)
	asUsers(t, func(t *testing.T, u lab.User) {
		ip, port := listenFull(t)
		at := sink(t, lab.Allowed4)
		aip, aport := hostPort(at)
		r := lab.Net(t, u, []string{"--allow", ip, "--allow", aip}, p, "stalled", ip, port, aip, aport)
		if r.Code != 0 || !strings.Contains(r.Stdout, "waiting=1") {
			t.Fatalf("code %d: %s%s", r.Code, r.Stdout, r.Stderr)
		}
		t.Log(strings.TrimSpace(r.Stdout))
		ip, port = listenFull(t)
		r = lab.Net(t, u, []string{"--allow", ip}, p, "alarm", ip, port)
		if !strings.Contains(r.Stdout, "fail EINTR connect") || r.Took > 4*time.Second {
			t.Fatalf("alarm(1) after %s: %s%s", r.Took, r.Stdout, r.Stderr)
		}
		t.Log(strings.TrimSpace(r.Stdout))
	})
}

func TestManyConnections(t *testing.T) {
	p := lab.Probe(t)
	at := sink(t, lab.Allowed4)
	aip, aport := hostPort(at)
	eip, eport := hostPort(sink(t, lab.Evil4))
	asUsers(t, func(t *testing.T, u lab.User) {
		r := lab.Net(t, u, []string{"--allow", at.String()}, "sh", "-c", "ulimit -n 4096; exec \"$@\"", "sh", p, "hold", aip, aport, "2000")
		if r.Code != 0 {
			t.Errorf("2000 connections: code %d: %s%s", r.Code, r.Stdout, r.Stderr)
		}
		r = lab.Net(t, u, []string{"--quiet", "--allow", at.String()}, p, "threads", aip, aport, eip, eport, "200")
		if r.Code != 0 {
			t.Errorf("200 threads: code %d: %s%s", r.Code, r.Stdout, r.Stderr)
		}
	})
}

// Whatever the command leaves behind ends with it.
func TestDescendantsEnd(t *testing.T) {
	asUsers(t, func(t *testing.T, u lab.User) {
		n := lab.Nonce()
		r := lab.Net(t, u, nil, "sh", "-c", "setsid sh -c ': "+n+"; while :; do sleep 1; done' & setsid sh -c 'trap \"\" TERM HUP; : "+n+"; while :; do sleep 1; done' & exit 3")
		if r.Code != 3 {
			t.Fatalf("code %d: %s", r.Code, r.Stderr)
		}
		dirs, _ := filepath.Glob("/proc/[0-9]*/cmdline")
		for _, d := range dirs {
			text, _ := os.ReadFile(d)
			if strings.Contains(string(text), n) || strings.HasPrefix(string(text), "sleep\x001000.000") {
				t.Errorf("left behind: %s %q", d, text)
			}
		}
	})
}

// Servers of the command serve it, and nobody at another address of the host.
func TestServers(t *testing.T) {
	p := lab.Probe(t)
	asUsers(t, func(t *testing.T, u lab.User) {
		for _, at := range []string{"0.0.0.0", "::", "127.0.0.1"} {
			for _, flags := range [][]string{nil, {"--allow-bind", "18081"}} {
				script := p + ` serve ` + at + ` 18081 & i=0; until ` + p + ` tcp 127.0.0.1 18081 hello; do i=$((i+1)); [ $i -lt 500 ] || exit 7; done; ` +
					`echo up; read x; kill %1`
				in, feed, err := os.Pipe()
				if err != nil {
					t.Fatal(err)
				}
				out, w, err := os.Pipe()
				if err != nil {
					t.Fatal(err)
				}
				c := lab.Command(t.Context(), t, u, lab.NetArgs(append([]string{"--quiet"}, flags...), "bash", "-c", script)...)
				c.Stdin, c.Stdout = in, w
				if err := c.Start(); err != nil {
					t.Fatal(err)
				}
				in.Close()
				w.Close()
				out.SetReadDeadline(time.Now().Add(20 * time.Second))
				text, buf := "", make([]byte, 512)
				for !strings.Contains(text, "up\n") {
					k, err := out.Read(buf)
					if err != nil {
						t.Fatalf("%s %v: not reachable from inside: %v: %s", at, flags, err, text)
					}
					text += string(buf[:k])
				}
				for _, from := range []struct {
					place string
					dial  func(network, address string, timeout time.Duration) (net.Conn, error)
				}{{"the host", net.DialTimeout}, {"outside", lab.DialOutside}} {
					conn, err := from.dial("tcp", net.JoinHostPort(lab.Near4.String(), "18081"), time.Second)
					if err == nil {
						conn.Close()
					}
					if want := flags != nil && at != "127.0.0.1"; (err == nil) != want {
						t.Errorf("%s %v: reachable from %s: %v, want %v", at, flags, from.place, err == nil, want)
					}
				}
				feed.Close()
				out.Close()
				c.Wait()
			}
		}
	})
}

// Once the supervisor was killed, a command that resists reaches nothing new.
func TestSupervisorKilled(t *testing.T) {
	p := lab.Probe(t)
	at := sink(t, lab.Allowed4)
	ip, port := hostPort(at)
	asUsers(t, func(t *testing.T, u lab.User) {
		out, w, err := os.Pipe()
		if err != nil {
			t.Fatal(err)
		}
		defer out.Close()
		n := lab.Nonce()
		c := lab.Command(t.Context(), t, u, lab.NetArgs([]string{"--quiet", "--allow", at.String()}, "setsid", "--fork", "--wait", p, "orphan", ip, port, n)...)
		c.Stdout = w
		if err := c.Start(); err != nil {
			t.Fatal(err)
		}
		w.Close()
		out.SetReadDeadline(time.Now().Add(20 * time.Second))
		if line, err := bufio.NewReader(out).ReadString('\n'); err != nil || line != "ready\n" {
			t.Fatalf("%q %v", line, err)
		}
		m := lab.Now()
		c.Process.Kill()
		c.Wait()
		rest, err := io.ReadAll(out)
		if err != nil {
			t.Fatalf("the survivor hangs: %v", err)
		}
		if strings.Contains(string(rest), "ok") {
			t.Errorf("the survivor says %q", rest)
		}
		for _, a := range m.Since(t) {
			t.Errorf("%s reached %s: %q", a.Kind, a.Sink, a.Text)
		}
	})
}
