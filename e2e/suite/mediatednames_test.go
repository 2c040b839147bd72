package suite

import (
	"net/netip"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sandlock/sandlock/internal/lab"
)

// mediators are the two reasons for the mediated mode: a rule, and a host without
// user namespaces.
var mediators = map[string]func(t *testing.T, u lab.User, flags []string, args ...string) lab.Result{
	"by rule": func(t *testing.T, u lab.User, flags []string, args ...string) lab.Result {
		return lab.Net(t, u, append(unrelated, flags...), args...)
	},
	"no user namespaces": withoutUserns,
}

func withoutUserns(t *testing.T, u lab.User, flags []string, args ...string) lab.Result {
	log := filepath.Join(lab.Scratch(t, u), "log")
	flags = append([]string{"--log", log}, flags...)
	r := lab.Run(t, u, lab.NoUserNamespaces(t, lab.NetArgs(flags, args...)...)...)
	r.Log = lab.ReadLog(t, log)
	return r
}

// Clients of all kinds resolve and connect as they do in the contained mode.
func TestClientsMediated(t *testing.T) {
	for mode, run := range mediators {
		host := map[string]string{"by rule": "four.test", "no user namespaces": "six.test"}[mode]
		for _, c := range clients {
			t.Run(mode+"/"+c.name, func(t *testing.T) {
				n, m := lab.Nonce(), lab.Now()
				r := run(t, lab.Ordinary, []string{"--allow", host + ":" + c.port()}, c.command(t, host, n)...)
				if r.Code != 0 {
					t.Fatalf("code %d: %s%s", r.Code, r.Stdout, r.Stderr)
				}
				m.Arrived(t, n)
				if r.Denied("udp://") {
					t.Errorf("a datagram was denied: %v", r.Log)
				}
			})
		}
	}
}

// resolvers print the address of a name that they are told, each in its own way.
var resolvers = []struct {
	name    string
	command func(t *testing.T, host string) []string
}{
	{"glibc", func(_ *testing.T, h string) []string { return []string{"getent", "ahosts", h} }},
	{"python", func(_ *testing.T, h string) []string {
		return []string{python, "-c", "import socket;print(socket.gethostbyname('" + h + "'))"}
	}},
	{"c-ares", func(_ *testing.T, h string) []string {
		return []string{"node", "-e", "require('dns').resolve4('" + h + "',(e,a)=>{console.log(e||a);process.exit(e?1:0)})"}
	}},
	{"node", func(_ *testing.T, h string) []string {
		return []string{"node", "-e", "require('dns').lookup('" + h + "',(e,a)=>{console.log(e||a);process.exit(e?1:0)})"}
	}},
	{"dig", func(_ *testing.T, h string) []string { return []string{"dig", "+tries=1", "+time=3", h} }},
	{"dig over TCP", func(_ *testing.T, h string) []string { return []string{"dig", "+tcp", "+tries=1", "+time=3", h} }},
	{"dig at another server", func(_ *testing.T, h string) []string { return []string{"dig", "+tries=1", "+time=3", h, "@8.8.8.8"} }},
	{"dig at an IPv6 server", func(_ *testing.T, h string) []string {
		return []string{"dig", "+tries=1", "+time=3", h, "@2001:db8::53"}
	}},
	{"busybox", func(_ *testing.T, h string) []string { return []string{"busybox", "nslookup", "-type=a", h, "8.8.8.8"} }},
	{"unconnected", func(t *testing.T, h string) []string {
		return []string{python, "-c", `import socket, struct, sys
q = struct.pack(">HHHHHH", 7, 256, 1, 0, 0, 0) + b"".join(bytes([len(l)]) + l.encode() for l in "` + h + `".split(".")) + b"\0\0\1\0\1"
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.settimeout(5)
for server in [("8.8.8.8", 53), ("9.9.9.9", 53)]:
    s.sendmsg([q[:5], q[5:]], [], 0, server)
    got, _, flags, source = s.recvmsg(600)
    assert source == server and flags == 0, (source, flags)
    s.sendto(q, server)
    got, source = s.recvfrom(600)
    assert source == server, source
if got[3] & 15: sys.exit("rcode %d" % (got[3] & 15))
print(socket.inet_ntoa(got[-4:]) if got[7] == 1 else socket.inet_ntoa(got[len(q)+12:len(q)+16]))`}
	}},
	{"blocking", func(t *testing.T, h string) []string {
		return []string{python, "-c", `import socket, struct, sys, threading
q = struct.pack(">HHHHHH", 7, 256, 1, 0, 0, 0) + b"".join(bytes([len(l)]) + l.encode() for l in "` + h + `".split(".")) + b"\0\0\1\0\1"
s = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
server = ("::ffff:8.8.8.8", 53, 0, 0)
s.sendto(q, server)
s.recvfrom(600)
ready = threading.Event()
def wait():
    ready.set()
    got.append(s.recvfrom(600))
got = []
t = threading.Thread(target=wait)
t.start()
ready.wait()
s.sendto(q, server)
t.join(10)
got, source = got[0]
assert source == server, source
if got[3] & 15: sys.exit("rcode %d" % (got[3] & 15))
print(socket.inet_ntoa(got[len(q)+12:len(q)+16]))`}
	}},
}

