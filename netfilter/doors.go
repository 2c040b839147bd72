package netfilter

import (
	"slices"

	"golang.org/x/sys/unix"
)

// door is a unix socket that the user opened for the sandbox.
type door struct {
	path string
	pin  int // keeps the inode, and with it its number; -1 where no socket was there
	at   inode
}

type inode struct{ dev, number uint64 }

func inodeOf(st *unix.Stat_t) inode { return inode{uint64(st.Dev), st.Ino} }

// openDoors pins the sockets that are there. The program may be able to rename
// files: a path that was a socket at the start stands for that socket, and for no
// other that takes its name. A path where there was none is taken by its name.
func openDoors(paths []string) []door {
	out := make([]door, 0, len(paths))
	for _, p := range paths {
		d := door{path: p, pin: -1}
		var st unix.Stat_t
		if fd, err := unix.Open(p, unix.O_PATH|unix.O_CLOEXEC, 0); err == nil {
			if unix.Fstat(fd, &st) == nil && st.Mode&unix.S_IFMT == unix.S_IFSOCK {
				d.pin, d.at = fd, inodeOf(&st)
			} else {
				unix.Close(fd)
			}
		}
		out = append(out, d)
	}
	return out
}

// open tells whether a door leads to the socket file with that status and path.
func (f *Filter) open(st *unix.Stat_t, path string) bool {
	return slices.ContainsFunc(f.doors, func(d door) bool {
		if d.pin >= 0 {
			return d.at == inodeOf(st)
		}
		return d.path == path
	})
}

func (f *Filter) closeDoors() {
	for _, d := range f.doors {
		if d.pin >= 0 {
			unix.Close(d.pin)
		}
	}
}
