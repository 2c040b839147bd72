package suite

import (
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/sandlock/sandlock/internal/lab"
	"golang.org/x/sys/unix"
)

// under is a command line of sandlock below a filter that refuses system calls,
// as those of containers do.
func under(t *testing.T, refused []int, flags []string, cmd ...string) []string {
	t.Helper()
	var nrs []string
	for _, nr := range refused {
		nrs = append(nrs, strconv.Itoa(nr))
	}
	return append([]string{lab.Probe(t), "outer", strings.Join(nrs, ",")}, lab.NetArgs(flags, cmd...)...)
}

func TestWithoutPidfdGetfd(t *testing.T) {
	p := lab.Probe(t)
	asUsers(t, func(t *testing.T, u lab.User) {
		at, evil := sink(t, lab.Allowed4), sink(t, lab.Evil4)
		ip, port := hostPort(at)
		eip, eport := hostPort(evil)
		flags := []string{"--quiet", "--allow", at.String()}
		refused := []int{unix.SYS_PIDFD_GETFD}
		for _, name := range []string{"tcp", "nonblock"} {
			n, m := lab.Nonce(), lab.Now()
			if r := lab.Run(t, u, under(t, refused, flags, p, name, ip, port, n)...); r.Code != 0 {
				t.Fatalf("%s, allowed: code %d: %s%s", name, r.Code, r.Stdout, r.Stderr)
			}
			m.Arrived(t, n)
			m = lab.Now()
			r := lab.Run(t, u, under(t, refused, flags, p, name, eip, eport, n)...)
			if !strings.Contains(r.Stdout, "ECONNREFUSED") || reached(m.Since(t), evil) {
				t.Errorf("%s, denied: %s%s", name, r.Stdout, r.Stderr)
			}
		}
		if r := lab.Run(t, u, under(t, refused, flags, p, "threads", ip, port, eip, eport, "50")...); r.Code != 0 {
			t.Errorf("50 threads: code %d: %s%s", r.Code, r.Stdout, r.Stderr)
		}
		// A socket that lingers must not hold up the supervisor with its copy.
		fip, fport := listenFull(t)
		lingers := append([]string{"--allow", fip}, flags...)
		if r := lab.Run(t, u, under(t, refused, lingers, p, "hostile", "linger", "1", ip, port, fip, fport)...); r.Code != 0 || !strings.Contains(r.Stdout, "calls=") {
			t.Errorf("linger: code %d: %s%s", r.Code, r.Stdout, r.Stderr)
		}
		// The copies that the supervisor keeps hold back neither a port nor, for
		// long, the end of a connection.
		l, err := net.Listen("tcp", net.JoinHostPort(lab.Allowed4.String(), "0"))
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		script := `
import socket, sys
for i in range(20):
    s = socket.socket(); s.bind(("127.0.0.1", 18099)); s.listen()
    c = socket.create_connection(("127.0.0.1", 18099)); a, _ = s.accept()
    assert c.getpeername() == ("127.0.0.1", 18099)
    a.close(); c.close(); s.close()
    socket.socket(socket.AF_UNIX).close()
s = socket.socket(); s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1); s.bind(("127.0.0.1", 18099)); s.listen(); s.close()
out = socket.create_connection((sys.argv[1], int(sys.argv[2])))
out.sendall(b"x"); out.close()
print("closed", flush=True)
sys.stdin.read()`
		script = strings.Replace(script, `s = socket.socket(); s.bind`, `s = socket.socket(); s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1); s.bind`, 1)
		lip, lport, _ := net.SplitHostPort(l.Addr().String())
		args := under(t, refused, []string{"--quiet", "--allow", l.Addr().String()}, "python3", "-c", script, lip, lport)
		c := lab.Command(t.Context(), t, u, args...)
		feed, err := c.StdinPipe()
		if err != nil {
			t.Fatal(err)
		}
		c.Stderr = os.Stderr
		if err := c.Start(); err != nil {
			t.Fatal(err)
		}
		l.(*net.TCPListener).SetDeadline(time.Now().Add(20 * time.Second))
		conn, err := l.Accept()
		if err != nil {
			t.Fatal(err)
		}
		conn.SetReadDeadline(time.Now().Add(10 * time.Second))
		buf := make([]byte, 8)
		if n, err := conn.Read(buf); n != 1 || err != nil {
			t.Errorf("%d bytes, %v", n, err)
		}
		if _, err := conn.Read(buf); err == nil || os.IsTimeout(err) {
			t.Errorf("the end of the connection is held back: %v", err)
		}
		conn.Close()
		feed.Close()
		if err := c.Wait(); err != nil {
			t.Error(err)
		}
	})
}

func TestWithoutProcessVM(t *testing.T) {
	asUsers(t, func(t *testing.T, u lab.User) {
		for _, nr := range []int{unix.SYS_PROCESS_VM_READV, unix.SYS_PROCESS_VM_WRITEV} {
			made := filepath.Join(lab.Scratch(t, u), "made")
			r := lab.Run(t, u, under(t, []int{nr}, nil, "touch", made)...)
			if r.Code != 125 || !strings.Contains(r.Stderr, "--cap-add=SYS_PTRACE") || strings.Count(r.Stderr, "\n") != 1 {
				t.Errorf("code %d: %s", r.Code, r.Stderr)
			}
			if _, err := os.Stat(made); err == nil {
				t.Error("the command ran")
			}
		}
	})
}
