// Package open reads the open family's arguments: open, openat, openat2 and
// creat are one request.
package open

import (
	"encoding/binary"

	"github.com/sandlock/sandlock/fsvirt/walk"
	"github.com/sandlock/sandlock/internal/sys"
	"golang.org/x/sys/unix"
)

// Request is one open, whichever call made it.
type Request struct {
	Dir     int    // a descriptor of the caller, or unix.AT_FDCWD
	Path    []byte // without NUL
	Flags   int    // O_*, as the kernel takes them: unknown bits of the old calls are dropped
	Mode    uint32 // permission bits for a new file, before the umask
	Resolve uint64 // RESOLVE_*; 0 but for openat2
}

// Call is what a request is read from; *dispatch.Call is one.
type Call interface {
	Nr() int
	Arg(i int) uint64
	Int(i int) int
	Read(addr uint64, buf []byte) error
	ReadString(addr uint64, max int) ([]byte, error)
}

// Syscalls returns the family's numbers on this machine: arm64 has no open and
// no creat. A handler that is keyed on paths is registered for all of them.
func Syscalls() []int {
	var nrs []int
	for _, name := range []string{"open", "openat", "openat2", "creat"} {
		if nr, ok := sys.SyscallNumber(name); ok {
			nrs = append(nrs, nr)
		}
	}
	return nrs
}

// Of fcntl.h (linux/fs.h, VALID_OPEN_FLAGS and __O_TMPFILE) and openat2(2).
const (
	validFlags = unix.O_ACCMODE | unix.O_CREAT | unix.O_EXCL | unix.O_NOCTTY | unix.O_TRUNC | unix.O_APPEND |
		unix.O_NONBLOCK | unix.O_SYNC | unix.O_DSYNC | unix.O_ASYNC | unix.O_DIRECT | largeFile | unix.O_DIRECTORY |
		unix.O_NOFOLLOW | unix.O_NOATIME | unix.O_CLOEXEC | unix.O_PATH | tmpFile
	pathFlags = unix.O_DIRECTORY | unix.O_NOFOLLOW | unix.O_PATH | unix.O_CLOEXEC
	tmpFile   = unix.O_TMPFILE &^ unix.O_DIRECTORY
	modeBits  = 0o7777
	howSize   = 24
	howMax    = 4096 // a page
)

// Decode reads a request. Its errors are errnos that the call would have failed
// with, or dispatch.ErrGone.
func Decode(c Call) (Request, error) {
	r := Request{Dir: unix.AT_FDCWD}
	path, err := uint64(0), error(nil)
	switch name := sys.SyscallName(c.Nr()); name {
	case "open":
		path = c.Arg(0)
		r.old(c.Int(1), c.Arg(2))
	case "creat":
		path = c.Arg(0)
		r.old(unix.O_CREAT|unix.O_WRONLY|unix.O_TRUNC, c.Arg(1))
	case "openat":
		r.Dir, path = c.Int(0), c.Arg(1)
		r.old(c.Int(2), c.Arg(3))
	case "openat2":
		r.Dir, path = c.Int(0), c.Arg(1)
		err = r.how(c, c.Arg(2), c.Arg(3))
	default:
		return r, unix.ENOSYS
	}
	if err != nil {
		return r, err
	}
	r.Path, err = c.ReadString(path, walk.PathMax)
	return r, err
}

// old takes the arguments of the calls that ignore what they do not know.
func (r *Request) old(flags int, mode uint64) {
	r.Flags = flags & validFlags
	if r.Flags&unix.O_PATH != 0 {
		r.Flags &= pathFlags
	}
	if r.Creates() {
		r.Mode = uint32(mode) & modeBits
	}
}

func (r *Request) how(c Call, addr, size uint64) error {
	switch {
	case size < howSize:
		return unix.EINVAL
	case size > howMax:
		return unix.E2BIG
	}
	buf := make([]byte, size)
	if err := c.Read(addr, buf); err != nil {
		return err
	}
	return r.parseHow(buf)
}

// parseHow reads struct open_how; size is at least howSize.
func (r *Request) parseHow(buf []byte) error {
	for _, b := range buf[howSize:] {
		if b != 0 {
			return unix.E2BIG
		}
	}
	flags, mode := binary.NativeEndian.Uint64(buf), binary.NativeEndian.Uint64(buf[8:])
	r.Resolve = binary.NativeEndian.Uint64(buf[16:])
	const scoped = unix.RESOLVE_BENEATH | unix.RESOLVE_IN_ROOT
	if flags&^validFlags != 0 || r.Resolve&^walk.KnownResolve != 0 || r.Resolve&scoped == scoped {
		return unix.EINVAL
	}
	r.Flags = int(flags)
	switch {
	case r.Creates() && mode&^modeBits != 0, !r.Creates() && mode != 0:
		return unix.EINVAL
	case r.Flags&unix.O_PATH != 0 && r.Flags&^pathFlags != 0:
		return unix.EINVAL
	}
	r.Mode = uint32(mode)
	return nil
}

// Creates tells whether the request may make a file, named or not.
func (r *Request) Creates() bool { return r.Flags&(unix.O_CREAT|tmpFile) != 0 }

// Writes tells whether the request may change a file or a directory.
func (r *Request) Writes() bool {
	return r.Flags&unix.O_PATH == 0 && (r.Flags&unix.O_ACCMODE != unix.O_RDONLY || r.Flags&unix.O_TRUNC != 0 || r.Creates())
}

// How is the walk to the object that the request opens.
func (r *Request) How() walk.How {
	return walk.How{Dir: r.Dir, Path: r.Path, Resolve: r.Resolve,
		NoFollow: r.Flags&unix.O_NOFOLLOW != 0 || r.Flags&(unix.O_CREAT|unix.O_EXCL) == unix.O_CREAT|unix.O_EXCL}
}