func TestResolversMediated(t *testing.T) {
	for mode, run := range mediators {
		for _, c := range resolvers {
			t.Run(mode+"/"+c.name, func(t *testing.T) {
				asUsers(t, func(t *testing.T, u lab.User) {
					rule := []string{"--allow", "four.test:443"}
					r := run(t, u, rule, c.command(t, "four.test")...)
					if r.Code != 0 || !strings.Contains(r.Stdout, lab.Allowed4.String()) {
						t.Errorf("allowed: code %d: %s%s", r.Code, r.Stdout, r.Stderr)
					}
					m := lab.Now()
					n := lab.Nonce() + ".evil.test"
					r = run(t, u, rule, c.command(t, n)...)
					for _, a := range m.Since(t) {
						t.Errorf("denied: %s reached %s: %q", a.Kind, a.Sink, a.Text)
					}
					if strings.Contains(r.Stdout, lab.Allowed4.String()) || !r.Denied(n) || r.Took > lab.DenyGuard {
						t.Errorf("denied: code %d after %s: %s%s %v", r.Code, r.Took, r.Stdout, r.Stderr, r.Log)
					}
				})
			})
		}
	}
}

// A static musl program accepts an answer only from the server it asked.
func TestMuslMediated(t *testing.T) {
	p := lab.MuslProbe(t)
	for mode, run := range mediators {
		for name, a := range map[string]netip.Addr{"four.test": lab.Allowed4, "six.test": lab.Allowed6} {
			_, port := hostPort(sink(t, a))
			asUsers(t, func(t *testing.T, u lab.User) {
				n, m := lab.Nonce(), lab.Now()
				r := run(t, u, []string{"--allow", name + ":" + port}, p, "name", name, port, n)
				if r.Code != 0 {
					t.Fatalf("%s: code %d: %s%s", mode, r.Code, r.Stdout, r.Stderr)
				}
				m.Arrived(t, n)
			})
		}
	}
}

// Without user namespaces and without a rule for datagrams all of them are
// refused as ever.
func TestUDPDeniedWithoutUserNamespaces(t *testing.T) {
	for _, way := range udpWays {
		at := udpSink(t, lab.Evil4)
		n := lab.Nonce()
		cmd := udpCommand(t, way, at, n)
		lab.Bare(t, lab.Ordinary, n, cmd...)
		m := lab.Now()
		r := withoutUserns(t, lab.Ordinary, nil, cmd...)
		for _, a := range m.Since(t) {
			t.Errorf("%v: %s reached %s: %q", way, a.Kind, a.Sink, a.Text)
		}
		if !strings.Contains(r.Stdout, "ECONNREFUSED") || !r.Denied("udp://"+at.String()) {
			t.Errorf("%v: %s%s %v", way, r.Stdout, r.Stderr, r.Log)
		}
	}
}
