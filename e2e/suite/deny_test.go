package suite

import (
	"fmt"
	"net/netip"
	"strconv"
	"strings"
	"testing"

	"github.com/sandlock/sandlock/internal/lab"
	"golang.org/x/sys/unix"
)

// Every way to send bytes over TCP to an address without a rule.
func TestTCPDenied(t *testing.T) {
	p := lab.Probe(t)
	for _, c := range []struct{ probe, answer string }{
		{"tcp", "ECONNREFUSED"}, {"nonblock", "ECONNREFUSED"}, {"highbits", "ECONNREFUSED"}, {"mptcp", "EPROTONOSUPPORT"},
		{"fastopen-sendto", ""}, {"fastopen-sendmsg", ""}, {"fastopen-sendmmsg", ""}, {"fastopen-connect", ""}, {"x32", "ENOSYS"}, {"i386", ""},
	} {
		for _, a := range []netip.Addr{lab.Evil4, lab.Evil6, lab.Metadata, lab.Private4, netip.MustParseAddr("127.0.0.1")} {
			t.Run(c.probe+"/"+a.String(), func(t *testing.T) {
				at := sink(t, a)
				ip, port := hostPort(at)
				asUsers(t, func(t *testing.T, u lab.User) {
					n := lab.Nonce()
					cmd := []string{p, c.probe, ip, port, n}
					if c.probe != "x32" { // few kernels have x32
						lab.Bare(t, u, n, cmd...)
					}
					d := lab.Denial{User: u, Flags: []string{"--allow", lab.Allowed4.String() + ":443"}, Command: cmd, Nonce: n, Answer: c.answer}
					if c.answer == "ECONNREFUSED" {
						d.Log = ip
					}
					lab.Denied(t, d)
				})
			})
		}
	}
}

// The allowed twins: the same probe arrives when a rule names the address.
func TestTCPAllowed(t *testing.T) {
	p := lab.Probe(t)
	for _, name := range []string{"tcp", "nonblock", "highbits"} {
		for _, a := range []netip.Addr{lab.Allowed4, lab.Allowed6, lab.Private4, netip.MustParseAddr("127.0.0.1")} {
			t.Run(name+"/"+a.String(), func(t *testing.T) {
				at := sink(t, a)
				ip, port := hostPort(at)
				asUsers(t, func(t *testing.T, u lab.User) {
					n, m := lab.Nonce(), lab.Now()
					r := lab.Net(t, u, []string{"--allow", at.String()}, p, name, ip, port, n)
					if r.Code != 0 {
						t.Fatalf("code %d: %s%s", r.Code, r.Stdout, r.Stderr)
					}
					m.Arrived(t, n)
				})
			})
		}
	}
}

func TestUDPDenied(t *testing.T) {
	p := lab.Probe(t)
	for _, probe := range []string{"udp-sendto", "udp-connect", "udp-sendmsg", "udp-sendmmsg", "udp-write", "udp-c-sendto", "udp-c-sendmsg", "udp-c-sendmmsg",
		"udp-other-peer", "udp-unspec"} {
		for _, a := range []netip.Addr{lab.Evil4, lab.Evil6, netip.MustParseAddr("127.0.0.1")} {
			t.Run(probe+"/"+a.String(), func(t *testing.T) {
				ip, port := hostPort(lab.UDP(t, netip.AddrPortFrom(a, 0)))
				asUsers(t, func(t *testing.T, u lab.User) {
					n, answer := lab.Nonce(), "ECONNREFUSED"
					cmd := []string{p, probe, ip, port, n}
					switch probe {
					case "udp-sendto", "udp-sendmsg", "udp-sendmmsg":
						answer = "" // an unconnected socket hears of no refusal, udp(7)
					case "udp-other-peer", "udp-unspec":
						answer = ""
						cmd = []string{p, probe, ip, "9", ip, port, n}
					}
					lab.Bare(t, u, n, cmd...)
					lab.Denied(t, lab.Denial{User: u, Flags: []string{"--allow", "allowed.test:443"}, Command: cmd, Nonce: n, Answer: answer, Log: "udp://"})
				})
			})
		}
	}
}

