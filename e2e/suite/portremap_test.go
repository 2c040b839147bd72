package suite

import (
	"context"
	"fmt"
	"net/netip"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/sandlock/sandlock/internal/lab"
)

// background starts a command under sandlock net; it ends with the test. The
// returned function waits for a line of its output that contains text.
func background(t *testing.T, u lab.User, flags []string, args ...string) (await func(text string)) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	c := lab.Command(ctx, t, u, lab.NetArgs(flags, args...)...)
	out := &lines{more: make(chan struct{}, 1)}
	c.Stdout, c.Stderr = out, out
	c.Cancel = func() error { return c.Process.Signal(exitSignal) }
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cancel(); c.Wait() })
	return func(text string) {
		t.Helper()
		late := time.After(20 * time.Second)
		for !strings.Contains(out.text(), text) {
			select {
			case <-out.more:
			case <-late:
				t.Fatalf("%q did not say %q: %s", c.Args, text, out.text())
			}
		}
	}
}

// Ten servers use one port, which a server of the host's holds too: each is
// reached from inside and, by its name, from another sandbox.
func TestPortRemap(t *testing.T) {
	if _, err := exec.LookPath("redis-server"); err != nil {
		t.Fatal(err)
	}
	host := lab.TCP(t, netip.MustParseAddrPort("127.0.0.1:6379"))
	asUsers(t, func(t *testing.T, u lab.User) {
		m := lab.Now()
		if r := lab.Net(t, u, []string{"--quiet"}, "redis-server", "--port", "6379", "--save", ""); r.Code == 0 || !strings.Contains(r.Stdout, "Address already in use") {
			t.Fatalf("control: without the flag: %+v", r)
		}
		var servers []func(string)
		// Each has a client inside, which leaves a mark once.
		inside := `redis-server --port 6379 --bind 127.0.0.1 ::1 --save '' & until redis-cli -p 6379 ping | grep -q PONG; do :; done
redis-cli -p 6379 set who $0; redis-cli -h ::1 -p 6379 get who; redis-cli -p 6379 info server | grep tcp_port; echo up; wait`
		for i := range 10 {
			n := fmt.Sprintf("redis%d-%s", i, u)
			servers = append(servers, background(t, u, []string{"--quiet", "--port-remap", "--name", n}, "bash", "-c", inside, n))
		}
		for i, await := range servers {
			await("up\n")
			n := fmt.Sprintf("redis%d-%s", i, u)
			await(n + "\n")
			r := lab.Net(t, u, []string{"--allow", n + ".sandlock:6379"}, "redis-cli", "-h", n+".sandlock", "-p", "6379", "get", "who")
			if r.Code != 0 || strings.TrimSpace(r.Stdout) != n {
				t.Errorf("%s by name: %+v", n, r)
			}
		}
		for _, a := range m.Since(t) {
			t.Errorf("the host's server was reached: %s %q", a.Sink, a.Text)
		}
		// A rule is needed, for the name and for the port.
		lab.Denied(t, lab.Denial{User: u, Flags: []string{"--allow", "redis0-" + string(u) + ".sandlock:6379"},
			Command: []string{"redis-cli", "-h", "redis1-" + string(u) + ".sandlock", "-p", "6379", "get", "who"}, Log: "redis1-" + string(u)})
		lab.Denied(t, lab.Denial{User: u, Flags: []string{"--allow", "redis0-" + string(u) + ".sandlock:80"},
			Command: []string{"redis-cli", "-e", "-h", "redis0-" + string(u) + ".sandlock", "-p", "6379", "get", "who"}, Log: "127.83.0.1"})
		// A rule for the address that stands for it is not one for the name.
		for _, wide := range []string{"localhost:6379", "127.0.0.0/8:6379", "*:6379"} {
			lab.Denied(t, lab.Denial{User: u, Flags: []string{"--allow", "redis0-" + string(u) + ".sandlock:80", "--allow", wide},
				Command: []string{"redis-cli", "-e", "-h", "redis0-" + string(u) + ".sandlock", "-p", "6379", "get", "who"}, Log: "127.83.0.1"})
		}
	})
	_ = host
}

