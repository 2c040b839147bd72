package netfilter

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"sync"

	"github.com/sandlock/sandlock/internal/sys"
	"github.com/sandlock/sandlock/netfilter/resolver"
	"golang.org/x/sys/unix"
)

const (
	maxQuery   = 65535 // RFC 1035 section 4.2.2
	maxQueries = 256   // questions under way at once; one more is dropped
	maxServers = 64    // name servers that a mediated run may ask over UDP
)

var errServers = fmt.Errorf("the program has asked %d name servers; no further one is answered", maxServers)

// nameservers are UDP sockets on loopback at which the resolver answers in
// mediated mode. There is one for each server that the program asks, so that an
// answer's source tells whom it has to seem to come from.
type nameservers struct {
	mu     sync.RWMutex
	local  map[netip.AddrPort]netip.AddrPort // of the asked server, in canonical form
	asked  map[netip.AddrPort]netip.AddrPort // of our socket
	conns  []*net.UDPConn
	closed bool
}

// standIn returns our address for an asked server.
func (s *nameservers) standIn(f *Filter, asked netip.AddrPort) (netip.AddrPort, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if local, ok := s.local[asked]; ok {
		return local, nil
	}
	switch {
	case s.closed:
		return netip.AddrPort{}, net.ErrClosed
	case len(s.conns) >= maxServers:
		return netip.AddrPort{}, errServers
	}
	lo := netip.AddrFrom4([4]byte{127, 0, 0, 1})
	if asked.Addr().Is6() {
		lo = netip.IPv6Loopback()
	}
	conn, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(netip.AddrPortFrom(lo, 0)))
	if err != nil {
		return netip.AddrPort{}, err
	}
	local := conn.LocalAddr().(*net.UDPAddr).AddrPort()
	if s.local == nil {
		s.local, s.asked = map[netip.AddrPort]netip.AddrPort{}, map[netip.AddrPort]netip.AddrPort{}
	}
	s.local[asked], s.asked[local] = local, asked
	s.conns = append(s.conns, conn)
	f.wg.Add(1)
	go func() {
		defer f.wg.Done()
		f.serveQueries(conn, false)
	}()
	return local, nil
}

// meant returns the server that our address a stands for.
func (s *nameservers) meant(a netip.AddrPort) (netip.AddrPort, bool) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	asked, ok := s.asked[a]
	return asked, ok
}

func (s *nameservers) close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
	for _, c := range s.conns {
		c.Close()
	}
}

// serveQueries owns conn and answers each query from the address that it was
// sent to: musl accepts an answer from no other. Unless anyone may ask, it is
// only for sockets of the sandbox.
func (f *Filter) serveQueries(conn *net.UDPConn, anyone bool) {
	defer conn.Close()
	places := make(chan struct{}, maxQueries)
	buf, oob := make([]byte, maxQuery), make([]byte, 128)
	for {
		n, on, _, from, err := conn.ReadMsgUDPAddrPort(buf, oob)
		if errors.Is(err, net.ErrClosed) || f.ctx.Err() != nil {
			return
		}
		if err != nil {
			continue
		}
		pid, known := f.ports.get(from.Port())
		if !known && !anyone {
			continue
		}
		ctx, control := asker(f.ctx, pid), source(oob[:on])
		if answer, ok := f.Resolver.Answer(ctx, buf[:n], false); ok {
			if answer != nil {
				conn.WriteMsgUDPAddrPort(answer, control, from)
			}
			continue
		}
		query := append([]byte(nil), buf[:n]...)
		select {
		case places <- struct{}{}:
		default:
			continue
		}
		f.wg.Add(1)
		go func() {
			defer f.wg.Done()
			defer func() { <-places }()
			if answer := f.Resolver.Handle(ctx, query, false); answer != nil {
				conn.WriteMsgUDPAddrPort(answer, control, from)
			}
		}()
	}
}

// asker tells the resolver which process a query comes from, if that is known.
func asker(ctx context.Context, pid int32) context.Context {
	if pid == 0 {
		return ctx
	}
	return resolver.WithPID(ctx, pid)
}

// source turns the control message that tells where a datagram was sent to into
// the one that sends from there (ip(7), ipv6(7)).
func source(oob []byte) []byte {
	msgs, err := unix.ParseSocketControlMessage(oob)
	if err != nil {
		return nil
	}
	for _, m := range msgs {
		switch {
		case m.Header.Level == unix.SOL_IP && m.Header.Type == unix.IP_PKTINFO && len(m.Data) >= unix.SizeofInet4Pktinfo:
			info := unix.Inet4Pktinfo{Spec_dst: [4]byte(m.Data[8:12])}
			return unix.PktInfo4(&info)
		case m.Header.Level == unix.SOL_IPV6 && m.Header.Type == unix.IPV6_PKTINFO && len(m.Data) >= unix.SizeofInet6Pktinfo:
			info := unix.Inet6Pktinfo{Addr: [16]byte(m.Data[:16])}
			return unix.PktInfo6(&info)
		}
	}
	return nil
}

// packetConn turns a socket, which it owns, into a connection.
func packetConn(fd int) (net.PacketConn, error) {
	file := os.NewFile(uintptr(fd), "packets")
	defer file.Close()
	return net.FilePacketConn(file)
}

// ensureBound gives a UDP socket its port before it sends, so that the port is
// known when the datagram arrives.
func ensureBound(fd int, v6 bool) error {
	local, err := sys.LocalAddr(fd)
	if err != nil || local.Port() != 0 {
		return err
	}
	any := netip.IPv4Unspecified()
	if v6 {
		any = netip.IPv6Unspecified()
	}
	return sys.Bind(fd, sys.EncodeInet(netip.AddrPortFrom(any, 0), v6))
}
