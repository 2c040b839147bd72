package launch

import (
	"fmt"
	"slices"

	"golang.org/x/sys/unix"
)

// checkStdio refuses sockets as standard descriptors that are a way to the
// network: all but connection-oriented unix sockets, unless they are passed.
func checkStdio(s Spec) error {
	for i, fd := range s.Stdio {
		if slices.Contains(s.PassFDs, i) {
			continue
		}
		typ, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_TYPE)
		if err == unix.ENOTSOCK || err == unix.EBADF {
			continue // EBADF: closed or O_PATH, which is no socket in use
		}
		if err != nil {
			return &Error{fmt.Sprintf("descriptor %d", i), ExitFailure, err}
		}
		domain, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_DOMAIN)
		if err != nil {
			return &Error{fmt.Sprintf("descriptor %d", i), ExitFailure, err}
		}
		if domain != unix.AF_UNIX || typ == unix.SOCK_DGRAM {
			return &Error{fmt.Sprintf("descriptor %d", i), ExitFailure,
				fmt.Errorf("it is a network or datagram socket; redirect it, or pass it with --pass-fd %d", i)}
		}
	}
	return nil
}
