package suite

import (
	"bufio"
	"io"
	"net"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/sandlock/sandlock/internal/lab"
)

// service is a program that serves in a sandbox and says "up PORT" once it can
// be reached from inside.
type service struct {
	feed, out *os.File
	port      string
	wait      func() error
}

// stop ends the program by closing its standard input, and waits for it.
func (s *service) stop() {
	s.feed.Close()
	s.wait()
	s.out.Close()
}

func startService(t *testing.T, u lab.User, flags []string, args ...string) *service {
	t.Helper()
	in, feed, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	out, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	var said strings.Builder
	c := lab.Command(t.Context(), t, u, lab.NetArgs(append([]string{"--quiet"}, flags...), args...)...)
	c.Stdin, c.Stdout, c.Stderr = in, w, &said
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	in.Close()
	w.Close()
	s := &service{feed: feed, out: out, wait: c.Wait}
	out.SetReadDeadline(time.Now().Add(30 * time.Second))
	for lines := bufio.NewReader(out); ; {
		line, err := lines.ReadString('\n')
		if port, ok := strings.CutPrefix(strings.TrimSpace(line), "up "); ok {
			s.port = port
			return s
		}
		if err != nil {
			s.stop()
			t.Fatalf("%q %v: not reachable from inside: %v: %s", args, flags, err, said.String())
		}
	}
}

// reachable tells from where a port of the lab can be connected to.
func reachable(port string) (host, outside bool) {
	at := net.JoinHostPort(lab.Near4.String(), port)
	if c, err := net.DialTimeout("tcp", at, time.Second); err == nil {
		host = true
		c.Close()
	}
	if c, err := lab.DialOutside("tcp", at, time.Second); err == nil {
		outside = true
		c.Close()
	}
	return host, outside
}

// Servers as people run them. Each prints "up PORT" when a client inside got an
// answer, and ends when its standard input does.
var servers = []struct {
	name, port string // of an --allow-bind rule
	args       []string
}{
	{"python http.server", "18081", []string{python, "-uc", `import http.server, socketserver, sys, threading, urllib.request
class Dual(socketserver.TCPServer): allow_reuse_address = True
s = Dual(("", 18081), http.server.SimpleHTTPRequestHandler)
threading.Thread(target=s.serve_forever, daemon=True).start()
urllib.request.urlopen("http://localhost:18081/").read(); print("up 18081"); sys.stdin.read()`}},
	{"python dual-stack", "18082", []string{python, "-uc", `import socket, sys
s = socket.create_server(("", 18082), family=socket.AF_INET6, dualstack_ipv6=True)
for host in ("127.0.0.1", "::1"):
    c = socket.create_connection((host, 18082), 5); assert s.accept()[1][1] == c.getsockname()[1]
print("up 18082"); sys.stdin.read()`}},
	{"asyncio", "18083", []string{python, "-uc", `import asyncio, sys
async def main():
    s = await asyncio.start_server(lambda r, w: w.close(), None, 18083)
    for host in ("127.0.0.1", "::1"): await (await asyncio.open_connection(host, 18083))[0].read()
    print("up 18083"); await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
asyncio.run(main())`}},
	{"node http", "18084", []string{"node", "-e", `const s = require('http').createServer((q, a) => a.end('hello')).listen(18084, () =>
 fetch('http://localhost:18084/').then(r => r.text()).then(t => { if (t == 'hello') console.log('up 18084') }));
process.stdin.on('data', () => {}).on('end', () => process.exit(0))`}},
	{"node on 0.0.0.0", "18085", []string{"node", "-e", `const s = require('net').createServer(c => c.end('hello')).listen(18085, '0.0.0.0', () =>
 require('net').connect(18085, '127.0.0.1').on('data', () => console.log('up 18085')));
process.stdin.on('data', () => {}).on('end', () => process.exit(0))`}},
}

// Without a rule a server is for the sandbox; with one, for others too.
func TestServers(t *testing.T) {
	asUsers(t, func(t *testing.T, u lab.User) {
		for _, c := range servers {
			t.Run(c.name, func(t *testing.T) {
				for _, flags := range [][]string{nil, {"--allow-bind", c.port}} {
					s := startService(t, u, flags, c.args...)
					host, outside := reachable(s.port)
					if want := flags != nil; host != want || outside != want {
						t.Errorf("%v: reachable at an address of the host %v, from outside %v", flags, host, outside)
					}
					s.stop()
				}
			})
		}
	})
}

