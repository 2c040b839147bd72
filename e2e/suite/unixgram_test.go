package suite

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sandlock/sandlock/internal/lab"
)

// gram opens a unix datagram sink of the host's and returns its path.
func gram(t *testing.T) string { return openUnix(t, "unixgram", "path") }

// unixWays send a datagram to a path, from a socket of socket(2) and of
// socketpair(2).
var unixWays = []string{"unix-dgram", "unix-pair", "unix-dgram-connect", "unix-dgram-sendmsg", "unix-dgram-sendmmsg", "unix-dgram-relative"}

// Another program's datagram socket is closed, in each mode and by each way.
func TestUnixDatagramDenied(t *testing.T) {
	p := lab.Probe(t)
	for _, way := range unixWays {
		for _, kind := range []string{"path", "symlink", "root", "abstract"} {
			if kind != "path" && way == "unix-dgram-relative" {
				continue
			}
			t.Run(way+"/"+kind, func(t *testing.T) {
				place := openUnix(t, "unixgram", kind)
				asUsers(t, func(t *testing.T, u lab.User) {
					n := lab.Nonce()
					cmd := []string{p, way, place, n}
					lab.Bare(t, u, n, cmd...)
					d := lab.Denial{User: u, Flags: unrelated, Command: cmd, Answer: "EACCES", Log: filepath.Base(place)}
					if kind == "abstract" {
						d.Answer, d.Log = "EPERM", "" // the kernel denies
					}
					lab.Denied(t, d)
					d = lab.Denial{User: u, Command: cmd, Lost: way == "unix-pair", Answer: "EPERM"}
					if d.Lost {
						d.Answer = ""
					}
					lab.Denied(t, d)
				})
			})
		}
	}
}

// --allow-unix opens the socket that it names, by all its paths, and no other.
func TestUnixDatagramAllowed(t *testing.T) {
	p := lab.Probe(t)
	for _, way := range unixWays {
		for _, kind := range []string{"path", "symlink", "root"} {
			if kind != "path" && way == "unix-dgram-relative" {
				continue
			}
			t.Run(way+"/"+kind, func(t *testing.T) {
				place, other := openUnix(t, "unixgram", kind), gram(t)
				asUsers(t, func(t *testing.T, u lab.User) {
					flags := []string{"--allow-unix", strings.TrimPrefix(place, "/proc/self/root")}
					n, m := lab.Nonce(), lab.Now()
					if r := lab.Net(t, u, flags, p, way, place, n); r.Code != 0 {
						t.Fatalf("code %d: %s%s", r.Code, r.Stdout, r.Stderr)
					}
					m.Arrived(t, n)
					lab.Denied(t, lab.Denial{User: u, Flags: flags, Command: []string{p, way, other, n}, Answer: "EACCES", Log: other})
				})
			})
		}
	}
}

// A program that can rename files cannot put another socket in the place of the
// one that was opened.
func TestUnixDatagramRenamed(t *testing.T) {
	p := lab.Probe(t)
	asUsers(t, func(t *testing.T, u lab.User) {
		dir := lab.Scratch(t, u)
		place, secret := filepath.Join(dir, "open"), filepath.Join(dir, "secret")
		lab.Unix(t, "unixgram", place)
		lab.Unix(t, "unixgram", secret)
		for _, f := range []string{place, secret} {
			if err := os.Chmod(f, 0o777); err != nil {
				t.Fatal(err)
			}
		}
		n, m := lab.Nonce(), lab.Now()
		// They are put back, for the fence of the lab looks for its sinks there.
		script := "cd " + dir + " && mv open old && mv secret open && " + p + " unix-dgram " + place + " " + n + "; r=$?; mv open secret && mv old open; exit $r"
		if r := lab.Net(t, u, []string{"--allow-unix", place}, "sh", "-c", script); r.Code == 0 || !r.Denied(place) {
			t.Errorf("code %d: %s%s %v", r.Code, r.Stdout, r.Stderr, r.Log)
		}
		for _, a := range m.Since(t) {
			if strings.Contains(a.Text, n) {
				t.Errorf("%s reached %s", a.Kind, a.Sink)
			}
		}
	})
}

