package suite

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/sandlock/sandlock/internal/lab"
)

// foreign are words of the lab's own network that nothing inside may show.
func foreign() []string {
	return []string{"near", lab.Allowed4.String(), lab.Evil4.String(), lab.Allowed6.String()}
}

func javaInterfaces(t *testing.T) []string {
	src := filepath.Join(lab.Dir(), "tmp", "Interfaces.java")
	if err := os.WriteFile(src, []byte(`import java.net.*; import java.util.*;
class Interfaces { public static void main(String[] a) throws Exception {
for (NetworkInterface i : Collections.list(NetworkInterface.getNetworkInterfaces())) if (i.isUp())
  System.out.println(i.getIndex() + " " + i.getName() + " up " + i.isUp() + " loopback " + i.isLoopback() + " " + i.getMTU() + " " + Collections.list(i.getInetAddresses())); } }
`), 0o644); err != nil {
		t.Fatal(err)
	}
	return []string{"java", "-Xshare:auto", "-XX:TieredStopAtLevel=1", src}
}

// What lists interfaces, routes and neighbours shows loopback, with its stand-in
// for the addresses of the host, and no error.
func TestInterfaces(t *testing.T) {
	py := func(code string) []string { return []string{python, "-c", code} }
	for _, c := range []struct {
		name    string
		command []string
		want    []string
		silent  bool // nothing to show is right
		outside bool // shows the lab's network without a sandbox
		files   bool // reads /proc/net too
	}{
		{"glibc", []string{lab.Probe(t), "interfaces", "localhost"}, []string{"lo 127.0.0.1", "lo ::1", "1 lo", "family 2"}, false, true, false},
		{"musl", []string{lab.MuslProbe(t), "interfaces", "localhost"}, []string{"lo 127.0.0.1", "lo ::1", "1 lo", "family 2"}, false, true, false},
		{"go", lab.GoProgram(t, "interfaces"), []string{"1 lo 65536 up|loopback|running [127.0.0.1/8 192.0.0.8/32 100::8/128 ::1/128]"}, false, true, false},
		{"java", javaInterfaces(t), []string{"1 lo up true loopback true 65536", "/127.0.0.1"}, false, false, true},
		{"node", []string{"node", "-p", "JSON.stringify(os.networkInterfaces())"}, []string{`{"lo":[{"address":"127.0.0.1"`, `"address":"::1"`}, false, true, false},
		{"psutil", py("import psutil;print(psutil.net_if_addrs(), psutil.net_if_stats())"), []string{"'lo': [snicaddr(", "address='127.0.0.1'", "'lo': snicstats(isup=True"}, false, true, false},
		{"ifaddr", py("import ifaddr;[print(a.name, i.ip) for a in ifaddr.get_adapters() for i in a.ips]"), []string{"lo 127.0.0.1"}, false, true, false},
		{"AI_ADDRCONFIG", py("import socket as s;print(*(s.getaddrinfo('localhost', 80, f, s.SOCK_STREAM, 0, s.AI_ADDRCONFIG)[0][4][0] for f in (s.AF_INET, s.AF_INET6)))"),
			[]string{"127.0.0.1 ::1"}, false, false, false},
		{"if_nameindex", py("import socket;print(socket.if_nameindex(), socket.if_nametoindex('lo'), socket.if_indextoname(1))"), []string{"[(1, 'lo')] 1 lo"}, false, true, false},
		{"ip addr", []string{"ip", "addr"}, []string{"1: lo: <LOOPBACK,UP,LOWER_UP> mtu 65536", "inet 127.0.0.1/8 scope host lo", "inet6 ::1/128 scope host"}, false, true, false},
		{"ip link show lo", []string{"ip", "link", "show", "lo"}, []string{"1: lo:"}, false, false, false},
		{"ip route", []string{"ip", "route"}, nil, true, false, false},
		{"ip route, all tables", []string{"ip", "route", "show", "table", "all"}, []string{"local 127.0.0.1 dev lo table local"}, false, true, false},
		{"ip route get", []string{"ip", "route", "get", "127.0.0.1"}, []string{"local 127.0.0.1 dev lo"}, false, false, false},
		{"ip -6 route", []string{"ip", "-6", "route"}, nil, true, false, false},
		{"ip neigh", []string{"ip", "neigh"}, nil, true, false, false},
		{"ip rule", []string{"ip", "rule"}, []string{"from all lookup main"}, false, false, false},
		{"ss", []string{"ss", "-t"}, nil, false, false, true},
		{"busybox ip", []string{"busybox", "ip", "addr"}, []string{"inet 127.0.0.1/8 scope host lo"}, false, true, false},
		{"busybox ip route", []string{"busybox", "ip", "route"}, nil, true, false, false},
		{"busybox ifconfig", []string{"busybox", "ifconfig"}, []string{"inet addr:127.0.0.1", "UP LOOPBACK RUNNING"}, false, false, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			asUsers(t, func(t *testing.T, u lab.User) {
				shows := func(r lab.Result, w string) bool { return strings.Contains(r.Stdout, w) }
				if bare := lab.Run(t, u, c.command...); bare.Code != 0 || c.outside && !slices.ContainsFunc(foreign(), func(w string) bool { return shows(bare, w) }) {
					t.Fatalf("control: %+v", bare)
				}
				r := lab.Net(t, u, nil, c.command...)
				if r.Code != 0 || r.Stderr != "" && c.name != "ss" {
					t.Fatalf("code %d: %s%s", r.Code, r.Stdout, r.Stderr)
				}
				for _, w := range c.want {
					if !shows(r, w) {
						t.Errorf("no %q in:\n%s", w, r.Stdout)
					}
				}
				if c.silent && r.Stdout != "" {
					t.Errorf("shows %q", r.Stdout)
				}
				for _, w := range foreign() {
					if !c.files && shows(r, w) {
						t.Errorf("shows %q of the network outside:\n%s", w, r.Stdout)
					}
				}
			})
		})
	}
}

