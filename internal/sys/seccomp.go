// Package sys holds the kernel ABI that golang.org/x/sys/unix lacks. It is the
// only package with raw ioctl numbers, kernel structures and unsafe pointers.
package sys

import (
	"runtime"
	"unsafe"

	"golang.org/x/sys/unix"
)

// SeccompData is struct seccomp_data of linux/seccomp.h (64 bytes).
type SeccompData struct {
	Nr   int32
	Arch uint32
	IP   uint64
	Args [6]uint64
}

// Notification is struct seccomp_notif of linux/seccomp.h (80 bytes). PID is the
// calling thread as seen from the supervisor's PID namespace, 0 if it is not
// visible from there.
type Notification struct {
	ID    uint64
	PID   uint32
	Flags uint32
	Data  SeccompData
}

// Response is struct seccomp_notif_resp of linux/seccomp.h (24 bytes). Error is
// a negative errno or 0.
type Response struct {
	ID    uint64
	Val   int64
	Error int32
	Flags uint32
}

type addFD struct {
	ID         uint64
	Flags      uint32
	SrcFD      uint32
	NewFD      uint32
	NewFDFlags uint32
}

// Flags of seccomp(2) and of the listener's ioctls, from linux/seccomp.h.
const (
	SetModeFilter         = 1
	FilterFlagNewListener = 1 << 3 // Linux 5.0
	FilterFlagWaitKill    = 1 << 5 // Linux 5.19

	RespContinue = 1 // Linux 5.5

	RetKillProcess = 0x80000000
	RetUserNotif   = 0x7fc00000
	RetErrno       = 0x00050000
	RetAllow       = 0x7fff0000

	addFDSetFD = 1 << 0
	addFDSend  = 1 << 1 // Linux 5.14

	ioctlRecv     = 0xc0502100
	ioctlSend     = 0xc0182101
	ioctlIDValid  = 0x40082102
	ioctlAddFD    = 0x40182103
	ioctlSetFlags = 0x40082104 // Linux 6.6

	fdSyncWakeUp = 1
)

// Recv blocks until a notification arrives on the listener and stores it in n.
// EINTR and ENOENT (the caller died meanwhile) mean: call again.
func Recv(listener int, n *Notification) error {
	*n = Notification{}
	return ioctlPtr(listener, ioctlRecv, unsafe.Pointer(n))
}

// Send answers a notification. ENOENT means that the caller is gone or was
// interrupted. It does not block.
func Send(listener int, r *Response) error {
	return ioctlFast(listener, ioctlSend, unsafe.Pointer(r))
}

// IDValid tells whether the call behind the notification is still waiting; only
// then do the numbers in it still name the process that made the call.
func IDValid(listener int, id uint64) bool {
	return ioctlFast(listener, ioctlIDValid, unsafe.Pointer(&id)) == nil
}

// AddFDSend installs a copy of the supervisor's descriptor src in the caller and
// answers the call with its number, in one step (Linux 5.14). src stays owned by
// the caller of this function. It returns the number in the target.
func AddFDSend(listener int, id uint64, src int, cloexec bool) (int, error) {
	a := addFD{ID: id, Flags: addFDSend, SrcFD: uint32(src)}
	if cloexec {
		a.NewFDFlags = unix.O_CLOEXEC
	}
	return addFDCall(listener, &a)
}

// AddFD installs a copy of src in the caller without answering the call. With
// at >= 0 it takes that very number, replacing what is there.
func AddFD(listener int, id uint64, src, at int, cloexec bool) (int, error) {
	a := addFD{ID: id, SrcFD: uint32(src)}
	if at >= 0 {
		a.Flags, a.NewFD = addFDSetFD, uint32(at)
	}
	if cloexec {
		a.NewFDFlags = unix.O_CLOEXEC
	}
	return addFDCall(listener, &a)
}

// addFDCall makes the request with all signals blocked: a signal (the Go runtime
// sends SIGURG to preempt) would end the kernel's wait after it already counts
// the call as answered, and the repeated request would fail with EINPROGRESS
// while the caller is told descriptor 0 (seen on Linux 6.18).
func addFDCall(listener int, a *addFD) (int, error) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	var all, old unix.Sigset_t
	for i := range all.Val {
		all.Val[i] = ^all.Val[i]
	}
	if err := unix.PthreadSigmask(unix.SIG_SETMASK, &all, &old); err != nil {
		return -1, err
	}
	defer unix.PthreadSigmask(unix.SIG_SETMASK, &old, nil)
	n, _, e := unix.RawSyscall(unix.SYS_IOCTL, uintptr(listener), ioctlAddFD, uintptr(unsafe.Pointer(a)))
	if e != 0 {
		return -1, e
	}
	return int(n), nil
}

// SyncWakeUp asks the kernel to wake the two sides on one CPU (Linux 6.6). The
// error is EINVAL where the kernel does not know the flag.
func SyncWakeUp(listener int) error {
	_, _, e := unix.RawSyscall(unix.SYS_IOCTL, uintptr(listener), ioctlSetFlags, fdSyncWakeUp)
	if e != 0 {
		return e
	}
	return nil
}

func ioctlPtr(fd int, req uintptr, p unsafe.Pointer) error {
	_, _, e := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), req, uintptr(p))
	if e != 0 {
		return e
	}
	return nil
}

// ioctlFast is for requests that never block: it spares the scheduler's hooks.
func ioctlFast(fd int, req uintptr, p unsafe.Pointer) error {
	_, _, e := unix.RawSyscall(unix.SYS_IOCTL, uintptr(fd), req, uintptr(p))
	if e != 0 {
		return e
	}
	return nil
}

// SeccompAllThreads puts a filter on every thread of the process (Linux 3.17). The
// process needs no_new_privs.
func SeccompAllThreads(program []unix.SockFilter) error {
	const tsync = 1 // SECCOMP_FILTER_FLAG_TSYNC
	prog := unix.SockFprog{Len: uint16(len(program)), Filter: &program[0]}
	tid, _, e := unix.Syscall(unix.SYS_SECCOMP, SetModeFilter, tsync, uintptr(unsafe.Pointer(&prog)))
	runtime.KeepAlive(program)
	if e != 0 {
		return e
	}
	if tid != 0 { // a thread that has a filter of its own
		return unix.EBUSY
	}
	return nil
}
