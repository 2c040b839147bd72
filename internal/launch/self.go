package launch

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// HardenSelf makes the calling process unreadable for its children and the
// reaper of all their descendants. It is for a process that is sandlock's own.
func HardenSelf() error {
	if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
		return fmt.Errorf("child subreaper: %w", err)
	}
	if err := unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0); err != nil {
		return fmt.Errorf("not dumpable: %w", err)
	}
	return nil
}
