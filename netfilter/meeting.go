package netfilter

import (
	"fmt"
	"net/netip"
	"sync"

	"github.com/sandlock/sandlock/internal/sys"
	"golang.org/x/sys/unix"
)

const (
	meetBacklog   = 128
	acceptWait    = 1000 // milliseconds until a loopback connection must have come
	maxStrangers  = 256  // connections of others that one accept turns away
	soReusePortOn = 1
	fillWait      = 1000 // milliseconds until a handshake on loopback must be over
)

// meeting is where redirected sockets of the sandbox meet sockets of ours. Each
// family has two listeners on loopback: one accepts what the supervisor itself
// connected, the other has a full backlog, so that the kernel drops every SYN to
// it and a non-blocking connect stays pending until our socket connects from its
// port to the caller's (a simultaneous open, RFC 9293 section 3.5). A socket
// filter that drops would do the same, but newer kernels refuse one on a TCP
// socket to ordinary users.
type meeting struct {
	mu sync.Mutex
	v4 pair
	v6 pair
}

type pair struct {
	acceptFD, holdFD, fillFD int // fillFD occupies holdFD's backlog
	accept, hold             netip.AddrPort
}

func newMeeting() (*meeting, error) {
	m := &meeting{v4: pair{acceptFD: -1, holdFD: -1, fillFD: -1}, v6: pair{acceptFD: -1, holdFD: -1, fillFD: -1}}
	if err := m.v4.open(netip.AddrFrom4([4]byte{127, 0, 0, 1})); err != nil {
		m.close()
		return nil, err
	}
	if err := m.v6.open(netip.IPv6Loopback()); err != nil {
		// A host without IPv6 has no loopback address there and needs none.
		m.v6.close()
	}
	return m, nil
}

func (p *pair) open(lo netip.Addr) (err error) {
	if p.acceptFD, p.accept, err = listenOn(lo, false); err != nil {
		return err
	}
	if p.holdFD, p.hold, err = listenOn(lo, true); err != nil {
		return err
	}
	p.fillFD, err = fill(p.hold)
	return err
}

// fill connects to a listener whose backlog is 0, which so becomes full
// (listen(2)), and returns the descriptor that keeps it so.
func fill(at netip.AddrPort) (int, error) {
	fd, err := stream(at.Addr())
	if err != nil {
		return -1, err
	}
	if err = sys.Connect(fd, sys.EncodeInet(at, at.Addr().Is6())); err == unix.EINPROGRESS {
		poll := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLOUT}}
		// Without an answer somebody else has filled it, which is as good.
		for _, err = unix.Poll(poll, fillWait); err == unix.EINTR; _, err = unix.Poll(poll, fillWait) {
		}
	}
	if err != nil {
		unix.Close(fd)
		return -1, fmt.Errorf("fill the backlog of %s: %w", at, err)
	}
	return fd, nil
}

func (p *pair) close() {
	for _, fd := range []*int{&p.acceptFD, &p.holdFD, &p.fillFD} {
		if *fd >= 0 {
			unix.Close(*fd)
		}
		*fd = -1
	}
}

func listenOn(lo netip.Addr, hold bool) (int, netip.AddrPort, error) {
	none := netip.AddrPort{}
	fd, err := stream(lo)
	if err != nil {
		return -1, none, err
	}
	backlog := meetBacklog
	if hold {
		backlog = 0
		err = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEPORT, soReusePortOn)
	}
	if err == nil {
		err = sys.Bind(fd, sys.EncodeInet(netip.AddrPortFrom(lo, 0), lo.Is6()))
	}
	if err == nil {
		err = unix.Listen(fd, backlog)
	}
	var at netip.AddrPort
	if err == nil {
		at, err = sys.LocalAddr(fd)
	}
	if err != nil {
		unix.Close(fd)
		return -1, none, fmt.Errorf("listen on %s: %w", lo, err)
	}
	return fd, at, nil
}

func stream(a netip.Addr) (int, error) {
	family := unix.AF_INET
	if a.Is6() {
		family = unix.AF_INET6
	}
	return unix.Socket(family, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, unix.IPPROTO_TCP)
}

func (m *meeting) close() {
	m.v4.close()
	m.v6.close()
}

// side picks the listeners that a socket can reach that wants to go to a.
func (m *meeting) side(v6 bool, a netip.AddrPort) *pair {
	if v6 && !a.Addr().Is4In6() && m.v6.acceptFD >= 0 {
		return &m.v6
	}
	return &m.v4
}

// hold is the address whose connects stay pending.
func (m *meeting) hold(v6 bool, a netip.AddrPort) []byte {
	return sys.EncodeInet(m.side(v6, a).hold, v6)
}

// meet completes the pending connect of fd and returns our end, owned by the
// caller.
func (m *meeting) meet(fd int, v6 bool, a netip.AddrPort) (int, error) {
	p := m.side(v6, a)
	local, err := sys.LocalAddr(fd)
	if err != nil {
		return -1, err
	}
	to := netip.AddrPortFrom(local.Addr().Unmap(), local.Port())
	s, err := stream(p.hold.Addr())
	if err != nil {
		return -1, err
	}
	unix.SetsockoptInt(s, unix.SOL_SOCKET, unix.SO_REUSEPORT, soReusePortOn)
	unix.SetsockoptInt(s, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1)
	if err = sys.Bind(s, sys.EncodeInet(p.hold, p.hold.Addr().Is6())); err == nil {
		err = sys.Connect(s, sys.EncodeInet(to, p.hold.Addr().Is6()))
	}
	if err == nil || err == unix.EINPROGRESS {
		return s, nil
	}
	unix.Close(s)
	return -1, err
}

// accept connects fd to our listener and returns our end, owned by the caller.
// It may block for a moment. What is not this very pair of addresses was not
// connected by us and is closed: fd stays open until the pair was found, so
// nobody else can hold it.
func (m *meeting) accept(fd int, v6 bool, a netip.AddrPort) (int, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	p := m.side(v6, a)
	if err := sys.Connect(fd, sys.EncodeInet(p.accept, v6)); err != nil && err != unix.EINPROGRESS {
		return -1, err
	}
	local, err := sys.LocalAddr(fd)
	if err != nil {
		return -1, err
	}
	want := netip.AddrPortFrom(local.Addr().Unmap(), local.Port())
	for range maxStrangers {
		poll := []unix.PollFd{{Fd: int32(p.acceptFD), Events: unix.POLLIN}}
		if n, err := unix.Poll(poll, acceptWait); n == 0 && err == nil {
			return -1, unix.ETIMEDOUT
		}
		s, from, err := unix.Accept4(p.acceptFD, unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC)
		if err == unix.EAGAIN || err == unix.EINTR || err == unix.ECONNABORTED {
			continue
		}
		if err != nil {
			return -1, err
		}
		if peer(from) == want {
			unix.SetsockoptInt(s, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1)
			return s, nil
		}
		unix.Close(s)
	}
	return -1, unix.ECONNREFUSED
}

func peer(sa unix.Sockaddr) netip.AddrPort {
	switch sa := sa.(type) {
	case *unix.SockaddrInet4:
		return netip.AddrPortFrom(netip.AddrFrom4(sa.Addr), uint16(sa.Port))
	case *unix.SockaddrInet6:
		return netip.AddrPortFrom(netip.AddrFrom16(sa.Addr).Unmap(), uint16(sa.Port))
	}
	return netip.AddrPort{}
}