// A thread rewrites the path during the call; only the open socket may see
// anything.
func TestUnixDatagramRaces(t *testing.T) {
	p := lab.Probe(t)
	good, bad := gram(t), gram(t)
	asUsers(t, func(t *testing.T, u lab.User) {
		count := func(m lab.Mark, sink string) (n int) {
			for _, a := range m.Since(t) {
				if a.Sink == "unixgram "+sink {
					n++
				}
			}
			return n
		}
		n, m := lab.Nonce(), lab.Now()
		lab.Bare(t, u, n, p, "race-unix", "1", good, bad, n)
		if count(m, bad) == 0 {
			t.Fatal("control: the race is never won without a sandbox")
		}
		m = lab.Now()
		r := lab.Net(t, u, []string{"--quiet", "--allow-unix", good}, p, "race-unix", raceSeconds(), good, bad, n)
		if r.Code != 0 || count(m, bad) > 0 || count(m, good) == 0 {
			t.Errorf("code %d: %s%s; good %d, bad %d", r.Code, r.Stdout, r.Stderr, count(m, good), count(m, bad))
		}
		t.Log(strings.TrimSpace(r.Stdout))
	})
}

// Datagram sockets of the sandbox reach each other: by path, by abstract name, by
// pair and by the address that the kernel chose.
func TestUnixDatagramInside(t *testing.T) {
	const script = `
import array, os, socket
def recv(s):
    s.settimeout(10)
    return s.recvfrom(100)
for name in ("server", "\0lab-" + str(os.getpid())):
    s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM); s.bind(name)
    c = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM); c.bind("")
    c.sendto(b"one", name)
    data, source = recv(s)
    assert data == b"one" and source == c.getsockname(), (data, source)
    s.sendto(b"two", source)
    assert recv(c)[0] == b"two"
    c.connect(name)
    c.send(b"three")
    assert recv(s)[0] == b"three"
    r, w = os.pipe()
    c.sendmsg([b"four"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [w]))])
    data, anc, _, _ = s.recvmsg(10, 100)
    os.write(array.array("i", anc[0][2])[0], b"through")
    assert data == b"four" and os.read(r, 100) == b"through"
    try:
        c.sendmsg([b"x"], [(socket.SOL_SOCKET, socket.SCM_CREDENTIALS, b"\0" * 12)])
        raise SystemExit("credentials passed")
    except PermissionError:
        pass
    try:
        c.sendmsg([b"x"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [999]))])
        raise SystemExit("a descriptor that is not there passed")
    except OSError as e:
        assert e.errno == 9, e
a, b = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
a.send(b"five")
assert recv(b)[0] == b"five" and a.getsockopt(socket.SOL_SOCKET, socket.SO_TYPE) == socket.SOCK_DGRAM
print("done")`
	asUsers(t, func(t *testing.T, u lab.User) {
		for mode, run := range mediators {
			if r := run(t, u, nil, python, "-c", script); r.Code != 0 || r.Stdout != "done\n" {
				t.Errorf("%s: code %d: %s%s", mode, r.Code, r.Stdout, r.Stderr)
			}
		}
	})
}

// Clients of syslog and of systemd see an error, or are served where the socket
// is open.
func TestUnixDatagramClients(t *testing.T) {
	dir := lab.Scratch(t, lab.Ordinary)
	path := filepath.Join(dir, "log")
	lab.Unix(t, "unixgram", path)
	for _, f := range []string{dir, path} {
		if err := os.Chmod(f, 0o777); err != nil {
			t.Fatal(err)
		}
	}
	clients := map[string]string{
		"logger": "logger -s -u " + path + " NONCE",
		"python": python + ` -c 'import logging, logging.handlers
logging.getLogger().addHandler(logging.handlers.SysLogHandler("` + path + `"))
logging.error("NONCE")'`,
		"notify": python + ` -c 'import socket
socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM).sendto(b"STATUS=NONCE", "` + path + `")'`,
	}
	for name, line := range clients {
		t.Run(name, func(t *testing.T) {
			asUsers(t, func(t *testing.T, u lab.User) {
				n, m := lab.Nonce(), lab.Now()
				r := lab.Net(t, u, []string{"--allow-unix", path}, "sh", "-c", strings.ReplaceAll(line, "NONCE", n))
				if r.Code != 0 {
					t.Fatalf("code %d: %s%s", r.Code, r.Stdout, r.Stderr)
				}
				m.Arrived(t, n)
				for _, f := range [][]string{nil, unrelated} {
					m := lab.Now()
					r := lab.Net(t, u, f, "sh", "-c", strings.ReplaceAll(line, "NONCE", n))
					if len(m.Since(t)) > 0 || r.Took > lab.DenyGuard {
						t.Errorf("%v: after %s: %v", f, r.Took, m.Since(t))
					}
				}
			})
		})
	}
}

