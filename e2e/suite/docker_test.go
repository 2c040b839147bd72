package suite

import (
	"net/netip"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sandlock/sandlock/internal/lab"
	"golang.org/x/sys/unix"
)

// asInDocker runs a command where neither user namespaces nor copies of other
// processes' descriptors are to be had, as in Docker's default profile.
func asInDocker(t *testing.T, u lab.User, flags []string, args ...string) lab.Result {
	t.Helper()
	log := filepath.Join(lab.Scratch(t, u), "log")
	flags = append([]string{"--log", log}, flags...)
	r := lab.Run(t, u, lab.NoUserNamespaces(t, under(t, []int{unix.SYS_PIDFD_GETFD}, flags, args...)...)...)
	r.Log = lab.ReadLog(t, log)
	return r
}

func TestClientsAsInDocker(t *testing.T) {
	for _, c := range clients {
		t.Run(c.name, func(t *testing.T) {
			asUsers(t, func(t *testing.T, u lab.User) {
				n, m := lab.Nonce(), lab.Now()
				r := asInDocker(t, u, []string{"--allow", "four.test:" + c.port()}, c.command(t, "four.test", n)...)
				if r.Code != 0 {
					t.Fatalf("code %d: %s%s", r.Code, r.Stdout, r.Stderr)
				}
				m.Arrived(t, n)
			})
		})
	}
}

func TestUDPAsInDocker(t *testing.T) {
	asUsers(t, func(t *testing.T, u lab.User) {
		for _, way := range udpWays {
			at := lab.UDP(t, netip.AddrPortFrom(lab.Evil4, 0))
			n, m := lab.Nonce(), lab.Now()
			cmd := udpCommand(t, way, at, n)
			if r := asInDocker(t, u, []string{"--allow", "udp://" + at.String()}, cmd...); r.Code != 0 {
				t.Fatalf("%v: code %d: %s%s", way, r.Code, r.Stdout, r.Stderr)
			}
			m.Arrived(t, n)
			m = lab.Now()
			r := asInDocker(t, u, nil, cmd...)
			if !strings.Contains(r.Stdout, "ECONNREFUSED") || reached(m.Since(t), at) || !r.Denied("udp://"+at.String()) {
				t.Errorf("%v: %s%s%v", way, r.Stdout, r.Stderr, r.Log)
			}
		}
	})
}

// Sockets of every origin can be used with sendmsg.
func TestMessagesAsInDocker(t *testing.T) {
	const script = `
import array, os, socket, sys, threading
def both(a, b):
    a.sendmsg([b"x" * 70000, b"y"]) if a.type == socket.SOCK_STREAM else a.sendmsg([b"x", b"y"])
    got = b""
    while not got.endswith(b"y"):
        got += b.recvmsg(100000)[0]
    r, w = os.pipe() if sys.argv[1] == "by rule" else [s.detach() for s in socket.socketpair()]
    if a.family == socket.AF_UNIX:
        a.sendmsg([b"z"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [w]))])
        data, anc, _, _ = b.recvmsg(1, 100)
        fd = array.array("i", anc[0][2])[0]
        os.write(fd, b"through"); assert os.read(r, 100) == b"through"
        os.close(fd)
    os.close(r); os.close(w)
for t in (socket.SOCK_STREAM, socket.SOCK_SEQPACKET, socket.SOCK_DGRAM):
    a, b = socket.socketpair(socket.AF_UNIX, t)
    both(a, b); both(b, a)
def serve(family, name, connect_to=None):
    s = socket.socket(family, socket.SOCK_STREAM)
    s.bind(name); s.listen()
    c = socket.socket(family, socket.SOCK_STREAM)
    t = threading.Thread(target=lambda: c.connect(connect_to or s.getsockname())); t.start()
    d, _ = s.accept()
    t.join()
    both(c, d); both(d, c)
    d.close()
    assert c.recv(1) == b""
    s.close()
serve(socket.AF_INET, ("127.0.0.1", 0))
serve(socket.AF_INET6, ("::1", 0))
serve(socket.AF_UNIX, "server")
serve(socket.AF_UNIX, "\0sandlock-lab-" + str(os.getpid()))
print("done")
`
	asUsers(t, func(t *testing.T, u lab.User) {
		for name, run := range map[string]func(t *testing.T, u lab.User, flags []string, args ...string) lab.Result{
			"docker": asInDocker, "by rule": mediators["by rule"],
		} {
			r := run(t, u, nil, python, "-c", script, name)
			if r.Code != 0 || strings.TrimSpace(r.Stdout) != "done" {
				t.Errorf("%s: code %d: %s%s", name, r.Code, r.Stdout, r.Stderr)
			}
		}
	})
}
