package sys

import (
	"slices"
	"unsafe"

	"golang.org/x/sys/unix"
)

// FileCredentials are what the kernel judges a thread's work on files by.
type FileCredentials struct {
	UID, GID     int
	Groups       []uint32
	Capabilities uint64 // effective, one bit each
}

// Become gives the calling thread, which must be locked and end afterwards, the
// credentials for files: its capabilities are cut to those in who. It needs
// CAP_SETUID and CAP_SETGID where they differ.
func Become(who FileCredentials) error {
	var groups unsafe.Pointer
	if len(who.Groups) > 0 {
		groups = unsafe.Pointer(&who.Groups[0])
	}
	have, err := unix.Getgroups()
	if err != nil {
		return err
	}
	equal := func(a int, b uint32) bool { return uint32(a) == b }
	// In an ordinary user's namespace nobody may set groups, not even the same
	// (user_namespaces(7)).
	if !slices.EqualFunc(have, who.Groups, equal) {
		// Raw calls change one thread (setgroups(2), NOTES); the library's change all.
		if _, _, e := unix.RawSyscall(unix.SYS_SETGROUPS, uintptr(len(who.Groups)), uintptr(groups), 0); e != 0 {
			return e
		}
	}
	for _, id := range []struct {
		nr uintptr
		id int
	}{{unix.SYS_SETFSGID, who.GID}, {unix.SYS_SETFSUID, who.UID}} {
		unix.RawSyscall(id.nr, uintptr(id.id), 0, 0)
		// It returns the old id, also when it fails: ask again with an invalid one.
		now, _, _ := unix.RawSyscall(id.nr, ^uintptr(0), 0, 0)
		if int(int32(now)) != id.id {
			return unix.EPERM
		}
	}
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	if err := unix.Capget(&header, &data[0]); err != nil {
		return err
	}
	for i := range data {
		data[i].Effective &= uint32(who.Capabilities >> (32 * i))
	}
	return unix.Capset(&header, &data[0])
}
