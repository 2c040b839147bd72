package suite

import (
	"bufio"
	"net"
	"net/netip"
	"os"
	"strings"
	"testing"

	"github.com/sandlock/sandlock/internal/lab"
)

// unrelated makes a run mediate datagrams and allows nothing that a test touches.
var unrelated = []string{"--allow", "udp://192.0.2.99:9"}

func udpSink(t *testing.T, a netip.Addr) netip.AddrPort { return lab.UDP(t, netip.AddrPortFrom(a, 0)) }

func flags(parts ...string) []string { return parts }

// udpWays are all forms of a send, connected and not, as a probe and what comes
// before address, port and nonce.
var udpWays = [][]string{{"udp-sendto"}, {"udp-connect"}, {"udp-sendmsg"}, {"udp-sendmmsg"}, {"udp-connected", "send"}, {"udp-connected", "sendto"},
	{"udp-connected", "write"}, {"udp-connected", "sendmsg"}, {"udp-connected", "sendmmsg"}}

var udpAddrs = []netip.Addr{lab.Evil4, lab.Evil6, netip.MustParseAddr("127.0.0.1"), netip.MustParseAddr("::1")}

func udpCommand(t *testing.T, way []string, at netip.AddrPort, nonce string) []string {
	ip, port := hostPort(at)
	return append(append([]string{lab.Probe(t)}, way...), ip, port, nonce)
}

// With rules for something else each form is refused at once, and the log says so.
func TestUDPMediatedDenied(t *testing.T) {
	for _, way := range udpWays {
		for _, a := range udpAddrs {
			t.Run(strings.Join(way, " ")+"/"+a.String(), func(t *testing.T) {
				at := udpSink(t, a)
				asUsers(t, func(t *testing.T, u lab.User) {
					n := lab.Nonce()
					cmd := udpCommand(t, way, at, n)
					lab.Bare(t, u, n, cmd...)
					d := lab.Denial{User: u, Flags: flags("--allow", "udp://192.0.2.99:9", "--allow", at.Addr().String()), Command: cmd, Nonce: n,
						Answer: "ECONNREFUSED", Log: "udp://"}
					lab.Denied(t, d)
				})
			})
		}
	}
}

// The allowed twins, by address, range, name and everything.
func TestUDPAllowed(t *testing.T) {
	for _, way := range udpWays {
		for _, a := range udpAddrs {
			t.Run(strings.Join(way, " ")+"/"+a.String(), func(t *testing.T) {
				at := udpSink(t, a)
				asUsers(t, func(t *testing.T, u lab.User) {
					n, m := lab.Nonce(), lab.Now()
					r := lab.Net(t, u, flags("--allow", "udp://"+at.String()), udpCommand(t, way, at, n)...)
					if r.Code != 0 || r.Denied("") {
						t.Fatalf("code %d: %s%s%v", r.Code, r.Stdout, r.Stderr, r.Log)
					}
					m.Arrived(t, n)
				})
			})
		}
	}
}

