package sys

import (
	"runtime"
	"unsafe"

	"golang.org/x/sys/unix"
)

const (
	opGetActionAvail = 2  // SECCOMP_GET_ACTION_AVAIL of linux/seccomp.h (Linux 4.14)
	bpfReturn        = 06 // BPF_RET|BPF_K of linux/bpf_common.h
)

// Seccomp is what ProbeSeccomp found. The errors are nil for what works.
type Seccomp struct {
	Notify       error // notification as such (Linux 5.0)
	WaitKillable error // SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV (5.19)
	Listener     error // a listener of our own; EBUSY: this process already has one above it
	AddFDSend    error // SECCOMP_ADDFD_FLAG_SEND (5.14)
	SyncWakeUp   error // SECCOMP_USER_NOTIF_FD_SYNC_WAKE_UP (6.6)
}

// ProbeSeccomp tries what a supervisor needs. It puts a filter that allows
// everything on a thread of its own, which ends before it returns, so the
// process is not changed.
func ProbeSeccomp() Seccomp {
	out, started := make(chan Seccomp, 1), make(chan struct{})
	var probe func()
	probe = func() {
		runtime.LockOSThread()
		if unix.Gettid() == unix.Getpid() {
			// The main thread never ends and would keep the filter: hold it while
			// another takes over.
			go probe()
			<-started
			runtime.UnlockOSThread()
			return
		}
		// Never unlocked: the thread ends with the goroutine, and the filter with it.
		close(started)
		out <- probeSeccomp()
	}
	go probe()
	return <-out
}

func probeSeccomp() Seccomp {
	var s Seccomp
	action := uint32(RetUserNotif)
	s.Notify = seccomp(opGetActionAvail, 0, unsafe.Pointer(&action))
	// The kernel looks at the flags before the program: EFAULT means that it knows them.
	s.WaitKillable = seccomp(SetModeFilter, FilterFlagNewListener|FilterFlagWaitKill, nil)
	if s.WaitKillable == unix.EFAULT {
		s.WaitKillable = nil
	}
	listener, err := allowAll()
	s.Listener, s.AddFDSend, s.SyncWakeUp = err, err, err
	if err != nil {
		return s
	}
	defer unix.Close(listener)
	// No call waits: ENOENT means that everything but the id was right.
	if _, err := AddFDSend(listener, 0, listener, true); err != unix.ENOENT {
		s.AddFDSend = err
	}
	s.SyncWakeUp = SyncWakeUp(listener)
	return s
}

// allowAll puts a filter with a listener on the calling thread, and no_new_privs.
func allowAll() (int, error) {
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return -1, err
	}
	program := [...]unix.SockFilter{{Code: bpfReturn, K: RetAllow}}
	fprog := unix.SockFprog{Len: uint16(len(program)), Filter: &program[0]}
	fd, _, e := unix.RawSyscall(unix.SYS_SECCOMP, SetModeFilter, FilterFlagNewListener, uintptr(unsafe.Pointer(&fprog)))
	runtime.KeepAlive(&program)
	if e != 0 {
		return -1, e
	}
	return int(fd), nil
}

func seccomp(op, flags uintptr, p unsafe.Pointer) error {
	_, _, e := unix.RawSyscall(unix.SYS_SECCOMP, op, flags, uintptr(p))
	return errno(e)
}
