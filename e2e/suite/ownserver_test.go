package suite

import (
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