// What a rule covers and what it does not.
func TestUDPScope(t *testing.T) {
	at := udpSink(t, lab.Evil4)
	six := udpSink(t, lab.Evil6)
	private := udpSink(t, lab.Private4)
	_, port := hostPort(at)
	for _, c := range []struct {
		name  string
		flags []string
		at    netip.AddrPort
		open  bool
	}{
		{"host", flags("--allow", "udp://"+at.Addr().String()), at, true},
		{"range", flags("--allow", "udp://151.101.0.0/16:"+port), at, true},
		{"everything", flags("--allow", "udp://*"), at, true},
		{"everything, IPv6", flags("--allow", "udp://*"), six, true},
		{"other port", flags("--allow", "udp://"+at.Addr().String()+":1"), at, false},
		{"other host", flags("--allow", "udp://151.101.1.70"), at, false},
		{"other family", flags("--allow", "udp://0.0.0.0/0"), six, false},
		{"tcp rule", flags("--allow", at.String(), "--allow", "udp://192.0.2.99"), at, false},
		{"deny wins", flags("--allow", "udp://*", "--deny", at.Addr().String()), at, false},
		{"deny by protocol", flags("--allow", "udp://*", "--deny", "udp://"+at.String()), at, false},
		{"deny of a range", flags("--deny", "10.0.0.0/8", "--allow", "udp://*"), private, false},
		{"special use by rule", flags("--allow", "udp://"+private.String()), private, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			for _, way := range [][]string{{"udp-sendto"}, {"udp-connect"}} {
				n := lab.Nonce()
				cmd := udpCommand(t, way, c.at, n)
				if !c.open {
					lab.Bare(t, lab.Ordinary, n, cmd...)
					lab.Denied(t, lab.Denial{User: lab.Ordinary, Flags: c.flags, Command: cmd, Answer: "ECONNREFUSED", Log: c.at.Addr().String()})
					continue
				}
				m := lab.Now()
				if r := lab.Net(t, lab.Ordinary, c.flags, cmd...); r.Code != 0 {
					t.Fatalf("code %d: %s%s", r.Code, r.Stdout, r.Stderr)
				}
				m.Arrived(t, n)
			}
		})
	}
}

// A name's addresses are allowed once they were asked for.
func TestUDPByName(t *testing.T) {
	const script = `import socket, sys
name, port, text = sys.argv[1], int(sys.argv[2]), sys.argv[3].encode()
f, _, _, _, at = socket.getaddrinfo(name, port, type=socket.SOCK_DGRAM)[0]
s = socket.socket(f, socket.SOCK_DGRAM)
s.settimeout(5)
s.sendto(text, at)
got, source = s.recvfrom(100)
assert got == text and source[:2] == at[:2], (got, source)`
	for name, a := range map[string]netip.Addr{"four.test": lab.Allowed4, "six.test": lab.Allowed6} {
		at := udpSink(t, a)
		_, port := hostPort(at)
		asUsers(t, func(t *testing.T, u lab.User) {
			n, m := lab.Nonce(), lab.Now()
			r := lab.Net(t, u, flags("--allow", "udp://"+name+":"+port), python, "-c", script, name, port, n)
			if r.Code != 0 {
				t.Fatalf("code %d: %s%s", r.Code, r.Stdout, r.Stderr)
			}
			m.Arrived(t, n)
			// The address without the name is as good as any other.
			n = lab.Nonce()
			cmd := udpCommand(t, []string{"udp-sendto"}, at, n)
			lab.Bare(t, u, n, cmd...)
			lab.Denied(t, lab.Denial{User: u, Flags: flags("--allow", "udp://"+name+":"+port), Command: cmd, Answer: "ECONNREFUSED", Log: a.String()})
		})
	}
}

// A socket that has an allowed peer gets no other by that.
func TestUDPLeavesPeer(t *testing.T) {
	good, bad := udpSink(t, lab.Allowed4), udpSink(t, lab.Evil4)
	gip, gport := hostPort(good)
	bip, bport := hostPort(bad)
	for _, way := range []string{"sendto", "unspec", "v6", "connect"} {
		t.Run(way, func(t *testing.T) {
			asUsers(t, func(t *testing.T, u lab.User) {
				n := lab.Nonce()
				cmd := []string{lab.Probe(t), "udp-leave", way, gip, gport, bip, bport, n}
				lab.Bare(t, u, n, cmd...)
				lab.Denied(t, lab.Denial{User: u, Flags: flags("--allow", "udp://"+good.String()), Command: cmd, Answer: "ECONNREFUSED", Log: bip})
			})
		})
	}
}

