package launch

import (
	"sync/atomic"
	"unsafe"

	"golang.org/x/sys/unix"
)

// bell wakes one thread that sleeps in the kernel (futex(2)). Unlike a channel it
// wakes a goroutine that is locked to its thread without a detour.
type bell struct{ rung atomic.Uint32 }

const (
	futexWait = 0 | 128 // FUTEX_WAIT | FUTEX_PRIVATE_FLAG of linux/futex.h
	futexWake = 1 | 128
)

// ring wakes who waits, or will wait, for more than was rung before.
func (b *bell) ring() {
	b.rung.Add(1)
	unix.RawSyscall6(unix.SYS_FUTEX, uintptr(unsafe.Pointer(&b.rung)), futexWake, 1, 0, 0, 0)
}

// wait blocks until the bell was rung more than n times.
func (b *bell) wait(n uint32) {
	for b.rung.Load() == n {
		unix.Syscall6(unix.SYS_FUTEX, uintptr(unsafe.Pointer(&b.rung)), futexWait, uintptr(n), 0, 0, 0)
	}
}
