package sys

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

const landlockVersion = 1 // LANDLOCK_CREATE_RULESET_VERSION

// LandlockABI returns the Landlock version of the kernel, 0 where there is none
// (landlock_create_ruleset(2)).
func LandlockABI() int {
	n, _, e := unix.RawSyscall(unix.SYS_LANDLOCK_CREATE_RULESET, 0, 0, landlockVersion)
	if e != 0 {
		return 0
	}
	return int(n)
}

type landlockAttr struct {
	accessFS, accessNet, scoped uint64
}

// LandlockRuleset returns a ruleset, owned by the caller and close-on-exec, that
// handles the given rights on files and TCP ports and the scopes, and grants none
// of them. net needs ABI 4, scoped ABI 6; pass 0 below.
func LandlockRuleset(fs, net, scoped uint64) (int, error) {
	attr := landlockAttr{accessFS: fs, accessNet: net, scoped: scoped}
	size := unsafe.Sizeof(attr)
	switch {
	case scoped == 0 && net == 0:
		size -= 16 // both fields are unknown before ABI 4
	case scoped == 0:
		size -= 8 // the field is unknown before ABI 6
	}
	n, _, e := unix.RawSyscall(unix.SYS_LANDLOCK_CREATE_RULESET, uintptr(unsafe.Pointer(&attr)), size, 0)
	if e != 0 {
		return -1, e
	}
	return int(n), nil
}

// LandlockRestrict puts the calling thread, and what it clones, into the domain
// of the ruleset for ever. The thread needs no_new_privs or CAP_SYS_ADMIN.
func LandlockRestrict(ruleset int) error {
	_, _, e := unix.RawSyscall(unix.SYS_LANDLOCK_RESTRICT_SELF, uintptr(ruleset), 0, 0)
	return errno(e)
}

// landlockPath is struct landlock_path_beneath_attr: packed, 12 bytes.
type landlockPath struct {
	access [2]uint32 // one uint64; two halves keep the structure packed
	parent int32
}

// LandlockAddPath grants rights on the file behind an O_PATH descriptor and, if it
// is a directory, on all below it. The rights must be among those that the ruleset
// handles.
func LandlockAddPath(ruleset, fd int, rights uint64) error {
	const pathBeneath = 1 // LANDLOCK_RULE_PATH_BENEATH
	attr := landlockPath{access: [2]uint32{uint32(rights), uint32(rights >> 32)}, parent: int32(fd)}
	_, _, e := unix.RawSyscall6(unix.SYS_LANDLOCK_ADD_RULE, uintptr(ruleset), pathBeneath, uintptr(unsafe.Pointer(&attr)), 0, 0, 0)
	return errno(e)
}

// LandlockDenyAll returns a ruleset, owned by the caller and close-on-exec, that
// handles every right of the kernel's ABI over files, and net and scoped as
// LandlockRuleset does, and grants none.
func LandlockDenyAll(net, scoped uint64) (int, error) {
	// The rights over files of each ABI, from 1 on (landlock(7)).
	rights := [...]uint64{0, 1<<13 - 1, 1<<14 - 1, 1<<15 - 1, 1<<15 - 1, 1<<16 - 1}
	abi := LandlockABI()
	attr := landlockAttr{accessFS: rights[min(abi, len(rights)-1)], accessNet: net, scoped: scoped}
	n, _, e := unix.RawSyscall(unix.SYS_LANDLOCK_CREATE_RULESET, uintptr(unsafe.Pointer(&attr)), unsafe.Sizeof(attr), 0)
	if e != 0 {
		return -1, e
	}
	return int(n), nil
}
