package netfilter

import (
	"net/netip"
	"sync"

	"github.com/sandlock/sandlock/dispatch"
	"github.com/sandlock/sandlock/internal/event"
	"github.com/sandlock/sandlock/internal/sockdiag"
	"github.com/sandlock/sandlock/internal/sys"
	"golang.org/x/sys/unix"
)

// maxRemapped bounds the ports that have another number outside.
const maxRemapped = 4096

// remap is which ports of the sandbox's TCP servers have another number on the
// host, because somebody else uses their own. The zero value is empty.
type remap struct {
	mu      sync.RWMutex
	places  map[uint16][]place // by the port that the sandbox sees
	virtual map[uint16]uint16  // by the port on the host
}

// place is where a port is really bound; real is the port itself where it was free.
type place struct {
	addr netip.Addr
	real uint16
}

// find returns where port was bound at addr before; else where it was bound at
// another address, so that a server of both families has one port.
func (r *remap) find(addr netip.Addr, port uint16) (real uint16, known bool) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	for _, p := range r.places[port] {
		if p.addr == addr {
			return p.real, true
		}
		real = p.real
	}
	return real, false
}

// reals are the host's ports behind a port of the sandbox, its own last.
func (r *remap) reals(port uint16) []uint16 {
	r.mu.RLock()
	defer r.mu.RUnlock()
	var out []uint16
	for _, p := range r.places[port] {
		if p.real != port {
			out = append(out, p.real)
		}
	}
	return append(out, port)
}

// put notes a bound port and tells whether there was room.
func (r *remap) put(addr netip.Addr, port, real uint16) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.places == nil {
		r.places, r.virtual = map[uint16][]place{}, map[uint16]uint16{}
	}
	if real != port && r.virtual[real] == 0 && len(r.virtual) >= maxRemapped {
		return false
	}
	list := r.places[port]
	for i := range list {
		if list[i].addr == addr {
			delete(r.virtual, list[i].real)
			list = append(list[:i:i], list[i+1:]...)
			break
		}
	}
	r.places[port] = append(list, place{addr, real})
	for _, p := range r.places[port] {
		if p.real != port {
			r.virtual[p.real] = port
		}
	}
	return true
}

// seen returns the port that the sandbox sees for one on the host.
func (r *remap) seen(real uint16) uint16 {
	r.mu.RLock()
	defer r.mu.RUnlock()
	if v, ok := r.virtual[real]; ok {
		return v
	}
	return real
}

// bindTCP binds a TCP socket of the sandbox; to is what sa says. Where somebody
// outside uses the port, and --port-remap is set, the socket gets another one.
func (f *Filter) bindTCP(fd int, sa []byte, to netip.AddrPort) error {
	if !f.PortRemap || to.Port() == 0 {
		if e := f.shared(fd, to); e != 0 {
			return e
		}
		return sys.Bind(fd, sa)
	}
	v6 := sys.Family(sa) == unix.AF_INET6
	at := func(port uint16) []byte {
		b := append([]byte(nil), sa...)
		copy(b[2:4], sys.EncodeInet(netip.AddrPortFrom(to.Addr(), port), v6)[2:4])
		return b
	}
	try := to.Port()
	real, known := f.remap.find(to.Addr(), to.Port())
	if real != 0 {
		try = real
	}
	err := error(f.shared(fd, netip.AddrPortFrom(to.Addr(), try)))
	if err == unix.Errno(0) {
		err = sys.Bind(fd, at(try))
	}
	if err == unix.EADDRINUSE && f.ownPort(try, known) {
		return err
	}
	if err == unix.EADDRINUSE {
		if err = sys.Bind(fd, at(0)); err != nil {
			return err
		}
		local, e := sys.LocalAddr(fd)
		if e != nil {
			return e
		}
		try = local.Port()
	}
	if err == nil && !f.remap.put(to.Addr(), to.Port(), try) {
		f.Emit(event.Event{Kind: event.Fault, Reason: "too many remapped ports: the sandbox cannot reach this one"})
	}
	return err
}

// shared keeps a TCP socket with SO_REUSEPORT from a port of the host's. For
// others the kernel does.
func (f *Filter) shared(fd int, at netip.AddrPort) unix.Errno {
	if share, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEPORT); err != nil || share == 0 {
		return 0
	}
	return f.foreign(fd, unix.IPPROTO_TCP, at)
}

// noteBound notes a socket that the sandbox bound.
func (f *Filter) noteBound(fd int) {
	if c, err := sys.Cookie(fd); err == nil {
		f.bound.add(c)
	}
}

// ownPort tells whether the sandbox itself holds a port that it cannot bind. A
// socket that is bound and does not listen is told apart from Linux 6.8 on.
func (f *Filter) ownPort(port uint16, known bool) bool {
	all, err := sockdiag.TCPBound(port)
	if err != nil {
		return known
	}
	for _, l := range all {
		if f.own.has(l.Cookie) || f.bound.has(l.Cookie) {
			return true
		}
	}
	return false
}

// remappedServer returns where a connection to one of the sandbox's own servers
// has to go.
func (f *Filter) remappedServer(at netip.AddrPort) (netip.AddrPort, bool) {
	if !f.PortRemap {
		return at, false
	}
	for _, real := range f.remap.reals(at.Port()) {
		if to := netip.AddrPortFrom(at.Addr(), real); f.ownListener(to) {
			return to, true
		}
	}
	return at, false
}

// servedAt is where others find a port that the sandbox serves.
func (f *Filter) servedAt(port uint16) (netip.AddrPort, bool) {
	for _, a := range []netip.Addr{netip.AddrFrom4([4]byte{127, 0, 0, 1}), netip.IPv6Loopback()} {
		if to, ok := f.remappedServer(netip.AddrPortFrom(a, port)); ok {
			return to, true
		}
	}
	return netip.AddrPort{}, false
}

// localName answers getsockname with the port that the program asked for. It is
// a help for programs, not a protection: to let others pass is safe.
func (f *Filter) localName(c *dispatch.Call) dispatch.Action {
	fd, err := c.FD(c.Int(0))
	if err != nil {
		return dispatch.Continue()
	}
	defer unix.Close(fd)
	local, err := sys.LocalAddr(fd)
	if err != nil {
		return dispatch.Continue()
	}
	seen := f.remap.seen(local.Port())
	if seen == local.Port() {
		return dispatch.Continue()
	}
	return answerBytes(c, 1, 2, sys.EncodeInet(netip.AddrPortFrom(local.Addr(), seen), domainV6(fd)))
}

// remappedPeer is the peer of a socket that is connected to, or was accepted
// from, a port of the sandbox's with another number outside.
func (f *Filter) remappedPeer(fd int) (netip.AddrPort, bool) {
	sa, err := unix.Getpeername(fd)
	if err != nil {
		return netip.AddrPort{}, false
	}
	var at netip.AddrPort
	switch sa := sa.(type) {
	case *unix.SockaddrInet4:
		at = netip.AddrPortFrom(netip.AddrFrom4(sa.Addr), uint16(sa.Port))
	case *unix.SockaddrInet6:
		at = netip.AddrPortFrom(netip.AddrFrom16(sa.Addr), uint16(sa.Port))
	default:
		return at, false
	}
	seen := f.remap.seen(at.Port())
	return netip.AddrPortFrom(at.Addr(), seen), seen != at.Port() && at.Addr().Unmap().IsLoopback()
}
