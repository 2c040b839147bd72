package netfilter

import (
	"net/netip"
	"sync"
	"time"

	"github.com/sandlock/sandlock/dispatch"
	"github.com/sandlock/sandlock/internal/event"
	"github.com/sandlock/sandlock/internal/sys"
	"github.com/sandlock/sandlock/netfilter/endpoint"
	"golang.org/x/sys/unix"
)

const (
	maxDecoys  = 256             // sockets that are watched at once; one more is reported at once
	decoyWatch = 1 * time.Second // how long after connect(2) an attempt to send is reported
)

// closedPorts are UDP ports on loopback where nobody answers, and which nobody
// else can take: sockets of ours that are connected to themselves. The kernel
// refuses what others send there.
type closedPorts struct {
	mu     sync.Mutex
	v4, v6 netip.AddrPort
	fds    []int
}

// port returns the closed port of the address's family.
func (p *closedPorts) port(v4 bool) (netip.AddrPort, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	at, lo := &p.v6, netip.IPv6Loopback()
	if v4 {
		at, lo = &p.v4, netip.AddrFrom4([4]byte{127, 0, 0, 1})
	}
	if at.IsValid() {
		return *at, nil
	}
	family := unix.AF_INET6
	if v4 {
		family = unix.AF_INET
	}
	fd, err := unix.Socket(family, unix.SOCK_DGRAM|cloexecFlags, 0)
	if err != nil {
		return *at, err
	}
	err = sys.Bind(fd, sys.EncodeInet(netip.AddrPortFrom(lo, 0), !v4))
	var own netip.AddrPort
	if err == nil {
		own, err = sys.LocalAddr(fd)
	}
	if err == nil {
		err = sys.Connect(fd, sys.EncodeInet(own, !v4))
	}
	if err != nil {
		unix.Close(fd)
		return *at, err
	}
	p.fds = append(p.fds, fd)
	*at = own
	return own, nil
}

func (p *closedPorts) close() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, fd := range p.fds {
		unix.Close(fd)
	}
	p.fds, p.v4, p.v6 = nil, netip.AddrPort{}, netip.AddrPort{}
}

// connectDecoy owns fd. It lets connect(2) of a UDP socket to a denied endpoint
// succeed, as it does everywhere: programs, and the C library when it sorts
// addresses, connect only to learn their own address. But the peer is a closed
// port, so whatever is sent is refused by the kernel. Only an attempt to send is
// reported.
func (f *Filter) connectDecoy(c *dispatch.Call, fd int, cookie uint64, to netip.AddrPort, v endpoint.Verdict) dispatch.Action {
	v4, v6 := to.Addr().Unmap().Is4(), to.Addr().Is6()
	source, err := sourceFor(to)
	var closed netip.AddrPort
	if err == nil {
		closed, err = f.closed.port(v4)
	}
	if err == nil {
		var local netip.AddrPort
		if local, err = sys.LocalAddr(fd); err == nil && local.Port() == 0 {
			err = sys.Bind(fd, sys.EncodeInet(netip.AddrPortFrom(source, 0), domainV6(fd)))
		}
	}
	if err == nil {
		err = sys.Connect(fd, sys.EncodeInet(closed, v6))
	}
	if err != nil {
		unix.Close(fd)
		return dispatch.Fail(err)
	}
	f.asked.put(cookie, to)
	at := canonical(to)
	ev := f.eventOf(c, endpoint.Endpoint{Protocol: endpoint.UDP, Addr: at.Addr(), Port: at.Port()}, v)
	select {
	case f.decoys <- struct{}{}:
	default:
		unix.Close(fd)
		f.Emit(ev)
		return dispatch.Return(0)
	}
	// The process may have ended when it turns out that it sent something.
	ev.Comm, ev.Exe = event.Process(ev.PID)
	quiet := keepErrors(fd, !v4)
	f.wg.Add(1)
	go func() {
		defer f.wg.Done()
		defer func() { <-f.decoys }()
		defer unix.Close(fd)
		// Nothing ends the wait early but the error that a refused send leaves, or
		// the end of the run, which may come right after one.
		f.ready.wait(f.ctx, fd, 0, decoyWatch)
		sent := failed(fd)
		quiet()
		if now, _ := f.asked.get(cookie); sent && now == to {
			f.Emit(ev)
		}
	}()
	return dispatch.Return(0)
}

// failed tells whether an error waits on a socket, without taking it away.
func failed(fd int) bool {
	p := []unix.PollFd{{Fd: int32(fd)}}
	n, err := unix.Poll(p, 0)
	return err == nil && n > 0 && p[0].Revents&unix.POLLERR != 0
}

// keepErrors makes the kernel keep errors of a socket in a queue as well, where
// they stay when the program has taken note of them (IP_RECVERR in ip(7)). The
// function that it returns undoes this.
func keepErrors(fd int, v6 bool) (undo func()) {
	level, option := unix.SOL_IP, unix.IP_RECVERR
	if v6 {
		level, option = unix.SOL_IPV6, unix.IPV6_RECVERR
	}
	if on, err := unix.GetsockoptInt(fd, level, option); err != nil || on != 0 {
		return func() {} // the program's own wish
	}
	unix.SetsockoptInt(fd, level, option, 1)
	return func() { unix.SetsockoptInt(fd, level, option, 0) }
}

// sourceFor returns the address that the host would send from to a, or why it
// cannot send there.
func sourceFor(a netip.AddrPort) (netip.Addr, error) {
	v6 := !a.Addr().Unmap().Is4()
	family := unix.AF_INET
	if v6 {
		family = unix.AF_INET6
	}
	fd, err := unix.Socket(family, unix.SOCK_DGRAM|cloexecFlags, 0)
	if err != nil {
		return netip.Addr{}, err
	}
	defer unix.Close(fd)
	if err := sys.Connect(fd, sys.EncodeInet(a, v6)); err != nil {
		return netip.Addr{}, err
	}
	local, err := sys.LocalAddr(fd)
	return local.Addr(), err
}
