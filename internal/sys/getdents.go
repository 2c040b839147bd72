package sys

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

// Getdents reads entries of the directory fd into buf with the call of that
// number, getdents or getdents64, and returns how many bytes (getdents(2)).
func Getdents(nr, fd int, buf []byte) (int, error) {
	n, _, e := unix.Syscall(uintptr(nr), uintptr(fd), uintptr(unsafe.Pointer(unsafe.SliceData(buf))), uintptr(len(buf)))
	if e != 0 {
		return 0, e
	}
	return int(n), nil
}
