package netfilter

import (
	"encoding/binary"
	"net/netip"

	"github.com/sandlock/sandlock/internal/event"
	"github.com/sandlock/sandlock/internal/launch"
	"github.com/sandlock/sandlock/netfilter/endpoint"
	"golang.org/x/sys/unix"
)

// Sizes and numbers of RFC 791, 792, 8200 and 4443: an error message carries the
// header of the packet that it is about, and what follows it.
const (
	icmpHeader = 8
	ipv4Header = 20 // without options
	ipv6Header = 40
	udpPorts   = 4 // source and destination, RFC 768
	icmpNoPort = 3 // type and code of port unreachable in IPv4
	icmp6Error = 1 // type of destination unreachable in IPv6
	icmp6Port  = 4 // its code for ports

	maxUnreachable = 2048 // an error is shorter than 1,280 bytes, RFC 4443 section 2.4
)

// reportRefused reports the datagrams that the empty namespace refuses: the kernel
// there answers each with an ICMP error, and a raw socket sees those. What cannot
// be seen is refused all the same.
func (f *Filter) reportRefused(h *launch.NetHelper) {
	v4, v6 := h.Errors()
	if v4 >= 0 {
		f.wg.Go(func() { f.watchRefused(v4, parseUnreachable) })
	}
	if v6 >= 0 {
		f.wg.Go(func() { f.watchRefused(v6, parseUnreachable6) })
	}
}

// watchRefused owns fd. At the end of the run it takes what is left: a program may
// end right after it was refused.
func (f *Filter) watchRefused(fd int, parse func([]byte) (uint16, netip.AddrPort, bool)) {
	defer unix.Close(fd)
	buf := make([]byte, maxUnreachable)
	for end := false; !end; {
		end = f.ready.wait(f.ctx, fd, unix.EPOLLIN, 0) != nil
		for range maxQueries {
			n, _, err := unix.Recvfrom(fd, buf, 0)
			if err != nil {
				break
			}
			if from, to, ok := parse(buf[:n]); ok {
				f.refused(from, canonical(to))
			}
		}
	}
}

// refused reports a datagram from a local port to an address.
func (f *Filter) refused(from uint16, at netip.AddrPort) {
	pid, _ := f.ports.get(from)
	v := f.Policy.Connect(endpoint.UDP, at, f.Resolver.Names(at.Addr()))
	ev := event.Event{Kind: f.denial(), PID: pid, Protocol: endpoint.UDP.String(), Addr: at.Addr(), Port: at.Port(),
		Reason: v.Reason.String(), AllowWith: v.AllowWith}
	if v.Rule != nil {
		ev.Rule = v.Rule.Text
	}
	f.Emit(ev)
}

// parseUnreachable reads an IPv4 packet with an ICMP message about a UDP datagram
// that no port took, and returns the datagram's source port and its destination.
func parseUnreachable(b []byte) (from uint16, to netip.AddrPort, ok bool) {
	_, b, ok = cutIPv4(b)
	if !ok || len(b) < icmpHeader || b[0] != icmpNoPort || b[1] != icmpNoPort {
		return 0, to, false
	}
	b, udp, ok := cutIPv4(b[icmpHeader:])
	if !ok || b[9] != unix.IPPROTO_UDP || len(udp) < udpPorts {
		return 0, to, false
	}
	return binary.BigEndian.Uint16(udp), netip.AddrPortFrom(netip.AddrFrom4([4]byte(b[16:20])), binary.BigEndian.Uint16(udp[2:])), true
}

func cutIPv4(b []byte) (header, rest []byte, ok bool) {
	if len(b) < ipv4Header {
		return nil, nil, false
	}
	n := int(b[0]&15) * 4 // the length counts words
	if n < ipv4Header || len(b) < n {
		return nil, nil, false
	}
	return b[:n], b[n:], true
}

// parseUnreachable6 is parseUnreachable for ICMPv6, whose raw sockets show no IP
// header (raw(7)).
func parseUnreachable6(b []byte) (from uint16, to netip.AddrPort, ok bool) {
	if len(b) < icmpHeader+ipv6Header+udpPorts || b[0] != icmp6Error || b[1] != icmp6Port || b[icmpHeader+6] != unix.IPPROTO_UDP {
		return 0, to, false
	}
	b = b[icmpHeader:]
	udp := b[ipv6Header:]
	return binary.BigEndian.Uint16(udp), netip.AddrPortFrom(netip.AddrFrom16([16]byte(b[24:40])), binary.BigEndian.Uint16(udp[2:])), true
}