// A blocked send of one process holds up nobody, goes on when there is room and
// ends with a signal.
func TestBlockedSends(t *testing.T) {
	const script = `
import os, select, signal, socket, threading, time
big = os.urandom(8 << 20)
a, b = socket.socketpair()
def read():
    left = len(big) + 3
    got = bytearray()
    while left:
        d = b.recv(1 << 16); got += d; left -= len(d)
    out.append(bytes(got))
out = []
t = threading.Thread(target=read); t.start()
n = a.sendmsg([big[:5], big[5:], b"end"])
t.join()
assert n == len(big) + 3 and out[0] == big + b"end", n
a.setblocking(False)
n = a.sendmsg([big])
assert 0 < n < len(big), n
try:
    while True: a.sendmsg([big])
except BlockingIOError: pass
a.setblocking(True)
while select.select([b], [], [], 0)[0]: b.recv(1 << 20)
# a full receiver, by path
s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM); s.bind("s")
c = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
c.setblocking(False)
try:
    while True: c.sendto(b"x", "s")
except BlockingIOError: pass
c.setblocking(True)
started = threading.Event()
def send():
    started.set(); sent.append(c.sendto(b"last", "s"))
sent = []
t = threading.Thread(target=send); t.start()
started.wait()
while t.is_alive():
    if select.select([s], [], [], 0.01)[0]: s.recv(10)
t.join()
assert sent == [4]
# a time limit and a signal
c.setblocking(False)
try:
    while True: c.sendto(b"x", "s")
except BlockingIOError: pass
c.setblocking(True)
c.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, b"\0" * 8 + (50000).to_bytes(8, "little"))
try: c.sendto(b"x", "s"); raise SystemExit("sent")
except BlockingIOError: pass
c.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, b"\0" * 16)
class Rung(Exception): pass
def ring(*_): raise Rung
signal.signal(signal.SIGALRM, ring)
signal.setitimer(signal.ITIMER_REAL, 0.2)
try: c.sendto(b"x", "s"); raise SystemExit("sent")
except Rung: pass
# a closed stream
signal.signal(signal.SIGPIPE, lambda *_: piped.append(1))
piped = []
a, b = socket.socketpair()
b.close()
assert a.recv(1) == b"" # where the supervisor keeps copies, the end comes a little later
try: a.sendmsg([b"x"]); raise SystemExit("sent")
except BrokenPipeError: time.sleep(0) # lets the handler run
assert piped == [1]
try: a.sendmsg([b"x"], [], socket.MSG_NOSIGNAL); raise SystemExit("sent")
except BrokenPipeError: time.sleep(0) # lets the handler run
assert piped == [1]
print("done")`
	asUsers(t, func(t *testing.T, u lab.User) {
		if r := lab.Run(t, u, python, "-c", script); r.Stdout != "done\n" {
			t.Fatalf("control: %s%s", r.Stdout, r.Stderr)
		}
		for name, run := range map[string]func(t *testing.T, u lab.User, flags []string, args ...string) lab.Result{"docker": asInDocker, "by rule": mediators["by rule"]} {
			if r := run(t, u, nil, python, "-c", script); r.Code != 0 || r.Stdout != "done\n" {
				t.Errorf("%s: code %d: %s%s", name, r.Code, r.Stdout, r.Stderr)
			}
		}
	})
}

// A command of root's that became another user may use an open socket only as far
// as the file allows that user.
func TestUnixAsAnotherUser(t *testing.T) {
	if lab.Nested() {
		return // the lab of an ordinary user has no second user
	}
	p := lab.Probe(t)
	for _, c := range []struct{ network, probe string }{{"unix", "unix-stream"}, {"unixgram", "unix-dgram"}, {"unixgram", "unix-dgram-connect"}} {
		place := openUnix(t, c.network, "path")
		for mode, open := range map[os.FileMode]bool{0o777: true, 0o700: false} {
			if err := os.Chmod(place, mode); err != nil {
				t.Fatal(err)
			}
			n := lab.Nonce()
			cmd := []string{"setpriv", "--reuid", "1000", "--regid", "1000", "--clear-groups", p, c.probe, place, n}
			bare, m := lab.Run(t, lab.Root, cmd...), lab.Now()
			r := lab.Net(t, lab.Root, []string{"--allow-unix", place}, cmd...)
			refused := func(r lab.Result) bool { return strings.Contains(r.Stdout, "fail EACCES") }
			if r.Code != bare.Code || refused(r) != refused(bare) || refused(r) == open {
				t.Errorf("%s %v: %q bare, %q %s", c.probe, mode, bare.Stdout, r.Stdout, r.Stderr)
			}
			arrived := false
			for _, a := range m.Since(t) {
				arrived = arrived || strings.Contains(a.Text, n)
			}
			if arrived != open {
				t.Errorf("%s %v: arrived %v", c.probe, mode, arrived)
			}
		}
	}
}
