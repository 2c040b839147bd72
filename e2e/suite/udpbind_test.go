package suite

import (
	"bufio"
	"net"
	"slices"
	"testing"

	"github.com/sandlock/sandlock/internal/lab"
)

// unspecified binds a datagram socket to 0.0.0.0 with an address of family
// AF_UNSPEC, which the kernel takes for IPv4's, and says what it gets until "end".
const unspecified = `import ctypes, errno, os, socket, struct, sys
libc = ctypes.CDLL(None, use_errno=True)
port = int(sys.argv[1])
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
for family, host, want in ((0, "127.0.0.1", errno.EAFNOSUPPORT), (socket.AF_UNIX, "0.0.0.0", errno.EAFNOSUPPORT), (0, "0.0.0.0", 0)):
    sa = struct.pack("=H", family) + struct.pack("!H", port) + socket.inet_aton(host) + bytes(8)
    got = ctypes.get_errno() if libc.bind(s.fileno(), sa, 16) else 0
    if got != want: sys.exit("bind: " + errno.errorcode[got])
print("up", s.getsockname()[1], flush=True)
s.settimeout(20)
got = []
while "end" not in got: got.append(s.recv(100).decode())
print(*got, flush=True)`

// Datagram servers are kept to the rules for ports whatever family their
// address claims to be of.
func TestUDPBindUnspecified(t *testing.T) {
	const port = "18191"
	asUsers(t, func(t *testing.T, u lab.User) {
		for _, c := range []struct {
			flags []string
			want  string
		}{
			{nil, "end\n"},
			{flags("--allow-bind", port), "near end\n"},
		} {
			s := startService(t, u, slices.Concat(unrelated, c.flags), python, "-c", unspecified, port)
			for _, d := range []struct{ host, text string }{{lab.Near4.String(), "near"}, {"127.0.0.1", "end"}} {
				to, err := net.Dial("udp", net.JoinHostPort(d.host, s.port))
				if err != nil {
					t.Fatal(err)
				}
				if _, err := to.Write([]byte(d.text)); err != nil {
					t.Fatal(err)
				}
				to.Close()
			}
			if got, err := bufio.NewReader(s.out).ReadString('\n'); got != c.want || err != nil {
				t.Errorf("%v: got %q, %v", c.flags, got, err)
			}
			s.stop()
		}
		lab.Denied(t, lab.Denial{User: u, Flags: slices.Concat(unrelated, flags("--deny-bind", port)), Command: []string{python, "-c", unspecified, port}, Answer: "EACCES", Log: "deny-bind"})
	})
}