// A server takes port 0, as test runners do, or none at all, and is reached
// inside; every port that it was given is closed to others.
func TestServersOnAnyPort(t *testing.T) {
	p := lab.Probe(t)
	asUsers(t, func(t *testing.T, u lab.User) {
		for _, host := range []string{"127.0.0.1", "0.0.0.0", "::", "::1", "localhost"} {
			s := startService(t, u, nil, python, "-uc", `import socket, sys
host = sys.argv[1]
s = socket.create_server((host, 0), family=socket.AF_INET6 if ":" in host else socket.AF_INET)
port = s.getsockname()[1]
for to in {"::": ("::1",), "::1": ("::1",)}.get(host, ("127.0.0.1",)):
    c = socket.create_connection((to, port), 5); a, peer = s.accept(); c.send(b"x"); assert a.recv(1) == b"x"
    assert s.getsockname()[0] == ("127.0.0.1" if host == "localhost" else host), s.getsockname()
print("up", port); sys.stdin.read()`, host)
			if host, outside := reachable(s.port); host || outside {
				t.Errorf("reachable at an address of the host %v, from outside %v", host, outside)
			}
			s.stop()
		}
		if r := lab.Net(t, u, nil, p, "listen-unbound"); r.Code != 0 {
			t.Errorf("listen without bind: %s%s", r.Stdout, r.Stderr)
		}
		// An address of the host that is not loopback needs a rule.
		at := lab.Private4.String()
		lab.Denied(t, lab.Denial{User: u, Command: []string{p, "bind", at, "18090"}, Answer: "EACCES bind", Log: "--allow-bind 18090"})
		lab.Denied(t, lab.Denial{User: u, Command: []string{p, "bind", lab.Private6.String(), "18090"}, Answer: "EACCES bind", Log: "--allow-bind 18090"})
		if r := lab.Net(t, u, []string{"--allow-bind", "18090"}, p, "bind", at, "18090"); r.Code != 0 {
			t.Errorf("with a rule: %s%s", r.Stdout, r.Stderr)
		}
		lab.Denied(t, lab.Denial{User: u, Flags: []string{"--deny-bind", "18000-18999"}, Command: []string{p, "bind", "127.0.0.1", "18090"}, Answer: "EACCES bind", Log: "deny-bind"})
	})
}

// What a server accepts from others without a rule would carry data out: the
// sandbox cannot get there by a listener that others reach.
func TestForeignListeners(t *testing.T) {
	p := lab.Probe(t)
	asUsers(t, func(t *testing.T, u lab.User) {
		for _, at := range []string{"127.0.0.1", "0.0.0.0", "::"} {
			in, w := io.Pipe()
			host := lab.Command(t.Context(), t, u, p, "serve", at, "0", "reuse")
			host.Stdout = w
			if err := host.Start(); err != nil {
				t.Fatal(err)
			}
			line, err := bufio.NewReader(in).ReadString('\n')
			port := strings.TrimSpace(strings.TrimPrefix(line, "port "))
			if _, perr := netip.ParseAddrPort("127.0.0.1:" + port); err != nil || perr != nil {
				t.Fatalf("%q: %v", line, err)
			}
			if r := lab.Run(t, u, p, "reuse-race", "1", at, port); !strings.Contains(r.Stdout, "ok shared") {
				t.Errorf("control: the port cannot be shared without a sandbox: %s", r.Stdout)
			}
			lab.Denied(t, lab.Denial{User: u, Command: []string{p, "serve", at, port, "reuse"}, Answer: "EADDRINUSE"})
			r := lab.Net(t, u, []string{"--allow-bind", "*"}, p, "reuse-race", raceSeconds(), at, port)
			if !strings.Contains(r.Stdout, "fail EADDRINUSE") {
				t.Errorf("%s: %s%s", at, r.Stdout, r.Stderr)
			}
			host.Process.Kill()
			host.Wait()
			w.Close()
		}
	})
}