// A batch ends before the first message that is refused.
func TestUDPPartialBatch(t *testing.T) {
	good, bad := udpSink(t, lab.Allowed4), udpSink(t, lab.Evil4)
	gip, gport := hostPort(good)
	bip, bport := hostPort(bad)
	asUsers(t, func(t *testing.T, u lab.User) {
		n := lab.Nonce()
		cmd := []string{lab.Probe(t), "udp-partial", gip, gport, bip, bport, n}
		if r := lab.Bare(t, u, n, cmd...); !strings.Contains(r.Stdout, "ok 3") {
			t.Fatalf("control: %s", r.Stdout)
		}
		n = lab.Nonce()
		cmd[len(cmd)-1] = n
		m := lab.Now()
		r := lab.Net(t, u, flags("--allow", "udp://"+good.String()), cmd...)
		if !strings.Contains(r.Stdout, "ok 1 lengths 27 0 0") || !strings.Contains(r.Stdout, "fail ECONNREFUSED sendmmsg") {
			t.Errorf("%s", r.Stdout)
		}
		m.Arrived(t, n)
		if reached(m.Since(t), bad) {
			t.Error("the denied sink was reached")
		}
	})
}

func TestUDPAddressLengths(t *testing.T) {
	at := udpSink(t, lab.Allowed4)
	for _, f := range [][]string{flags("--allow", "udp://"+at.String()), unrelated} {
		r := lab.Net(t, lab.Ordinary, f, udpCommand(t, []string{"udp-lengths"}, at, "x")...)
		if r.Code != 0 {
			t.Errorf("%v: %s", f, r.Stdout)
		}
	}
}

// Control messages that change how a datagram looks pass; those that lead it
// elsewhere do not.
func TestUDPControlMessages(t *testing.T) {
	for _, c := range []struct {
		name string
		a    netip.Addr
		way  []string
		open bool
	}{
		{"IP_TOS", lab.Allowed4, []string{"udp-control", "0", "1", "4", "16"}, true},
		{"IP_TTL", lab.Allowed4, []string{"udp-control", "0", "2", "4", "5"}, true},
		{"IPV6_TCLASS", lab.Allowed6, []string{"udp-control", "41", "67", "4", "16"}, true},
		{"IPV6_HOPLIMIT", lab.Allowed6, []string{"udp-control", "41", "52", "4", "5"}, true},
		{"UDP_SEGMENT", lab.Allowed4, []string{"udp-control", "17", "103", "2", "1000"}, true},
		{"source", lab.Allowed4, []string{"udp-pktinfo", lab.Private4.String(), "0"}, true},
		{"source and interface", lab.Allowed4, []string{"udp-pktinfo", lab.Private4.String(), "1"}, true},
		{"source, IPv6", lab.Allowed6, []string{"udp-pktinfo", lab.Private6.String(), "0"}, true},
		{"a source that is not ours", lab.Allowed4, []string{"udp-pktinfo", "192.0.2.1", "0"}, false},
		{"IP_RETOPTS", lab.Allowed4, []string{"udp-control", "0", "7", "4", "0"}, false},
		{"IPV6_RTHDR", lab.Allowed6, []string{"udp-rthdr"}, false},
		{"IPV6_HOPOPTS", lab.Allowed6, []string{"udp-control", "41", "54", "8", "0"}, false},
		{"SO_MARK", lab.Allowed4, []string{"udp-control", "1", "36", "4", "1"}, false},
		{"descriptors", lab.Allowed4, []string{"udp-control", "1", "1", "4", "0"}, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			at := udpSink(t, c.a)
			asUsers(t, func(t *testing.T, u lab.User) {
				n, m := lab.Nonce(), lab.Now()
				r := lab.Net(t, u, flags("--allow", "udp://"+at.String()), udpCommand(t, c.way, at, n)...)
				if c.open {
					if r.Code != 0 {
						t.Fatalf("code %d: %s%s", r.Code, r.Stdout, r.Stderr)
					}
					m.Arrived(t, n)
					return
				}
				if r.Code == 0 {
					t.Errorf("it was sent: %s", r.Stdout)
				}
				for _, a := range m.Since(t) {
					t.Errorf("%s reached %s", a.Kind, a.Sink)
				}
			})
		})
	}
}