// Changes are refused by the kernel, however they are sent.
func TestInterfacesCannotBeChanged(t *testing.T) {
	ip := func(args ...string) []string { return append([]string{"ip"}, args...) }
	// The kernel adds the route of an IPv6 address a moment after the address.
	const script = `all() { ip addr; ip rule; ip route show table all | grep -v "local 100::8 "; }; all >a; "$@" && exit 9; all >b; cmp a b`
	for _, cmd := range [][]string{
		ip("link", "set", "lo", "down"), ip("link", "add", "evil", "type", "dummy"), ip("addr", "add", "10.0.0.1/8", "dev", "lo"),
		ip("addr", "del", "127.0.0.1/8", "dev", "lo"), ip("route", "add", "10.0.0.0/8", "dev", "lo"), ip("rule", "add", "from", "all", "table", "7"),
		ip("neigh", "add", "10.0.0.9", "lladdr", "00:00:00:00:00:01", "dev", "lo"), ip("link", "set", "lo", "netns", "1"), ip("-6", "route", "add", "fd00::/8", "dev", "lo"),
		{"busybox", "ip", "link", "set", "lo", "down"}, {"busybox", "ifconfig", "lo", "down"}, {"busybox", "route", "add", "-net", "10.0.0.0/8", "lo"},
	} {
		t.Run(strings.Join(cmd, " "), func(t *testing.T) {
			asUsers(t, func(t *testing.T, u lab.User) {
				r := lab.Net(t, u, []string{"--quiet"}, "sh", "-c", script, "sh")
				if r.Code != 9 {
					t.Fatalf("control: %+v", r)
				}
				r = lab.Net(t, u, []string{"--quiet"}, append([]string{"sh", "-c", script, "sh"}, cmd...)...)
				if r.Code != 0 || !strings.Contains(r.Stderr, "not permitted") {
					t.Fatalf("code %d: %s%s", r.Code, r.Stdout, r.Stderr)
				}
			})
		})
	}
}

