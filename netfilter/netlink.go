package netfilter

import (
	"context"
	"encoding/binary"
	"net"
	"sync"

	"github.com/sandlock/sandlock/dispatch"
	"github.com/sandlock/sandlock/internal/event"
	"github.com/sandlock/sandlock/netfilter/rtnl"
	"golang.org/x/sys/unix"
)

// netlink holds the namespace that NETLINK_ROUTE sockets and the ioctls on
// interfaces show. It is made when the first of them is used.
type netlink struct {
	mu     sync.Mutex
	space  *rtnl.Space
	err    error
	closed bool

	seen, leader int // the thread that asked last, and its process
}

// open returns the namespace and makes it if need be. It may block.
func (n *netlink) open(f *Filter) (*rtnl.Space, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.space == nil && n.err == nil && !n.closed {
		if n.space, n.err = rtnl.Open(f.Thread); n.err != nil {
			f.Emit(event.Event{Kind: event.Fault, Reason: "netlink sockets: " + n.err.Error()})
		}
	}
	if n.closed {
		return nil, net.ErrClosed
	}
	return n.space, n.err
}

// opened returns the namespace if it is there. It blocks only while the
// namespace is made, when no program holds a netlink socket yet.
func (n *netlink) opened() *rtnl.Space {
	if !n.mu.TryLock() {
		return nil
	}
	defer n.mu.Unlock()
	return n.space
}

func (n *netlink) close() {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.closed = true
	if n.space != nil {
		n.space.Close()
	}
}

// process is dispatch.TGID, which reads a file, of the loop's calls.
func (n *netlink) process(tid int) int {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.seen != tid {
		n.seen, n.leader = tid, dispatch.TGID(tid)
	}
	return n.leader
}

// netlinkDenials leave of AF_NETLINK only NETLINK_ROUTE.
func netlinkDenials() []dispatch.Denial {
	netlink := dispatch.Eq(0, unix.AF_NETLINK)
	return []dispatch.Denial{
		{Syscall: unix.SYS_SOCKET, Guard: dispatch.When(netlink, dispatch.Ne(2, unix.NETLINK_ROUTE)), Errno: unix.EPROTONOSUPPORT},
		{Syscall: unix.SYS_SOCKET, Guard: dispatch.When(netlink, notType(unix.SOCK_RAW), notType(unix.SOCK_DGRAM)), Errno: unix.ESOCKTNOSUPPORT},
	}
}

// kindOption is the guard of the options that tell what kind a socket is of.
func kindOption() dispatch.Guard {
	level := dispatch.Eq(1, unix.SOL_SOCKET)
	return dispatch.When(level, dispatch.Eq(2, unix.SO_DOMAIN)).Or(
		dispatch.When(level, dispatch.Eq(2, unix.SO_TYPE))).Or(
		dispatch.When(level, dispatch.Eq(2, unix.SO_PROTOCOL)))
}

// netlinkSocket answers socket(AF_NETLINK, ..., NETLINK_ROUTE).
func (f *Filter) netlinkSocket(c *dispatch.Call) dispatch.Action {
	typ := c.Int(1)
	inject := func(fd int, err error) dispatch.Action {
		if err == rtnl.ErrTooMany {
			return dispatch.Errno(unix.EMFILE)
		}
		if err != nil {
			return dispatch.Errno(unix.EAFNOSUPPORT)
		}
		if typ&unix.SOCK_NONBLOCK != 0 {
			unix.SetNonblock(fd, true)
		}
		return dispatch.InjectFD(fd, typ&unix.SOCK_CLOEXEC != 0)
	}
	pid, kind := f.netlink.process(c.PID()), typ&sockTypeMask
	if s := f.netlink.opened(); s != nil {
		if fd, ok, err := s.Stocked(pid, kind); ok {
			return inject(fd, err)
		}
	}
	return dispatch.Defer(func(context.Context) dispatch.Action {
		s, err := f.netlink.open(f)
		if err != nil {
			return dispatch.Errno(unix.EAFNOSUPPORT)
		}
		return inject(s.New(pid, kind))
	})
}