// Flags that would leave the supervisor with memory of others, or connect.
func TestUDPFlags(t *testing.T) {
	at := udpSink(t, lab.Allowed4)
	r := lab.Net(t, lab.Ordinary, flags("--allow", "udp://"+at.String()), udpCommand(t, []string{"udp-zerocopy"}, at, "x")...)
	if !strings.Contains(r.Stdout, "fail EOPNOTSUPP") {
		t.Errorf("%s%s", r.Stdout, r.Stderr)
	}
}

// A program that connects only to learn its own address learns it, whatever the
// rules say, and nothing is reported.
func TestUDPOwnAddress(t *testing.T) {
	for _, a := range []netip.Addr{lab.Evil4, lab.Evil6} {
		asUsers(t, func(t *testing.T, u lab.User) {
			cmd := []string{lab.Probe(t), "udp-own", a.String(), "9"}
			bare := lab.Run(t, u, cmd...)
			r := lab.Net(t, u, unrelated, cmd...)
			if bare.Code != 0 || r.Code != 0 || r.Stdout != bare.Stdout || r.Denied("") {
				t.Errorf("bare %q, sandboxed %q %s", bare.Stdout, r.Stdout, r.Stderr)
			}
		})
	}
}

// Servers of the sandbox are reached from inside without a rule, those of the
// host are not.
func TestUDPInside(t *testing.T) {
	asUsers(t, func(t *testing.T, u lab.User) {
		for _, at := range []string{"127.0.0.1", "0.0.0.0", "::", "::1"} {
			to := at
			switch at {
			case "0.0.0.0":
				to = "127.0.0.1"
			case "::":
				to = "::1"
			}
			n := lab.Nonce()
			p := lab.Probe(t)
			script := p + " udp-receiver " + at + " 18053 " + n + " > out & until grep -q ready out; do :; done; " + p + " udp-sendto " + to + " 18053 " + n + " && wait && grep -q received out"
			r := lab.Net(t, u, unrelated, "bash", "-c", script)
			if r.Code != 0 || r.Denied("") {
				t.Errorf("%s: code %d: %s%s", at, r.Code, r.Stdout, r.Stderr)
			}
		}
	})
}

// A socket that is connected to a server of the sandbox sends to that port without
// being asked about: nobody else gets the port while the run lasts.
func TestUDPReservesServers(t *testing.T) {
	const script = `import socket, sys
def say(text): print(text, flush=True); return sys.stdin.readline()
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.bind(("127.0.0.1", 0)); s.settimeout(10)
at = s.getsockname()
c = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); c.settimeout(10)
c.connect(at); c.send(b"one")
data, source = s.recvfrom(10)
assert data == b"one" and source == c.getsockname(), (data, source)
s.sendto(b"two", source)
assert c.recv(10) == b"two"
s.connect(source)
s.send(b"three")
assert c.recv(10) == b"three"
s.close()
say("port %d" % at[1])
try: c.send(sys.argv[1].encode()); c.send(sys.argv[1].encode())
except ConnectionRefusedError: pass
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.bind(at); s.settimeout(10)
try: c.send(b"four")
except ConnectionRefusedError: c.send(b"four")
assert s.recv(10) == b"four"
try: socket.socket(socket.AF_INET, socket.SOCK_DGRAM).bind(at); raise SystemExit("bound twice")
except OSError: pass
print("done", flush=True)`
	asUsers(t, func(t *testing.T, u lab.User) {
		n := lab.Nonce()
		c := lab.Command(t.Context(), t, u, lab.NetArgs(append([]string{"--quiet"}, unrelated...), python, "-c", script, n)...)
		in, err := c.StdinPipe()
		if err != nil {
			t.Fatal(err)
		}
		out, err := c.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		c.Stderr = os.Stderr
		if err := c.Start(); err != nil {
			t.Fatal(err)
		}
		lines := bufio.NewScanner(out)
		lines.Scan()
		_, port, _ := strings.Cut(lines.Text(), "port ")
		for _, at := range []string{"127.0.0.1:" + port, "0.0.0.0:" + port} {
			if taken, err := net.ListenPacket("udp4", at); err == nil {
				taken.Close()
				t.Errorf("another program gets %s", at)
			}
		}
		in.Write([]byte("go on\n"))
		lines.Scan()
		if err := c.Wait(); err != nil || lines.Text() != "done" {
			t.Errorf("%v: %q", err, lines.Text())
		}
	})
}

