package launch

import (
	"sync/atomic"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Signals that concern the command and not us: keys are ignored, for the command
// shares the terminal, and the others are handed on to it.
var (
	keySignals    = [...]unix.Signal{unix.SIGINT, unix.SIGQUIT, unix.SIGTSTP, unix.SIGTTOU}
	handedSignals = [...]unix.Signal{unix.SIGTERM, unix.SIGHUP, unix.SIGUSR1, unix.SIGUSR2}
)

// Flags of sigaction(2), from asm/signal.h.
const (
	saOnStack = 0x08000000
	saRestart = 0x10000000
)

// handOnTo is the pidfd of the command that signals are handed on to. It belongs
// to the process, like the handlers that read it.
var handOnTo int64 = -1

// TakeSignals makes this process ignore the keys of its terminal and hand other
// signals on to the process behind pidfd, which must stay open until undo was
// called. It is for a process that is sandlock's own, and comes after the start
// of the command, which would inherit that signals are ignored. The handler is a
// single pidfd_send_signal(2): package os/signal would take a thread, a goroutine
// and two dozen changes between threads, a fifth of a whole start.
func TakeSignals(pidfd int) (undo func()) {
	atomic.StoreInt64(&handOnTo, int64(pidfd))
	var old [len(keySignals) + len(handedSignals)]sigaction
	handler := handingOn()
	all := append(keySignals[:len(keySignals):len(keySignals)], handedSignals[:]...)
	for i, s := range all {
		act := &handler
		if i < len(keySignals) {
			act = &sigaction{handler: 1} // SIG_IGN
		}
		setAction(s, act, &old[i])
	}
	return func() {
		for i, s := range all {
			setAction(s, &old[i], nil)
		}
		atomic.StoreInt64(&handOnTo, -1)
	}
}

func setAction(s unix.Signal, act, old *sigaction) {
	syscall.RawSyscall6(unix.SYS_RT_SIGACTION, uintptr(s), uintptr(unsafe.Pointer(act)), uintptr(unsafe.Pointer(old)), sigsetSize, 0, 0)
}

// handOnPC is the address of the handler.
func handOnPC() uintptr
