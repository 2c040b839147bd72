package netfilter

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"sync"

	"github.com/sandlock/sandlock/dispatch"
	"github.com/sandlock/sandlock/internal/event"
	"github.com/sandlock/sandlock/internal/launch"
	"github.com/sandlock/sandlock/internal/sys"
	"golang.org/x/sys/unix"
)

const (
	cloexecFlags = unix.SOCK_CLOEXEC | unix.SOCK_NONBLOCK
)

// containment is the empty network namespace in which datagram sockets are
// born. Every address is local there, and nothing but the resolver answers.
type containment struct {
	mu     sync.Mutex
	once   sync.Once
	helper *launch.NetHelper
	err    error
	cookie uint64 // SO_NETNS_COOKIE of the namespace
	conns  []*net.UDPConn
	stock  stock
}

// socket gives a datagram socket that is born in the empty namespace.
func (f *Filter) socket(c *dispatch.Call) dispatch.Action {
	domain, typ := c.Int(0), c.Int(1) // the filter lets only protocol 0 and UDP, the same, come here
	if fd, low := f.contain.stock.take(domain); fd >= 0 {
		if low && f.ctx.Err() == nil {
			f.wg.Go(func() { f.contain.makeStock(domain) })
		}
		return injectSocket(fd, typ)
	}
	return dispatch.Defer(func(context.Context) dispatch.Action {
		f.contain.once.Do(func() { f.contain.err = f.startContained() })
		if err := f.contain.err; err != nil {
			f.Emit(event.Event{Kind: event.Fault, PID: int32(c.PID()), Reason: "datagram sockets: " + err.Error()})
			return dispatch.Errno(unix.EACCES)
		}
		if err := f.contain.makeStock(domain); err != nil {
			return dispatch.Fail(err)
		}
		fd, _ := f.contain.stock.take(domain)
		if fd < 0 { // others were quicker
			var err error
			if fd, err = f.contain.helper.Socket(domain, unix.SOCK_DGRAM, 0); err != nil {
				return dispatch.Fail(err)
			}
		}
		return injectSocket(fd, typ)
	})
}

// injectSocket gives fd, which it owns, the flags of a socket call and hands it over.
func injectSocket(fd, typ int) dispatch.Action {
	if typ&unix.SOCK_NONBLOCK != 0 {
		if err := unix.SetNonblock(fd, true); err != nil {
			unix.Close(fd)
			return dispatch.Fail(err)
		}
	}
	return dispatch.InjectFD(fd, typ&unix.SOCK_CLOEXEC != 0)
}

// socketpair gives a pair of SEQPACKET sockets where datagram ones were asked
// for: those could send to any other datagram socket of the host.
func (f *Filter) socketpair(c *dispatch.Call) dispatch.Action {
	flags := c.Int(1) & cloexecFlags
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC|flags, c.Int(2))
	if err != nil {
		return dispatch.Fail(err)
	}
	return f.handPair(c, pair, flags&unix.SOCK_CLOEXEC != 0)
}

func (f *Filter) startContained() error {
	h, err := launch.NewNetHelper(f.Thread, true)
	if err != nil {
		return err
	}
	x := &f.contain
	x.mu.Lock()
	defer x.mu.Unlock()
	if f.ctx.Err() != nil {
		h.Close()
		return net.ErrClosed
	}
	x.helper = h
	for _, v6 := range []bool{false, true} {
		conn, cookie, err := listenDNS(h, v6)
		if err != nil {
			if v6 {
				break // a host without IPv6 asks over IPv4
			}
			return err
		}
		x.cookie = cookie
		x.conns = append(x.conns, conn)
		f.wg.Add(1)
		go func() {
			defer f.wg.Done()
			f.serveQueries(conn, true)
		}()
	}
	f.reportRefused(h)
	return nil
}

func listenDNS(h *launch.NetHelper, v6 bool) (*net.UDPConn, uint64, error) {
	domain, level, option, any := unix.AF_INET, unix.SOL_IP, unix.IP_PKTINFO, netip.IPv4Unspecified()
	if v6 {
		domain, level, option, any = unix.AF_INET6, unix.SOL_IPV6, unix.IPV6_RECVPKTINFO, netip.IPv6Unspecified()
	}
	fd, err := h.Socket(domain, unix.SOCK_DGRAM|cloexecFlags, 0)
	if err != nil {
		return nil, 0, err
	}
	if v6 {
		err = unix.SetsockoptInt(fd, unix.SOL_IPV6, unix.IPV6_V6ONLY, 1)
	}
	if err == nil {
		err = unix.SetsockoptInt(fd, level, option, 1)
	}
	if err == nil {
		err = sys.Bind(fd, sys.EncodeInet(netip.AddrPortFrom(any, dnsPort), v6))
	}
	var cookie uint64
	if err == nil {
		cookie, err = unix.GetsockoptUint64(fd, unix.SOL_SOCKET, unix.SO_NETNS_COOKIE)
	}
	if err != nil {
		unix.Close(fd)
		return nil, 0, fmt.Errorf("resolver in the empty network namespace: %w", err)
	}
	conn, err := packetConn(fd)
	if err != nil {
		return nil, 0, err
	}
	return conn.(*net.UDPConn), cookie, nil
}

// connectContained connects a datagram socket: in the empty namespace no
// destination can do harm. One from elsewhere (inherited, received) is refused.
func (f *Filter) connectContained(c *dispatch.Call, fd int, sa []byte) dispatch.Action {
	if !f.contain.holds(fd) {
		return dispatch.Errno(unix.ECONNREFUSED)
	}
	err := sys.Connect(fd, sa)
	if err == nil {
		f.remember(fd, c.TGID())
	}
	return dispatch.Result(0, err)
}

// holds tells whether a socket was born in the empty namespace.
func (x *containment) holds(fd int) bool {
	cookie, err := unix.GetsockoptUint64(fd, unix.SOL_SOCKET, unix.SO_NETNS_COOKIE)
	x.mu.Lock()
	defer x.mu.Unlock()
	return err == nil && x.helper != nil && cookie == x.cookie
}

// remember notes which process uses a local port, so that the log can name it.
func (f *Filter) remember(fd, pid int) {
	if local, err := sys.LocalAddr(fd); err == nil {
		f.ports.put(local.Port(), int32(pid))
	}
}

func (x *containment) close() {
	x.stock.close()
	x.mu.Lock()
	defer x.mu.Unlock()
	for _, c := range x.conns {
		c.Close()
	}
	if x.helper != nil {
		x.helper.Close()
	}
}
