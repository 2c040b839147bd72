package sys

import (
	"slices"
	"strings"
)

// SyscallName returns the name of system call nr on this machine as in
// syscalls(2), or "" when there is no such number.
func SyscallName(nr int) string {
	if nr < 0 || nr > MaxSyscall {
		return ""
	}
	return syscallNames[nr]
}

// SyscallNumber returns the number of the named system call on this machine.
func SyscallNumber(name string) (int, bool) {
	i, ok := slices.BinarySearchFunc(syscallOrder[:], name, func(nr uint16, name string) int {
		return strings.Compare(syscallNames[nr], name)
	})
	if !ok {
		return 0, false
	}
	return int(syscallOrder[i]), true
}