// A program sees the port that it asked for, and nothing else changes.
func TestPortRemapViews(t *testing.T) {
	at := lab.TCP(t, netip.MustParseAddrPort("127.0.0.1:0"))
	lab.UDP(t, at)
	_, port := hostPort(at)
	script := `import errno, os, socket, sys
P = int(sys.argv[1])
def code(f):
    try: f(); return 0
    except OSError as e: return e.errno
def pair(l, to):
    c = socket.create_connection(to, 5); a, peer = l.accept()
    assert peer[1] == c.getsockname()[1], (peer, c.getsockname())
    assert a.getsockname()[1] == P and c.getpeername()[1] == P, (a.getsockname(), c.getpeername())
    assert a.getpeername()[1] == c.getsockname()[1]
    c.sendall(b'x'); assert a.recv(1) == b'x'
    return a, c
for host, to in ('127.0.0.1', '127.0.0.1'), ('0.0.0.0', '127.0.0.1'), ('::', '::1'), ('::', '127.0.0.1'):
    l = socket.socket(socket.AF_INET6 if ':' in host else socket.AF_INET)
    l.setsockopt(1, socket.SO_REUSEADDR, 1)
    l.bind((host, P))
    assert l.getsockname()[1] == P
    other = socket.socket(l.family)
    assert code(lambda: other.bind((host, P))) == errno.EADDRINUSE, 'bound twice'
    l.listen()
    assert l.getsockname()[1] == P
    other = socket.socket(l.family)
    assert code(lambda: other.bind((host, P))) == errno.EADDRINUSE, 'served twice'
    kept = pair(l, (to, P))
    l.close()
    assert kept[0].getsockname()[1] == P and kept[1].getpeername()[1] == P
    assert code(lambda: socket.create_connection((to, P), 5)) == errno.ECONNREFUSED
    for k in kept: k.close()
# Two processes that share the port, as with SO_REUSEPORT.
r = [socket.socket() for _ in range(2)]
for s in r: s.setsockopt(1, socket.SO_REUSEPORT, 1); s.bind(('127.0.0.1', P)); s.listen(); assert s.getsockname()[1] == P
for s in r: s.close()
# Another port, free outside, is just bound.
f = socket.socket(); f.bind(('127.0.0.1', 0)); f.listen(); p = f.getsockname()[1]
c = socket.create_connection(('127.0.0.1', p)); assert c.getpeername()[1] == p
u = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); u.bind(('127.0.0.1', P)); assert u.getsockname()[1] == P
v = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); v.sendto(b'y', ('127.0.0.1', P)); assert u.recvfrom(1)[0] == b'y'
assert code(lambda: socket.socket().bind(('127.0.0.1', P + 1))) == (errno.EACCES if len(sys.argv) > 2 else 0)
print('whole')
`
	asUsers(t, func(t *testing.T, u lab.User) {
		m := lab.Now()
		if r := lab.Net(t, u, []string{"--port-remap"}, python, "-c", script, port); r.Code != 0 || r.Stdout != "whole\n" {
			t.Fatalf("code %d: %s%s", r.Code, r.Stdout, r.Stderr)
		}
		next := fmt.Sprint(at.Port() + 1)
		if r := lab.Net(t, u, []string{"--port-remap", "--deny-bind", next}, python, "-c", script, port, "denied"); r.Code != 0 || r.Stdout != "whole\n" {
			t.Fatalf("code %d: %s%s", r.Code, r.Stdout, r.Stderr)
		}
		for _, a := range m.Since(t) {
			t.Errorf("the host's server was reached: %s %q", a.Sink, a.Text)
		}
		if r := lab.Net(t, u, []string{"--quiet"}, python, "-c", script, port); !strings.Contains(r.Stderr, "Address already in use") {
			t.Fatalf("without the flag: %+v", r)
		}
	})
}

// A sandboxed process that takes the name of another sandbox leads nobody to a
// server of the host's.
func TestNeighbourCannotBePlayed(t *testing.T) {
	at := sink(t, netip.MustParseAddr("127.0.0.1"))
	_, port := hostPort(at)
	play := `import os, socket, sys, time
l = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
l.bind('\0sandlock/%d/played' % os.geteuid())
try: l.listen()
except OSError as e: print('refused', e)
print('up', flush=True)
while True:
    try:
        c, _ = l.accept(); c.recv(2); c.send(b'127.0.0.1:%d\n' % int(sys.argv[1]))
    except OSError as e: time.sleep(.1)
`
	asUsers(t, func(t *testing.T, u lab.User) {
		await := background(t, u, []string{"--quiet"}, python, "-c", play, port)
		await("up\n")
		await("refused")
		n := lab.Nonce()
		lab.Denied(t, lab.Denial{User: u, Flags: []string{"--allow", "played.sandlock:" + port}, Nonce: n, Answer: "ConnectionRefused",
			Command: []string{python, "-c", "import socket; s = socket.create_connection(('played.sandlock', " + port + "), 5); s.sendall(b'" + n + "'); s.recv(1)"}})
		// The control: the same connection is made where a rule names the address.
		m := lab.Now()
		if r := lab.Net(t, u, []string{"--allow", at.String()}, python, "-c", "import socket; s = socket.create_connection(('127.0.0.1', "+port+"), 5); s.sendall(b'"+n+"'); s.recv(1)"); r.Code != 0 {
			t.Fatalf("control: %+v", r)
		}
		m.Arrived(t, n)
	})
}

// In `run`, /proc/net lists the sandbox's own sockets, by the ports that it sees.
func TestPortRemapInProc(t *testing.T) {
	_, port := hostPort(lab.TCP(t, netip.MustParseAddrPort("127.0.0.1:0")))
	script := `import socket, sys
P = int(sys.argv[1])
def ports(name): return [int(l.split()[1].split(':')[1], 16) for l in list(open('/proc/net/' + name))[1:]]
assert ports('tcp') == [] == ports('tcp6'), ports('tcp')
l = socket.socket(); l.bind(('127.0.0.1', P)); l.listen()
m = socket.socket(socket.AF_INET6); m.bind(('::1', P)); m.listen()
c = socket.create_connection(('127.0.0.1', P)); a, _ = l.accept()
assert ports('tcp') == [P, P] and ports('tcp6') == [P], (ports('tcp'), ports('tcp6'))
remote = {int(x.split()[2].split(':')[1], 16) for x in list(open('/proc/self/net/tcp'))[1:]}
assert remote == {0, c.getsockname()[1]}, remote
print('whole')`
	asUsers(t, func(t *testing.T, u lab.User) {
		r := runIn(t, u, lab.Scratch(t, u), []string{"--port-remap"}, python, "-c", script, port)
		if r.Code != 0 || r.Stdout != "whole\n" {
			t.Fatalf("code %d: %s%s", r.Code, r.Stdout, r.Stderr)
		}
	})
}
