package launch

import (
	"sync"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// interruptSignal ends a system call that a program holds up. The runtime has a
// handler for each real-time signal, which does nothing when nobody asked for it.
const interruptSignal = unix.Signal(62)

// interruptOnce takes SA_RESTART from the signal's handler: with it the kernel
// would begin the call again.
var interruptOnce = sync.OnceValue(func() error {
	var a sigaction
	if _, _, e := syscall.RawSyscall6(unix.SYS_RT_SIGACTION, uintptr(interruptSignal), 0, uintptr(unsafe.Pointer(&a)), sigsetSize, 0, 0); e != 0 {
		return e
	}
	if a.handler <= 1 {
		return unix.ENOSYS // the signal would end the process or do nothing
	}
	a.rest[0] &^= saRestart // the flags follow the handler
	if _, _, e := syscall.RawSyscall6(unix.SYS_RT_SIGACTION, uintptr(interruptSignal), uintptr(unsafe.Pointer(&a)), 0, sigsetSize, 0, 0); e != 0 {
		return e
	}
	return nil
})

// Within runs f, which makes a system call that may sleep at a program's will, on
// the calling goroutine's thread, which must be locked. After the given time, and
// each time again, the thread gets a signal, until f returned: the call fails with
// EINTR, whatever time-out or flag the program gave the socket meanwhile.
func Within(limit time.Duration, f func() error) error {
	if err := interruptOnce(); err != nil {
		return err
	}
	open := sigset(1) << (interruptSignal - 1)
	var old sigset
	syscall.RawSyscall6(unix.SYS_RT_SIGPROCMASK, unix.SIG_UNBLOCK, uintptr(unsafe.Pointer(&open)), uintptr(unsafe.Pointer(&old)), sigsetSize, 0, 0)
	defer setSignals(old)
	var (
		mu    sync.Mutex // no signal is sent once f returned
		done  bool
		pid   = unix.Getpid()
		tid   = unix.Gettid()
		timer *time.Timer
	)
	mu.Lock() // until timer is set
	timer = time.AfterFunc(limit, func() {
		mu.Lock()
		defer mu.Unlock()
		if !done {
			unix.Tgkill(pid, tid, interruptSignal)
			timer.Reset(limit)
		}
	})
	mu.Unlock()
	err := f()
	mu.Lock()
	done = true
	mu.Unlock()
	timer.Stop()
	return err
}
