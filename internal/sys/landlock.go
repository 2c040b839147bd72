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
// handles the given access rights and scopes and grants none of them. net needs
// ABI 4, scoped ABI 6; pass 0 below.
func LandlockRuleset(net, scoped uint64) (int, error) {
	attr := landlockAttr{accessNet: net, scoped: scoped}
	size := unsafe.Sizeof(attr)
	if scoped == 0 {
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
