package sys

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

// PidfdThread is PIDFD_THREAD of linux/pidfd.h: the descriptor names one thread
// (Linux 6.9).
const PidfdThread = unix.O_EXCL

// PidfdOpen returns a descriptor, owned by the caller and close-on-exec, that
// names the process pid, or the thread pid with PidfdThread.
func PidfdOpen(pid int, flags int) (int, error) {
	fd, _, e := unix.RawSyscall(unix.SYS_PIDFD_OPEN, uintptr(pid), uintptr(flags), 0)
	if e != 0 {
		return -1, e
	}
	return int(fd), nil
}

// PidfdGetfd returns a copy of descriptor fd of the process behind pidfd, owned
// by the caller and close-on-exec (Linux 5.6). It needs the right to ptrace.
func PidfdGetfd(pidfd, fd int) (int, error) {
	n, _, e := unix.RawSyscall(unix.SYS_PIDFD_GETFD, uintptr(pidfd), uintptr(fd), 0)
	if e != 0 {
		return -1, e
	}
	return int(n), nil
}

// ProbePidfdGetfd returns nil when pidfd_getfd(2) may be used here, else the
// refusal of an outer filter or security module: with impossible arguments the
// kernel itself answers EBADF.
func ProbePidfdGetfd() error {
	if _, err := PidfdGetfd(-1, -1); err != unix.EBADF {
		return err
	}
	return nil
}

// SiginfoSize is the size of siginfo_t (asm-generic/siginfo.h).
const SiginfoSize = 128

// PidfdSignal is pidfd_send_signal(2) with a siginfo_t of SiginfoSize bytes, or
// none where info is empty.
func PidfdSignal(pidfd int, sig unix.Signal, info []byte) error {
	var p unsafe.Pointer
	if len(info) == SiginfoSize {
		p = unsafe.Pointer(&info[0])
	}
	_, _, e := unix.RawSyscall6(unix.SYS_PIDFD_SEND_SIGNAL, uintptr(pidfd), uintptr(sig), uintptr(p), 0, 0, 0)
	return errno(e)
}
