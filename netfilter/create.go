package netfilter

import (
	"github.com/sandlock/sandlock/dispatch"
	"golang.org/x/sys/unix"
)

// create makes a connection-oriented socket for the caller, where the kernel
// would not let us copy one of the caller's own later.
func (f *Filter) create(c *dispatch.Call) dispatch.Action {
	typ := c.Int(1)
	fd, err := unix.Socket(c.Int(0), typ|unix.SOCK_CLOEXEC, c.Int(2))
	if err != nil {
		return dispatch.Fail(err)
	}
	return dispatch.InjectFD(fd, typ&unix.SOCK_CLOEXEC != 0)
}

// created holds for the sockets that create makes.
func created() dispatch.Guard {
	var g dispatch.Guard
	for _, s := range [...][2]uint32{
		{unix.AF_INET, unix.SOCK_STREAM}, {unix.AF_INET6, unix.SOCK_STREAM},
		{unix.AF_UNIX, unix.SOCK_STREAM}, {unix.AF_UNIX, unix.SOCK_SEQPACKET},
	} {
		g = append(g, dispatch.When(dispatch.Eq(0, s[0]), sockType(s[1]))...)
	}
	return g
}
