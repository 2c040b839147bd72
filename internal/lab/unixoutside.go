package lab

import (
	"net"
	"os"
	"testing"

	"golang.org/x/sys/unix"
)

// UnixOutside opens a unix stream sink at a path whose listener is in the
// neighbouring network namespace: the lab's own list of sockets lacks it.
func UnixOutside(t testing.TB, path string) {
	t.Helper()
	var l net.Listener
	var err error
	there(func() { l, err = listenHere(path) })
	if err != nil {
		t.Fatal(err)
	}
	serveStream(t, "unix outside ", l)
}

// listenHere listens in the calling thread's namespace.
func listenHere(path string) (net.Listener, error) {
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	f := os.NewFile(uintptr(fd), path)
	defer f.Close()
	if err := unix.Bind(fd, &unix.SockaddrUnix{Name: path}); err != nil {
		return nil, err
	}
	if err := unix.Listen(fd, unix.SOMAXCONN); err != nil {
		return nil, err
	}
	return net.FileListener(f)
}
