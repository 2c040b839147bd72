package launch

import (
	"errors"

	"github.com/sandlock/sandlock/internal/sys"
	"golang.org/x/sys/unix"
)

// Rights on files, as Landlock knows them (landlock(7), up to ABI 5).
const (
	readFiles = unix.LANDLOCK_ACCESS_FS_EXECUTE | unix.LANDLOCK_ACCESS_FS_READ_FILE | unix.LANDLOCK_ACCESS_FS_READ_DIR
	allFiles  = unix.LANDLOCK_ACCESS_FS_IOCTL_DEV<<1 - 1
	// What a rule on anything but a directory may name.
	noDirectory = unix.LANDLOCK_ACCESS_FS_EXECUTE | unix.LANDLOCK_ACCESS_FS_WRITE_FILE | unix.LANDLOCK_ACCESS_FS_READ_FILE |
		unix.LANDLOCK_ACCESS_FS_TRUNCATE | unix.LANDLOCK_ACCESS_FS_IOCTL_DEV
)

// FileRule opens the file, or the tree below the directory, at Path: for reading
// and executing, and with Write for everything else too. An Optional one that is
// not there is passed over.
type FileRule struct {
	Path            string
	Write, Optional bool
}

// addTo grants the rights of the rule, as far as the ruleset handles them.
func (f FileRule) addTo(ruleset int, handled uint64) error {
	fd, err := unix.Open(f.Path, unix.O_PATH|unix.O_CLOEXEC, 0)
	if f.Optional && (errors.Is(err, unix.ENOENT) || errors.Is(err, unix.EACCES) || errors.Is(err, unix.ENOTDIR)) {
		return nil
	}
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return err
	}
	rights := uint64(readFiles)
	if f.Write {
		rights = allFiles
	}
	if st.Mode&unix.S_IFMT != unix.S_IFDIR {
		rights &= noDirectory
	}
	rights &= handled
	return sys.LandlockAddPath(ruleset, fd, rights)
}