func TestUnixDenied(t *testing.T) {
	p := lab.Probe(t)
	for _, c := range []struct{ probe, network string }{
		{"unix-stream", "unix"}, {"unix-seqpacket", "unixpacket"}, {"unix-dgram", "unixgram"}, {"unix-pair", "unixgram"},
	} {
		for _, kind := range []string{"path", "abstract", "symlink", "root"} {
			t.Run(c.probe+"/"+kind, func(t *testing.T) {
				place := openUnix(t, c.network, kind)
				asUsers(t, func(t *testing.T, u lab.User) {
					n := lab.Nonce()
					cmd := []string{p, c.probe, place, n}
					lab.Bare(t, u, n, cmd...)
					lab.Denied(t, lab.Denial{User: u, Flags: []string{"--allow", "allowed.test:443"}, Command: cmd, Nonce: n, Lost: c.probe == "unix-pair"})
				})
			})
		}
	}
}

// A multicast or broadcast datagram, a source of the program's choice, a port
// that DNS, DNS over TLS, mDNS or LLMNR uses: no rule, no byte.
func TestUDPPlaces(t *testing.T) {
	p := lab.Probe(t)
	for _, c := range []struct{ name, probe, ip, port string }{
		{"53", "udp-sendto", lab.Evil4.String(), "53"}, {"853", "udp-sendto", lab.Evil4.String(), "853"}, {"443", "udp-sendto", lab.Evil6.String(), "443"},
		{"mDNS", "udp-sendto", "224.0.0.251", "5353"}, {"LLMNR", "udp-sendto", "224.0.0.252", "5355"},
		{"mDNS of one host", "udp-connect", lab.Evil4.String(), "5353"}, {"LLMNR of one host", "udp-sendmsg", lab.Evil6.String(), "5355"},
		{"source", "udp-from", lab.Evil4.String(), "9999"}, {"metadata", "udp-connect", lab.Metadata.String(), "80"}, {"0.0.0.0", "udp-connect", "0.0.0.0", "9998"},
		{"mapped", "udp-sendto", "::ffff:" + lab.Evil4.String(), "9997"},
	} {
		t.Run(c.name, func(t *testing.T) {
			port, _ := strconv.Atoi(c.port)
			at := netip.MustParseAddr(c.ip)
			if at.IsMulticast() {
				lab.Multicast(t, netip.AddrPortFrom(at, uint16(port)))
			} else {
				lab.UDP(t, netip.AddrPortFrom(at.Unmap(), uint16(port)))
			}
			asUsers(t, func(t *testing.T, u lab.User) {
				n := lab.Nonce()
				cmd := []string{p, c.probe, c.ip, c.port, n}
				lab.Bare(t, u, n, cmd...)
				lab.Denied(t, lab.Denial{User: u, Flags: []string{"--allow", "allowed.test:443"}, Command: cmd, Nonce: n, Lost: c.port == "53"})
			})
		})
	}
}

// Sockets of other kinds cannot be made at all.
func TestSocketKinds(t *testing.T) {
	p := lab.Probe(t)
	for _, c := range []struct{ name, family, kind, protocol string }{
		{"raw", "2", "3", "255"}, {"raw6", "10", "3", "58"}, {"packet", "17", "3", "768"}, {"vsock", "40", "1", "0"}, {"alg", "38", "5", "0"},
		{"diag", "16", "3", "4"}, {"uevent", "16", "3", "15"}, {"generic", "16", "3", "16"},
		{"sctp", "2", "1", "132"}, {"udplite", "2", "2", "136"}, {"dccp", "2", "6", "33"}, {"smc", "43", "1", "0"}, {"xdp", "44", "3", "0"}, {"tipc", "30", "1", "0"}, {"can", "29", "3", "1"},
		{"bluetooth", "31", "1", "0"}, {"rds", "21", "5", "0"}, {"unix-raw", "1", "3", "0"},
	} {
		t.Run(c.name, func(t *testing.T) {
			asUsers(t, func(t *testing.T, u lab.User) {
				lab.Denied(t, lab.Denial{User: u, Flags: []string{"--allow", "*"}, Command: []string{p, "socket", c.family, c.kind, c.protocol}})
			})
		})
	}
	if r := lab.Net(t, lab.Ordinary, nil, p, "socket", "2", "1", "6"); r.Code != 0 {
		t.Errorf("control: a TCP socket cannot be made: %s", r.Stdout)
	}
}

