package suite

import (
	"net/netip"
	"testing"

	"github.com/sandlock/sandlock/internal/lab"
)

// A server of the sandbox's own opens its port on this machine, and not that
// port of every other machine.
func TestOwnServerOpensNoOtherMachine(t *testing.T) {
	at := lab.TCPOutside(t)
	ip, port := hostPort(at)
	script := `import socket, sys
ip, port, nonce, host = sys.argv[1], int(sys.argv[2]), sys.argv[3].encode(), sys.argv[4]
l = socket.socket(socket.AF_INET6 if ':' in host else socket.AF_INET); l.bind((host, port)); l.listen()
own = socket.create_connection(('127.0.0.1', port), 5)
s = socket.create_connection((ip, port), 5)
s.sendall(nonce); s.recv(100)`
	for _, host := range []string{"0.0.0.0", "::"} {
		for _, flags := range [][]string{nil, {"--allow-bind", port}} {
			asUsers(t, func(t *testing.T, u lab.User) {
				n := lab.Nonce()
				cmd := []string{python, "-c", script, ip, port, n, host}
				lab.Bare(t, u, n, cmd...)
				n = lab.Nonce()
				cmd[5] = n
				lab.Denied(t, lab.Denial{User: u, Flags: flags, Command: cmd, Nonce: n, Answer: "ConnectionRefused", Log: ip})
			})
		}
	}
}

// The same with datagrams, where they are mediated.
func TestOwnReceiverOpensNoOtherMachine(t *testing.T) {
	at := lab.UDPOutside(t)
	ip, port := hostPort(at)
	script := `import socket, sys
ip, port, nonce, host, how = sys.argv[1], int(sys.argv[2]), sys.argv[3].encode(), sys.argv[4], sys.argv[5]
l = socket.socket(socket.AF_INET6 if ':' in host else socket.AF_INET, socket.SOCK_DGRAM); l.bind((host, port))
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.settimeout(5)
s.sendto(b'own', ('127.0.0.1', port)); assert l.recv(100) == b'own'
if how == 'connect':
    s.connect((ip, port)); s.send(nonce)
else:
    s.sendto(nonce, (ip, port))
s.recv(100)`
	for _, host := range []string{"0.0.0.0", "::"} {
		for _, how := range []string{"connect", "sendto"} {
			asUsers(t, func(t *testing.T, u lab.User) {
				n := lab.Nonce()
				cmd := []string{python, "-c", script, ip, port, n, host, how}
				lab.Bare(t, u, n, cmd...)
				n = lab.Nonce()
				cmd[5] = n
				flags := []string{"--allow", "udp://" + lab.Evil4.String() + ":1", "--allow-bind", port}
				lab.Denied(t, lab.Denial{User: u, Flags: flags, Command: cmd, Nonce: n, Answer: "ConnectionRefused", Log: ip})
			})
		}
	}
}

// The unspecified address means what was judged, also on a socket that is bound
// to another address: the kernel by itself would go where the socket is bound.
func TestUnspecifiedAddressOfABoundSocket(t *testing.T) {
	script := `import socket, sys
own, source, to, port, nonce = sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4]), sys.argv[5].encode()
family = lambda a: socket.AF_INET6 if ':' in a else socket.AF_INET
l = socket.socket(family(own)); l.bind((own, port)); l.listen()
s = socket.socket(family(source)); s.settimeout(5); s.bind((source, 0))
s.connect((to, port)); s.sendall(nonce)`
	for _, c := range []struct{ host, own, source, to string }{
		{"127.0.0.77", "127.0.0.1", "127.0.0.77", "0.0.0.0"},
		{"127.0.0.1", "::1", "::ffff:127.0.0.1", "::"},
	} {
		_, port := hostPort(sink(t, netip.MustParseAddr(c.host)))
		asUsers(t, func(t *testing.T, u lab.User) {
			n := lab.Nonce()
			cmd := []string{python, "-c", script, c.own, c.source, c.to, port, n}
			lab.Bare(t, u, n, cmd...)
			n = lab.Nonce()
			cmd[len(cmd)-1] = n
			lab.Denied(t, lab.Denial{User: u, Command: cmd, Nonce: n, Lost: true})
			// A deny wins over a rule that the spelling would meet.
			lab.Denied(t, lab.Denial{User: u, Flags: []string{"--allow", "localhost", "--deny", c.host + ":" + port}, Command: cmd, Nonce: n, Lost: true})
		})
	}
}
