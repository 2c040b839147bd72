package suite

import (
	"net/netip"
	"testing"

	"github.com/sandlock/sandlock/internal/lab"
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
	for _, probe := range []string{"udp-sendto", "udp-connect", "udp-sendmsg", "udp-sendmmsg"} {
		for _, a := range []netip.Addr{lab.Evil4, lab.Evil6, netip.MustParseAddr("127.0.0.1")} {
			t.Run(probe+"/"+a.String(), func(t *testing.T) {
				ip, port := hostPort(lab.UDP(t, netip.AddrPortFrom(a, 0)))
				asUsers(t, func(t *testing.T, u lab.User) {
					n, answer := lab.Nonce(), "" // an unconnected socket hears of no refusal, udp(7)
					if probe == "udp-connect" {
						answer = "ECONNREFUSED"
					}
					cmd := []string{p, probe, ip, port, n}
					lab.Bare(t, u, n, cmd...)
					lab.Denied(t, lab.Denial{User: u, Flags: []string{"--allow", "allowed.test:443"}, Command: cmd, Nonce: n, Answer: answer})
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

// Sockets of other kinds cannot be made at all.
func TestSocketKinds(t *testing.T) {
	p := lab.Probe(t)
	for _, c := range []struct{ name, family, kind, protocol string }{
		{"raw", "2", "3", "255"}, {"raw6", "10", "3", "58"}, {"packet", "17", "3", "768"}, {"vsock", "40", "1", "0"}, {"alg", "38", "5", "0"},
		{"route", "16", "3", "0"}, {"diag", "16", "3", "4"}, {"uevent", "16", "3", "15"}, {"generic", "16", "3", "16"},
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

func TestSocketOptions(t *testing.T) {
	p := lab.Probe(t)
	for _, c := range []struct{ name, level, option, size string }{
		{"IPV6_RTHDR", "41", "57", "24"}, {"IPV6_2292RTHDR", "41", "5", "24"}, {"IPV6_HOPOPTS", "41", "54", "8"}, {"IPV6_DSTOPTS", "41", "59", "8"},
		{"IPV6_2292PKTOPTIONS", "41", "6", "24"}, {"IP_OPTIONS", "0", "4", "8"}, {"SO_MARK", "1", "36", "4"}, {"SO_BINDTODEVICE", "1", "25", "3"}, {"TCP_REPAIR", "6", "19", "4"},
		{"TCP_FASTOPEN_CONNECT", "6", "30", "4"}, {"IP_TRANSPARENT", "0", "19", "4"}, {"IPV6_TRANSPARENT", "41", "75", "4"},
	} {
		t.Run(c.name, func(t *testing.T) {
			asUsers(t, func(t *testing.T, u lab.User) {
				lab.Denied(t, lab.Denial{User: u, Flags: []string{"--allow", "*"}, Command: []string{p, "option", c.level, c.option, c.size}})
			})
		})
	}
}