// --audit lets datagrams through and reports them.
func TestUDPAudit(t *testing.T) {
	at := udpSink(t, lab.Evil4)
	for _, way := range [][]string{{"udp-sendto"}, {"udp-connect"}, {"udp-sendmmsg"}} {
		n, m := lab.Nonce(), lab.Now()
		r := lab.Net(t, lab.Ordinary, flags("--audit"), udpCommand(t, way, at, n)...)
		if r.Code != 0 || !strings.Contains(r.Stderr, "udp://"+at.String()) {
			t.Errorf("code %d: %s%s", r.Code, r.Stdout, r.Stderr)
		}
		m.Arrived(t, n)
	}
}

// Joining a multicast group makes the host tell the network its address, on TCP
// sockets too.
func TestNoMulticastJoins(t *testing.T) {
	const script = `import socket, struct, sys
def join(family, kind, level, option, value):
    try: socket.socket(family, kind).setsockopt(level, option, value); print("joined")
    except OSError as e: print(e.errno)
four = struct.pack("I4x", 1) + struct.pack("HH4s", 2, 0, socket.inet_aton("224.0.0.251")) + bytes(120)
six = struct.pack("I4x", 1) + struct.pack("HHI16sI", 10, 0, 0, socket.inet_pton(10, "ff02::fb"), 0) + bytes(100)
join(socket.AF_INET, socket.SOCK_STREAM, 0, 42, four)
join(socket.AF_INET6, socket.SOCK_STREAM, 41, 42, six)
join(socket.AF_INET, socket.SOCK_DGRAM, 0, 42, four)
join(socket.AF_INET6, socket.SOCK_DGRAM, 41, 42, six)
`
	asUsers(t, func(t *testing.T, u lab.User) {
		if r := lab.Run(t, u, python, "-c", script); r.Stdout != strings.Repeat("joined\n", 4) {
			t.Fatalf("control: %s%s", r.Stdout, r.Stderr)
		}
		for _, f := range [][]string{nil, flags("--allow", "udp://*")} {
			if r := lab.Net(t, u, f, python, "-c", script); r.Stdout != strings.Repeat("1\n", 4) {
				t.Errorf("%v: %s%s", f, r.Stdout, r.Stderr)
			}
		}
	})
}

// Groups and broadcast addresses are addresses like any other.
func TestUDPToMany(t *testing.T) {
	const script = `import socket, sys
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
s.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, socket.inet_aton("127.0.0.1"))
try: print(s.sendto(b"x", (sys.argv[1], 5353)))
except OSError as e: print(e.errno)
`
	for _, a := range []string{"224.0.0.251", "239.1.2.3", "255.255.255.255", "192.168.9.255"} {
		asUsers(t, func(t *testing.T, u lab.User) {
			cmd := []string{python, "-c", script, a}
			m := lab.Now()
			r := lab.Net(t, u, unrelated, cmd...)
			if r.Stdout != "111\n" || !r.Denied("udp://"+a) || len(m.Since(t)) > 0 {
				t.Errorf("%s: %s%s", a, r.Stdout, r.Stderr)
			}
			if r := lab.Net(t, u, flags("--allow", "udp://"+a+":5353"), cmd...); r.Denied("") || r.Stdout == "111\n" {
				t.Errorf("%s by rule: %s%s", a, r.Stdout, r.Stderr)
			}
		})
	}
}