// approved is what socket(2) answers for a family and type: 0 for those that a
// program may have.
func approved(family, kind int) unix.Errno {
	switch {
	case family == unix.AF_UNIX && (kind == unix.SOCK_STREAM || kind == unix.SOCK_SEQPACKET):
		return 0
	case family == unix.AF_UNIX:
		return unix.EPERM
	case family == unix.AF_NETLINK && (kind == unix.SOCK_RAW || kind == unix.SOCK_DGRAM):
		return 0 // NETLINK_ROUTE, of an empty namespace
	case family == unix.AF_NETLINK:
		return unix.ESOCKTNOSUPPORT
	case family != unix.AF_INET && family != unix.AF_INET6:
		return unix.EAFNOSUPPORT
	case kind == unix.SOCK_STREAM || kind == unix.SOCK_DGRAM:
		return 0
	}
	return unix.EPERM
}

func TestSocketFamilies(t *testing.T) {
	p := lab.Probe(t)
	asUsers(t, func(t *testing.T, u lab.User) {
		bare := lab.Run(t, u, p, "families")
		r := lab.Net(t, u, []string{"--allow", "*"}, p, "families")
		made, lines := 0, strings.Split(strings.TrimSpace(r.Stdout), "\n")
		for _, line := range lines {
			var family, kind int
			var got unix.Errno
			if _, err := fmt.Sscan(line, &family, &kind, &got); err != nil {
				t.Fatalf("%q: %v", line, err)
			}
			if want := approved(family, kind); got != want {
				t.Errorf("socket(%d, %d, 0): %v, want %v", family, kind, got, want)
			}
			if got == 0 {
				made++
			}
		}
		if len(lines) != 47*7 || made != 8 || strings.Count(bare.Stdout, " 0\n") <= made {
			t.Errorf("%d lines, %d sockets; bare: %d sockets", len(lines), made, strings.Count(bare.Stdout, " 0\n"))
		}
	})
}

// deniedOptions are socket options that lead traffic elsewhere, with the size of
// their value.
var deniedOptions = []struct{ name, level, option, size string }{
	{"IPV6_RTHDR", "41", "57", "24"}, {"IPV6_2292RTHDR", "41", "5", "24"}, {"IPV6_HOPOPTS", "41", "54", "8"}, {"IPV6_DSTOPTS", "41", "59", "8"},
	{"IPV6_RTHDRDSTOPTS", "41", "55", "8"}, {"IPV6_2292HOPOPTS", "41", "3", "8"}, {"IPV6_2292DSTOPTS", "41", "4", "8"},
	{"IPV6_2292PKTOPTIONS", "41", "6", "24"}, {"IP_OPTIONS", "0", "4", "8"}, {"SO_MARK", "1", "36", "4"}, {"SO_BINDTODEVICE", "1", "25", "3"},
	{"SO_BINDTOIFINDEX", "1", "62", "4"}, {"SO_ATTACH_REUSEPORT_CBPF", "1", "51", "16"}, {"SO_ATTACH_REUSEPORT_EBPF", "1", "52", "4"},
	{"TCP_REPAIR", "6", "19", "4"}, {"TCP_ULP", "6", "31", "3"}, {"TCP_FASTOPEN_CONNECT", "6", "30", "4"},
	{"IP_TRANSPARENT", "0", "19", "4"}, {"IPV6_TRANSPARENT", "41", "75", "4"}, {"IPV6_FLOWLABEL_MGR", "41", "32", "32"},
}

func TestSocketOptions(t *testing.T) {
	p := lab.Probe(t)
	for _, c := range deniedOptions {
		t.Run(c.name, func(t *testing.T) {
			asUsers(t, func(t *testing.T, u lab.User) {
				lab.Denied(t, lab.Denial{User: u, Flags: []string{"--allow", "*"}, Command: []string{p, "option", c.level, c.option, c.size}, Answer: "EPERM"})
			})
		})
	}
}