// A netlink socket is one by each name that it has, and whatever happens to its
// descriptor.
func TestNetlinkSocketsAreWhole(t *testing.T) {
	script := `import os, socket, struct, sys
N, R = socket.AF_NETLINK, socket.SOCK_RAW
def dump(s, flags=0x301, kind=18, how=0):
    m = struct.pack('=IHHIIB3x', 20, kind, flags, 7, 0, 0)
    if how == 0: s.send(m)
    if how == 1: s.sendto(m, (0, 0))
    if how == 2: s.sendmsg([m], [], 0, (0, 0))
    if how == 3: os.write(s.fileno(), m)
    got = []
    while True:
        b = s.recv(65536)
        while b:
            n, t = struct.unpack('=IH', b[:6])
            got.append(t); b = b[(n+3)&~3:]
        if got[-1] in (2, 3): return sorted(set(got))
s = socket.socket(N, R, 0)
s.settimeout(10)
assert s.getsockname() == (0, 0), s.getsockname()
s.bind((0, 0))
assert s.getsockname() == (os.getpid(), 0), s.getsockname()
assert s.getpeername() == (0, 0), s.getpeername()
for how in range(4): assert dump(s, how=how) == [3, 16], how
for name, want in (39, N), (3, R), (38, 0): assert s.getsockopt(1, name) == want, name
s.setsockopt(270, 12, 1)
assert s.getsockopt(270, 12) == 1
assert dump(s) != [3, 16], 'strict checking wants a whole struct ifinfomsg'
s.setsockopt(270, 12, 0)
t = socket.socket(N, R | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC, 0)
assert not os.get_inheritable(t.fileno()) and not os.get_blocking(t.fileno())
t.connect((0, 0))
assert t.getsockname()[0] > 1 << 31
d = socket.socket(fileno=os.dup(s.fileno())); s.close(); d.settimeout(10)
assert d.family == N and d.getsockname() == (os.getpid(), 0)
assert dump(d) == [3, 16]
if os.fork() == 0:
    ok = dump(d) == [3, 16] and d.getsockname() == (os.getppid(), 0)
    os._exit(0 if ok else 1)
assert os.wait()[1] == 0
# Its number is not remembered: what comes to it later is what it is.
n = d.fileno(); d.close()
u = socket.socket(); assert u.fileno() == n or os.dup2(u.fileno(), n) == n
u = socket.socket(fileno=os.dup(n)); u.bind(('127.0.0.1', 0)); assert u.getsockname()[1] > 0
e = socket.socket(N, R, 0); os.set_inheritable(e.fileno(), True)
os.execv(sys.executable, [sys.executable, '-c', '''
import socket, sys
s = socket.socket(fileno=int(sys.argv[1])); s.settimeout(10)
assert s.family == socket.AF_NETLINK
import struct
s.send(struct.pack('=IHHIIB3x', 20, 18, 0x301, 7, 0, 0))
assert struct.unpack('=IH', s.recv(65536)[:6])[1] == 16
print('whole')
''', str(e.fileno())])
`
	asUsers(t, func(t *testing.T, u lab.User) {
		if bare := lab.Run(t, u, python, "-c", script); bare.Stdout != "whole\n" {
			t.Fatalf("control: %+v", bare)
		}
		for _, flags := range modes {
			if r := lab.Net(t, u, flags, python, "-c", script); r.Code != 0 || r.Stdout != "whole\n" {
				t.Fatalf("%v: code %d: %s%s", flags, r.Code, r.Stdout, r.Stderr)
			}
			for _, c := range [][]string{{"ip", "addr"}, {lab.Probe(t), "interfaces", "localhost"}, {lab.MuslProbe(t), "interfaces", "localhost"}} {
				if r := lab.Net(t, u, flags, c...); r.Code != 0 || r.Stderr != "" || !strings.Contains(r.Stdout, "127.0.0.1") {
					t.Fatalf("%v: %s: %+v", flags, c, r)
				}
			}
		}
	})
}

