package launch

import (
	"fmt"
	"syscall"

	"golang.org/x/sys/unix"
)

// ConfineFiles puts all threads of the calling process into a Landlock domain that
// opens the given files and no others. It cannot be undone. It fails where the
// program was built with cgo: Go does not know all threads then.
func ConfineFiles(files []FileRule) error {
	layers, err := layersOf(KernelABI())
	if err != nil {
		return err
	}
	set, err := Layers{files: layers.files}.ruleset(files)
	if err != nil {
		return fmt.Errorf("landlock: %w", err)
	}
	defer unix.Close(set)
	if _, _, e := syscall.AllThreadsSyscall6(unix.SYS_PRCTL, unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0, 0); e != 0 {
		return fmt.Errorf("no_new_privs: %w (a program with cgo cannot be confined as a whole)", e)
	}
	if _, _, e := syscall.AllThreadsSyscall(unix.SYS_LANDLOCK_RESTRICT_SELF, uintptr(set), 0, 0); e != 0 {
		return fmt.Errorf("landlock: %w", e)
	}
	return nil
}