// netlinkOf returns the netlink socket in the call's first register, nil if it
// is none. The descriptor, which the caller owns, keeps it alive.
func (f *Filter) netlinkOf(c *dispatch.Call) (*rtnl.Socket, int) {
	s := f.netlink.opened()
	if s == nil || !s.Live() {
		return nil, -1
	}
	fd, cookie, err := pin(c)
	if err != nil {
		return nil, -1
	}
	k := s.Find(cookie)
	if k == nil {
		unix.Close(fd)
		return nil, -1
	}
	return k, fd
}

// netlinkName answers bind, connect, getsockname and getpeername of netlink
// sockets. What it lets pass is no netlink socket, and judged by others.
func (f *Filter) netlinkName(c *dispatch.Call) dispatch.Action {
	k, fd := f.netlinkOf(c)
	if k == nil {
		return dispatch.Continue()
	}
	defer unix.Close(fd)
	switch c.Nr() {
	case unix.SYS_GETSOCKNAME:
		return answerBytes(c, 1, 2, rtnl.Encode(k.Name()))
	case unix.SYS_GETPEERNAME:
		return answerBytes(c, 1, 2, rtnl.Encode(&unix.SockaddrNetlink{}))
	}
	sa, act, ok := sockaddr(c, 1, 2)
	if !ok {
		return act
	}
	if c.Nr() == unix.SYS_CONNECT {
		return dispatch.Result(0, k.Connect(sa))
	}
	return dispatch.Result(0, k.Bind(sa))
}

// netlinkRequest is the guard of requests as C libraries send them: to an address
// of struct sockaddr_nl's size, which no other kind of socket uses, or without an
// address, of the size of a request for a dump. The latter is a program of
// musl's, which then takes the answer without waiting for it, as the kernel
// has always answered by then. All other requests reach the kernel too, a little
// later.
func netlinkRequest() dispatch.Guard {
	const dumpRequest = 20 // struct nlmsghdr and struct rtgenmsg, padded (rtnetlink(7))
	null := dispatch.Test{Arg: 4, Wide: true}
	return dispatch.When(dispatch.Eq(5, unix.SizeofSockaddrNetlink)).Or(
		dispatch.When(null, dispatch.Test{Arg: 2, Wide: true, Value: dumpRequest}, dispatch.Eq(3, 0)))
}

// maxRequest bounds a request that is answered before the call returns.
const maxRequest = 4096

// netlinkSend answers requests before the call returns.
func (f *Filter) netlinkSend(c *dispatch.Call) dispatch.Action {
	k, fd := f.netlinkOf(c)
	if k == nil {
		return dispatch.Continue()
	}
	defer unix.Close(fd)
	n := c.Arg(2)
	if n == 0 || n > maxRequest {
		return dispatch.Continue()
	}
	msg := make([]byte, n)
	if err := c.Read(c.Arg(1), msg); err != nil {
		return dispatch.Fail(err)
	}
	finish, err := k.TrySend(msg)
	if finish == nil {
		return dispatch.Result(int64(n), err)
	}
	return dispatch.Defer(func(context.Context) dispatch.Action { return dispatch.Result(int64(n), finish()) })
}

// netlinkOption answers the options of level SOL_NETLINK, and those of
// SOL_SOCKET that tell what kind of socket it is.
func (f *Filter) netlinkOption(c *dispatch.Call) dispatch.Action {
	k, fd := f.netlinkOf(c)
	if k == nil {
		return dispatch.Continue()
	}
	defer unix.Close(fd)
	if c.Nr() == unix.SYS_SETSOCKOPT {
		var v [4]byte
		if n := c.Int(4); n < len(v) {
			return dispatch.Errno(unix.EINVAL)
		}
		if err := c.Read(c.Arg(3), v[:]); err != nil {
			return dispatch.Fail(err)
		}
		return dispatch.Result(0, k.SetOption(c.Int(2), int(int32(binary.NativeEndian.Uint32(v[:])))))
	}
	var v int
	var err error
	switch {
	case c.Int(1) == unix.SOL_NETLINK:
		if v, err = k.Option(c.Int(2)); err != nil {
			return dispatch.Fail(err)
		}
	case c.Int(2) == unix.SO_DOMAIN:
		v = unix.AF_NETLINK
	case c.Int(2) == unix.SO_TYPE:
		v = k.Type()
	default: // SO_PROTOCOL
		v = unix.NETLINK_ROUTE
	}
	return answerBytes(c, 3, 4, binary.NativeEndian.AppendUint32(nil, uint32(v)))
}
