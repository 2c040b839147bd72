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
	"golang.org/x/sys/unix"
)

// giveAway serves descriptors: whoever connects to the unix socket at the
// returned path gets a new one from open.
func giveAway(t *testing.T, open func() (int, error)) string {
	t.Helper()
	path := filepath.Join(lab.Scratch(t, lab.Ordinary), "s")
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	for _, f := range []string{filepath.Dir(path), path} {
		if err := os.Chmod(f, 0o777); err != nil {
			t.Fatal(err)
		}
	}
	go func() {
		for {
			c, err := l.AcceptUnix()
			if err != nil {
				return
			}
			if fd, err := open(); err == nil {
				c.WriteMsgUnix([]byte("x"), unix.UnixRights(fd), nil)
				unix.Close(fd)
			}
			c.Close()
		}
	}()
	return path
}

// A socket that was made outside and handed over by a server whose unix socket is
// allowed is judged when it connects. (Where it was connected before, or what it
// can send to without a connection, is that server's gift: the threat model says
// so.)
func TestReceivedDescriptor(t *testing.T) {
	p := lab.Probe(t)
	for _, c := range []struct {
		how  string
		open func() (int, error)
		at   netip.AddrPort
	}{
		{"connect", func() (int, error) { return unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0) }, sink(t, lab.Evil4)},
		{"connect", func() (int, error) { return unix.Socket(unix.AF_INET6, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0) }, sink(t, lab.Evil6)},
		{"connect", func() (int, error) { return unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0) }, lab.UDP(t, netip.AddrPortFrom(lab.Evil4, 0))},
		{"connect", func() (int, error) {
			return unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, unix.IPPROTO_MPTCP)
		}, sink(t, lab.Evil4)},
	} {
		path := giveAway(t, c.open)
		ip, port := hostPort(c.at)
		asUsers(t, func(t *testing.T, u lab.User) {
			n := lab.Nonce()
			cmd := []string{p, "receive", path, c.how, ip, port, n}
			lab.Bare(t, u, n, cmd...)
			lab.Denied(t, lab.Denial{User: u, Flags: []string{"--allow", "allowed.test:443", "--allow-unix", path}, Command: cmd, Nonce: n, Answer: "ECONNREFUSED connect"})
			lab.Denied(t, lab.Denial{User: u, Flags: []string{"--allow", "*"}, Command: cmd, Nonce: n, Answer: "EACCES connect to the server", Log: "--allow-unix " + path})
		})
	}
}

// Whatever leads to a socket file leads to the same verdict.
func TestUnixPaths(t *testing.T) {
	p := lab.Probe(t)
	path := openUnix(t, "unix", "path")
	dir, base := filepath.Split(path)
	if err := os.Link(path, path+".hard"); err != nil {
		t.Fatal(err)
	}
	asUsers(t, func(t *testing.T, u lab.User) {
		for _, c := range []struct{ name, script string }{
			{"relative", `cd ` + dir + ` && exec "$0" unix-stream ` + base + ` "$1"`},
			{"dots", `cd ` + dir + `; exec "$0" unix-stream ./../` + filepath.Base(dir) + `/` + base + ` "$1"`},
			{"descriptor of a directory", `exec 5<` + dir + `; exec "$0" unix-stream /proc/self/fd/5/` + base + ` "$1"`},
			{"descriptor of the file", `exec "$0" unix-by-fd ` + path + ` "$1"`},
			{"another's root", `sleep 60 >/dev/null 2>&1 & "$0" unix-stream /proc/$!/root` + path + ` "$1"; c=$?; kill $!; exit $c`},
			{"another's cwd", `cd ` + dir + `; sleep 60 >/dev/null 2>&1 & cd /; "$0" unix-stream /proc/$!/cwd/` + base + ` "$1"; c=$?; kill $!; exit $c`},
			{"link to a link", `ln -s ` + path + ` "$TMPDIR/a"; ln -s "$TMPDIR/a" "$TMPDIR/b"; exec "$0" unix-stream "$TMPDIR/b" "$1"`},
			{"hard link", `exec "$0" unix-stream ` + path + `.hard "$1"`},
			{"renamed directory", `mv ` + dir + ` ` + strings.TrimSuffix(dir, "/") + `x; "$0" unix-stream ` + strings.TrimSuffix(dir, "/") + `x/` + base + ` "$1"; c=$?; mv ` + strings.TrimSuffix(dir, "/") + `x ` + dir + `; exit $c`},
		} {
			t.Run(c.name, func(t *testing.T) {
				n := lab.Nonce()
				cmd := []string{"sh", "-c", c.script, p, n}
				lab.Bare(t, u, n, cmd...)
				lab.Denied(t, lab.Denial{User: u, Flags: []string{"--allow", "*"}, Command: cmd, Nonce: n, Answer: "EACCES", Log: "unix"})
			})
		}
		// One that --allow-unix names, and one that the sandbox serves itself.
		n, m := lab.Nonce(), lab.Now()
		if r := lab.Net(t, u, []string{"--allow-unix", path}, p, "unix-stream", path, n); r.Code != 0 {
			t.Errorf("allowed: %s%s", r.Stdout, r.Stderr)
		}
		m.Arrived(t, n)
		r := lab.Net(t, u, nil, python, "-c", `import os, socket
for name in (os.environ["TMPDIR"] + "/own", "\0own" + str(os.getpid())):
    l = socket.socket(socket.AF_UNIX); l.bind(name); l.listen()
    c = socket.socket(socket.AF_UNIX); c.connect(name); c.send(b"x"); assert l.accept()[0].recv(1) == b"x"`)
		if r.Code != 0 {
			t.Errorf("own servers: %s", r.Stderr)
		}
	})
}

// Another thread exchanges the file behind the path during the call.
func TestUnixSwap(t *testing.T) {
	p := lab.Probe(t)
	path := openUnix(t, "unix", "path")
	asUsers(t, func(t *testing.T, u lab.User) {
		n := lab.Nonce()
		lab.Bare(t, u, n, p, "unix-swap", "1", path, n)
		m := lab.Now()
		r := lab.Net(t, u, []string{"--quiet"}, p, "unix-swap", raceSeconds(), path, n)
		if r.Code != 0 || strings.Contains(r.Stdout, " 0 passed") {
			t.Errorf("code %d: %s%s", r.Code, r.Stdout, r.Stderr)
		}
		for _, a := range m.Since(t) {
			t.Errorf("%s reached %s: %q", a.Kind, a.Sink, a.Text)
		}
	})
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
