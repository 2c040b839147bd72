// Package confine lets a process lock itself in for good: no files, no new
// sockets, no connections, no programs, no other processes. What it may use is
// what it holds, and what it is handed over a socket.
package confine

import (
	"errors"
	"fmt"
	"os"
	"syscall"

	"github.com/sandlock/sandlock/internal/sys"
	"golang.org/x/sys/unix"
)

// Landlock ABIs that first know what is used here (landlock(7)).
const (
	abiNet    = 4
	abiScopes = 6
)

// errCgo: the runtime reaches all threads only where it made them all itself
// (syscall.AllThreadsSyscall).
var errCgo = errors.New("this program was built with cgo; build it with CGO_ENABLED=0, as make does")

// Process locks the calling process in, all threads of it. It cannot be undone.
// The process must be built without cgo: otherwise its threads cannot be reached,
// and the error says so.
func Process() error {
	if err := unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0); err != nil {
		return fmt.Errorf("not dumpable: %w", err)
	}
	if err := unix.Setrlimit(unix.RLIMIT_CORE, &unix.Rlimit{}); err != nil {
		return fmt.Errorf("core limit: %w", err)
	}
	err := lockIn(everyThread, sys.SeccompAllThreads)
	if errors.Is(err, unix.ENOTSUP) {
		return errCgo
	}
	return err
}

// lockIn puts the layers on the threads that each reaches, and the filter on those
// that install does.
func lockIn(each func(nr, a, b uintptr) error, install func([]unix.SockFilter) error) error {
	if err := each(unix.SYS_PRCTL, unix.PR_SET_NO_NEW_PRIVS, 1); err != nil {
		return fmt.Errorf("no_new_privs: %w", err)
	}
	if err := landlock(each); err != nil {
		return fmt.Errorf("landlock: %w", err)
	}
	if err := install(program(os.Getpid())); err != nil {
		return fmt.Errorf("seccomp filter: %w", err)
	}
	return nil
}

func landlock(each func(nr, a, b uintptr) error) error {
	var net, scopes uint64
	abi := sys.LandlockABI()
	if abi == 0 {
		return unix.EOPNOTSUPP
	}
	if abi >= abiNet {
		net = unix.LANDLOCK_ACCESS_NET_BIND_TCP | unix.LANDLOCK_ACCESS_NET_CONNECT_TCP
	}
	if abi >= abiScopes {
		scopes = unix.LANDLOCK_SCOPE_ABSTRACT_UNIX_SOCKET | unix.LANDLOCK_SCOPE_SIGNAL
	}
	ruleset, err := sys.LandlockDenyAll(net, scopes)
	if err != nil {
		return err
	}
	defer unix.Close(ruleset)
	return each(unix.SYS_LANDLOCK_RESTRICT_SELF, uintptr(ruleset), 0)
}

// everyThread makes a system call on each thread of the process.
func everyThread(nr, a, b uintptr) error {
	if _, _, e := syscall.AllThreadsSyscall(nr, a, b, 0); e != 0 {
		return e
	}
	return nil
}