// modes are the flags for either way with datagrams.
var modes = [][]string{nil, {"--allow", "udp://198.51.100.1:9"}}

// Ioctls on interfaces show loopback on whatever socket, and change nothing; nor
// do the socket options that steer packet filters.
func TestInterfaceIoctls(t *testing.T) {
	script := `import errno, fcntl, socket, struct, array
SIOCGIFCONF, SIOCGIFFLAGS, SIOCGIFADDR, SIOCGIFNAME = 0x8912, 0x8913, 0x8915, 0x8910
def req(name): return struct.pack('16s24x', name)
def code(f):
    try: f(); return 0
    except OSError as e: return e.errno
for s in (socket.socket(), socket.socket(socket.AF_INET6), socket.socket(socket.AF_UNIX), socket.socket(socket.AF_INET, socket.SOCK_DGRAM)):
    buf = array.array('B', bytes(4096))
    n = struct.unpack('iL', fcntl.ioctl(s, SIOCGIFCONF, struct.pack('iL', 4096, buf.buffer_info()[0])))[0]
    names = [bytes(buf[i:i+16]).rstrip(b'\0') for i in range(0, n, 40)]
    assert set(names) == {b'lo'}, names
    assert struct.unpack('iL', fcntl.ioctl(s, SIOCGIFCONF, struct.pack('iL', 0, 0)))[0] == 80
    assert struct.unpack('16xH', fcntl.ioctl(s, SIOCGIFFLAGS, req(b'lo'))[:18])[0] & 9 == 9
    assert fcntl.ioctl(s, SIOCGIFADDR, req(b'lo'))[20:24] == b'\x7f\0\0\1'
    assert fcntl.ioctl(s, SIOCGIFNAME, struct.pack('16xi20x', 1))[:3] == b'lo\0'
    assert code(lambda: fcntl.ioctl(s, SIOCGIFFLAGS, req(b'none'))) == errno.ENODEV
    assert struct.unpack('16xH', fcntl.ioctl(s, SIOCGIFFLAGS, req(b'near'))[:18])[0] == 0
    assert code(lambda: fcntl.ioctl(s, SIOCGIFADDR, req(b'near'))) == errno.ENODEV
    assert code(lambda: fcntl.ioctl(s, 0x8914, struct.pack('16sH22x', b'lo', 0))) == errno.EPERM
    assert code(lambda: fcntl.ioctl(s, 0x8916, req(b'lo'))) == errno.EPERM
    assert code(lambda: fcntl.ioctl(s, 0x890b, bytes(120))) == errno.EPERM
    assert code(lambda: fcntl.ioctl(s, 0x8946, req(b'lo'))) == errno.EOPNOTSUPP
    assert code(lambda: fcntl.ioctl(s, 0x8b01, req(b'lo'))) == errno.EOPNOTSUPP
    assert code(lambda: fcntl.ioctl(s, 0x89f0, req(b'lo'))) == errno.EPERM
u = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
v = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
for s, level, names in (u, 0, (16, 17, 64, 65, 96, 128, 200, 1152)), (v, 41, (34, 35, 64, 65)), (u, 1, (32, 33)):
    for n in names: assert code(lambda: s.setsockopt(level, n, bytes(96))) == errno.EPERM, (level, n)
assert code(lambda: u.getsockopt(0, 64, 96)) == errno.EPERM
u.setsockopt(0, 10, 2); v.setsockopt(41, 67, 0); v.setsockopt(41, 66, 1)
with open('/dev/null') as f: assert code(lambda: fcntl.ioctl(f, SIOCGIFFLAGS, req(b'lo'))) == errno.ENOTTY
print('whole')
`
	asUsers(t, func(t *testing.T, u lab.User) {
		if r := lab.Net(t, u, nil, python, "-c", script); r.Code != 0 || r.Stdout != "whole\n" {
			t.Fatalf("code %d: %s%s", r.Code, r.Stdout, r.Stderr)
		}
	})
}
