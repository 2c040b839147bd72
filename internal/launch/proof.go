package launch

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"
)

// errNotEnforced reports a kernel, or something between it and us, that accepts a
// domain and does not act on it.
var errNotEnforced = errors.New("the kernel accepted the Landlock domain and does not enforce it")

// prove shows that the calling thread's domain holds: it may not bind a TCP socket
// to a port of the kernel's choice, which nothing else would refuse. It costs some
// microseconds and sends nothing.
func (l Layers) prove() error {
	if !l.Net {
		return nil
	}
	for _, family := range []struct {
		number int
		any    unix.Sockaddr
	}{{unix.AF_INET, &unix.SockaddrInet4{}}, {unix.AF_INET6, &unix.SockaddrInet6{}}} {
		fd, err := unix.Socket(family.number, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, unix.IPPROTO_TCP)
		if err == unix.EAFNOSUPPORT {
			continue
		}
		if err != nil {
			return fmt.Errorf("socket: %w", err)
		}
		err = unix.Bind(fd, family.any)
		unix.Close(fd)
		if err != unix.EACCES {
			return errNotEnforced
		}
		return nil
	}
	return nil // no TCP at all
}
