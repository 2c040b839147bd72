package event

import (
	"io"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// filePatience bounds the wait for a descriptor that says EAGAIN.
const filePatience = 5 * time.Second

// file writes to a descriptor that others share. It differs from os.File in two
// ways: a program that made the common standard error non-blocking does not
// cost lines (they wait, at most 5 seconds), and a standard error whose reader
// has gone is an error, where os.File would end the process by SIGPIPE, and
// with it the sandbox.
type file struct{ f *os.File }

// wrap returns w, or for an *os.File a writer as described at file.
func wrap(w io.Writer) io.Writer {
	if f, ok := w.(*os.File); ok {
		return file{f}
	}
	return w
}

// Write implements io.Writer.
func (w file) Write(p []byte) (n int, err error) {
	conn, err := w.f.SyscallConn()
	if err != nil {
		return 0, err
	}
	cerr := conn.Control(func(fd uintptr) { n, err = writeAll(int(fd), p) })
	if err != nil {
		err = &os.PathError{Op: "write", Path: w.f.Name(), Err: err}
	}
	if cerr != nil {
		err = cerr
	}
	return n, err
}

func writeAll(fd int, p []byte) (n int, err error) {
	deadline := time.Now().Add(filePatience)
	for n < len(p) {
		m, err := unix.Write(fd, p[n:])
		switch {
		case m > 0:
			n += m
		case err == unix.EINTR:
		case err == unix.EAGAIN && time.Now().Before(deadline):
			left := int(time.Until(deadline).Milliseconds()) + 1
			_, _ = unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLOUT}}, left)
		case err != nil:
			return n, err
		default:
			return n, io.ErrShortWrite
		}
	}
	return n, nil
}

// isTerminal tells whether w is a terminal (ioctl_tty(2), TCGETS).
func isTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	if !ok {
		return false
	}
	conn, err := f.SyscallConn()
	if err != nil {
		return false
	}
	terminal := false
	_ = conn.Control(func(fd uintptr) {
		_, err := unix.IoctlGetTermios(int(fd), unix.TCGETS)
		terminal = err == nil
	})
	return terminal
}
