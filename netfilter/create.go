package netfilter

import (
	"github.com/sandlock/sandlock/dispatch"
	"golang.org/x/sys/unix"
)

// create makes a socket for the caller in our own network namespace, where the kernel
// would not let us copy one of the caller's own later.
func (f *Filter) create(c *dispatch.Call) dispatch.Action {
	typ := c.Int(1)
	fd, err := unix.Socket(c.Int(0), typ|unix.SOCK_CLOEXEC, c.Int(2))
	if err != nil {
		return dispatch.Fail(err)
	}
	return dispatch.InjectFD(fd, typ&unix.SOCK_CLOEXEC != 0)
}

// created holds for the sockets that create makes. Contained datagram sockets are
// born elsewhere.
func created(m Mode) dispatch.Guard {
	types := []uint32{unix.SOCK_STREAM, unix.SOCK_SEQPACKET}
	if m == Mediated {
		types = append(types, unix.SOCK_DGRAM, unix.SOCK_RAW)
	}
	var g dispatch.Guard
	for _, family := range [...]uint32{unix.AF_INET, unix.AF_INET6, unix.AF_UNIX} {
		for _, typ := range types {
			g = append(g, dispatch.When(dispatch.Eq(0, family), sockType(typ))...)
		}
	}
	return g
}
