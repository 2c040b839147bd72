package launch

import (
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// What a step's result means. The assembly knows these numbers and step's layout.
const (
	mustSucceed = iota
	ignore      // any result will do
	except      // errno arg is no failure
	exact       // only the result arg is no failure (else ESRCH)
)

// step is one system call of the child, prepared by the parent. The child is
// assembly that performs step after step: it uses no stack and no Go code, so it
// may share the supervisor's memory while that goes on running.
type step struct {
	nr   uintptr
	args [6]uintptr
	mode uintptr
	arg  uintptr
	out  uintptr // where the result is stored; 0 for nowhere
	next uintptr // distance to the step after this one, in bytes
}

const stepSize = unsafe.Sizeof(step{})

// failure is what a child that gave up leaves for the parent in shared memory.
type failure struct {
	step  uintptr // address of the step, 0 for none
	errno uintptr
}

// clone starts a child that performs the steps. With CLONE_VFORK it returns when
// the child has executed a program or ended. The child starts with all signals
// blocked. The steps and what they point to must outlive the child.
//
// The clone counts as a blocking system call: the runtime may give this
// goroutine's processor to others, for whom the child may have to wait.
//
//go:nosplit
//go:norace
func clone(flags, pidfd uintptr, first *step, f *failure) (pid int, errno syscall.Errno) {
	entersyscall()
	r, e := rawClone(flags, pidfd, first, f)
	exitsyscall()
	return int(r), syscall.Errno(e)
}

func rawClone(flags, pidfd uintptr, first *step, f *failure) (pid, errno uintptr)

//go:linkname entersyscall runtime.entersyscall
func entersyscall()

//go:linkname exitsyscall runtime.exitsyscall
func exitsyscall()

// sigset is the kernel's sigset_t, one bit a signal.
type sigset uint64

const (
	sigsetSize = unsafe.Sizeof(sigset(0))
	lastSignal = 64 // _NSIG of asm/signal.h
)

// blockSignals blocks all signals of the calling thread, which must be locked,
// and returns what was blocked before.
func blockSignals() (old sigset) {
	all := ^sigset(0)
	syscall.RawSyscall6(unix.SYS_RT_SIGPROCMASK, unix.SIG_SETMASK, uintptr(unsafe.Pointer(&all)), uintptr(unsafe.Pointer(&old)), sigsetSize, 0, 0)
	return old
}

func setSignals(m sigset) {
	syscall.RawSyscall6(unix.SYS_RT_SIGPROCMASK, unix.SIG_SETMASK, uintptr(unsafe.Pointer(&m)), 0, sigsetSize, 0, 0)
}

// sigaction is struct sigaction of the kernel; the same size serves amd64 and
// arm64, whose members differ in order only after the handler.
type sigaction struct {
	handler uintptr // 0 SIG_DFL, 1 SIG_IGN
	rest    [3]uint64
}

// handled reports whether this process has a handler for signal n.
func handled(n int) bool {
	var a sigaction
	_, _, e := syscall.RawSyscall6(unix.SYS_RT_SIGACTION, uintptr(n), 0, uintptr(unsafe.Pointer(&a)), sigsetSize, 0, 0)
	return e == 0 && a.handler > 1
}
