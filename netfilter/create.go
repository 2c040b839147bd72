package netfilter

import (
	"context"
	"encoding/binary"

	"github.com/sandlock/sandlock/dispatch"
	"github.com/sandlock/sandlock/internal/sys"
	"golang.org/x/sys/unix"
)

// Where the kernel would not let us copy a socket of the caller's own later, we
// make those that handlers need. In mediated mode these are all, because every
// sendmsg(2) is performed.
func (f *Filter) registerCreated(reg register) {
	reg("net.create", f.create, created(f.Datagrams), unix.SYS_SOCKET)
	if f.Datagrams == Mediated {
		reg("net.create", f.createPair, dispatch.When(dispatch.Eq(0, unix.AF_UNIX)), unix.SYS_SOCKETPAIR)
		reg("net.accept", f.accept, nil, unix.SYS_ACCEPT, unix.SYS_ACCEPT4)
	}
}

// create makes a socket for the caller. A unix socket is made by the thread that
// is in the sandbox's Landlock domain: it has to count as one of the sandbox when
// it gets an abstract name.
func (f *Filter) create(c *dispatch.Call) dispatch.Action {
	domain, typ, proto := c.Int(0), c.Int(1), c.Int(2)
	open := func() dispatch.Action {
		fd, err := unix.Socket(domain, typ|unix.SOCK_CLOEXEC, proto)
		if err != nil {
			return dispatch.Fail(err)
		}
		return dispatch.InjectFD(fd, typ&unix.SOCK_CLOEXEC != 0)
	}
	if domain != unix.AF_UNIX {
		return open()
	}
	return dispatch.Defer(func(context.Context) (a dispatch.Action) {
		if err := f.Thread.Do(func() error { a = open(); return nil }); err != nil {
			return dispatch.Fail(err)
		}
		return a
	})
}

// created holds for the sockets that create makes.
func created(mode Mode) dispatch.Guard {
	var g dispatch.Guard
	types := [][2]uint32{
		{unix.AF_INET, unix.SOCK_STREAM}, {unix.AF_INET6, unix.SOCK_STREAM},
		{unix.AF_UNIX, unix.SOCK_STREAM}, {unix.AF_UNIX, unix.SOCK_SEQPACKET},
	}
	if mode == Mediated {
		types = append(types, [2]uint32{unix.AF_INET, unix.SOCK_DGRAM}, [2]uint32{unix.AF_INET6, unix.SOCK_DGRAM}, [2]uint32{unix.AF_UNIX, unix.SOCK_DGRAM})
	}
	for _, s := range types {
		g = append(g, dispatch.When(dispatch.Eq(0, s[0]), sockType(s[1]))...)
	}
	return g
}

// createPair makes a pair of unix sockets for the caller.
func (f *Filter) createPair(c *dispatch.Call) dispatch.Action {
	typ := c.Int(1)
	pair, err := unix.Socketpair(unix.AF_UNIX, typ|unix.SOCK_CLOEXEC, c.Int(2))
	if err != nil {
		return dispatch.Fail(err)
	}
	return f.handPair(c, pair, typ&unix.SOCK_CLOEXEC != 0)
}

// handPair owns the pair and answers socketpair(2) with it.
func (f *Filter) handPair(c *dispatch.Call, pair [2]int, cloexec bool) dispatch.Action {
	defer unix.Close(pair[0])
	defer unix.Close(pair[1])
	var out [8]byte
	if err := c.Write(c.Arg(3), out[:]); err != nil {
		return dispatch.Fail(err)
	}
	for i, fd := range pair {
		if f.Datagrams == Mediated {
			c.Keep(fd)
		}
		n, err := c.AddFD(fd, -1, cloexec)
		if err != nil {
			return dispatch.Fail(err)
		}
		binary.NativeEndian.PutUint32(out[4*i:], uint32(n))
	}
	if err := c.Write(c.Arg(3), out[:]); err != nil {
		return dispatch.Fail(err)
	}
	return dispatch.Return(0)
}

// accept performs accept(2) and accept4(2), so that the new socket is known.
func (f *Filter) accept(c *dispatch.Call) dispatch.Action {
	fd, err := c.FD(c.Int(0))
	if err != nil {
		return dispatch.Fail(err)
	}
	flags := 0
	if c.Nr() == unix.SYS_ACCEPT4 {
		if flags = c.Int(3); flags&^cloexecFlags != 0 {
			unix.Close(fd)
			return dispatch.Errno(unix.EINVAL)
		}
	}
	take := func() dispatch.Action {
		n, sa, err := sys.Accept(fd, flags|unix.SOCK_CLOEXEC)
		if err != nil {
			return dispatch.Fail(err)
		}
		if c.Arg(1) != 0 {
			if err := writeBytes(c, c.Arg(1), c.Arg(2), sa); err != nil {
				unix.Close(n)
				return dispatch.Fail(err)
			}
		}
		return dispatch.InjectFD(n, flags&unix.SOCK_CLOEXEC != 0)
	}
	if nonblocking(fd) {
		defer unix.Close(fd)
		return take()
	}
	return dispatch.DeferWhole(func(ctx context.Context) dispatch.Action {
		defer unix.Close(fd)
		limit, err := unix.GetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO)
		if err != nil {
			return dispatch.Fail(err)
		}
		// What is there may be taken by another call: then this one waits longer
		// than it should for a signal.
		if err := f.ready.wait(ctx, fd, unix.EPOLLIN, timeout(limit)); err != nil {
			return dispatch.Fail(err)
		}
		return take()
	})
}
