// Package walk follows a path as a process of the sandbox would, and pins what
// it leads to. The object is judged and then used through its descriptor: no
// path is ever resolved twice.
package walk

import (
	"bytes"
	"fmt"
	"strconv"

	"golang.org/x/sys/unix"
)

// PathMax is the longest path with its NUL (limits.h).
const PathMax = 4096

// maxLinks is how many symbolic links a path may lead through (path_resolution(7)).
const maxLinks = 40

// Caller is the thread whose path is followed; *dispatch.Call is one.
type Caller interface {
	PID() int               // number of the calling thread
	FD(fd int) (int, error) // a copy of a descriptor, owned by who asked
	Valid() error           // an error when the thread no longer waits
}

// How says where a path begins and how it is followed.
type How struct {
	Dir      int    // a descriptor of the caller, or unix.AT_FDCWD
	Path     []byte // without NUL; any bytes
	NoFollow bool   // a symbolic link at the end is the object
	Empty    bool   // an empty path is the object of Dir, as with AT_EMPTY_PATH
	Resolve  uint64 // RESOLVE_* of openat2(2); ResolveCached has no effect
}

// ResolveCached is RESOLVE_CACHED of linux/openat2.h.
const ResolveCached = 0x20

// KnownResolve are the bits of openat2(2) that a walk understands.
const KnownResolve = unix.RESOLVE_NO_XDEV | unix.RESOLVE_NO_MAGICLINKS | unix.RESOLVE_NO_SYMLINKS |
	unix.RESOLVE_BENEATH | unix.RESOLVE_IN_ROOT | ResolveCached

const scoped = unix.RESOLVE_BENEATH | unix.RESOLVE_IN_ROOT

// Object is a pinned file. FD is an O_PATH descriptor, close-on-exec, owned by
// whoever got the Object; -1 means that there is none.
type Object struct {
	FD   int
	Stat unix.Stat_t // as it was when it was pinned
	proc bool
}

// Close closes the descriptor.
func (o *Object) Close() {
	if o.FD >= 0 {
		unix.Close(o.FD)
		o.FD = -1
	}
}

// Path returns the object's name from the supervisor's root, as proc(5) gives it
// for a descriptor: a removed file ends in " (deleted)". It is for rules that are
// prefixes and for messages, never for another look-up.
func (o *Object) Path() (string, error) {
	buf := make([]byte, PathMax)
	n, err := unix.Readlink(fdPath(o.FD), buf)
	if err != nil {
		return "", err
	}
	return string(buf[:n]), nil
}

// InProc tells whether the object is in a proc file system.
func (o *Object) InProc() bool { return o.proc }

// Same tells whether both are the same file.
func (o *Object) Same(p *Object) bool {
	return o.Stat.Dev == p.Stat.Dev && o.Stat.Ino == p.Stat.Ino
}

// Place is an entry of a pinned directory. Object is what the entry held when it
// was looked at, FD -1 when it held nothing. Name may be "." or "..", and Slash
// tells that the path ended in one. Close closes both.
type Place struct {
	Parent Object
	Name   string
	Slash  bool
	Object Object
}

// Close closes both descriptors.
func (p *Place) Close() {
	p.Parent.Close()
	p.Object.Close()
}

// Walker follows paths. It is safe for concurrent use and holds no descriptor.
type Walker struct {
	procDev uint64
	member  func(pid int) bool
}

// New returns a walker for processes that share the supervisor's root: chroot(2)
// and its like are denied to them. member tells whether a process belongs to the
// sandbox; only such a process's links in /proc are followed. nil means the
// caller's own process only.
func New(member func(pid int) bool) (*Walker, error) {
	var st unix.Stat_t
	if err := unix.Stat("/proc", &st); err != nil {
		return nil, fmt.Errorf("/proc: %w", err)
	}
	return &Walker{procDev: st.Dev, member: member}, nil
}

// Walk pins what a path leads to. Its errors are the errnos that open(2) has. It
// blocks as long as the file systems on the way do.
func (w *Walker) Walk(c Caller, h How) (Object, error) {
	base, err := w.base(c, &h)
	if err != nil {
		return Object{FD: -1}, err
	}
	defer base.close()
	if len(h.Path) == 0 {
		return pin(unix.Dup(base.fd))
	}
	o, err := pin(openat2(base.fd, string(h.Path), pathFlags(h.NoFollow), h.Resolve|unix.RESOLVE_NO_MAGICLINKS))
	switch {
	case err == nil && !o.proc:
		return o, nil
	case err == unix.ENOENT && absent(base.fd, &h):
		return o, err
	}
	o.Close()
	// What /proc shows depends on who looks, and so do the errors on the way.
	s := steps{w: w, c: c, h: h}
	p, err := s.run(base.fd)
	p.Parent.Close()
	if err == nil && p.Object.FD < 0 {
		err = unix.ENOENT
	}
	return p.Object, err
}

// Place pins the directory that a path's last component is looked up in, and
// what it holds there. With a symbolic link at the end it is that of the link's
// target, unless NoFollow is set. It blocks as Walk does.
func (w *Walker) Place(c Caller, h How) (Place, error) {
	none := Place{Parent: Object{FD: -1}, Object: Object{FD: -1}}
	base, err := w.base(c, &h)
	if err != nil {
		return none, err
	}
	defer base.close()
	if len(h.Path) == 0 {
		return none, unix.ENOENT
	}
	if dir, name, plain := split(h.Path); plain {
		p := none
		p.Parent, err = pin(openat2(base.fd, string(dir), unix.O_PATH|unix.O_CLOEXEC|unix.O_DIRECTORY, h.Resolve|unix.RESOLVE_NO_MAGICLINKS))
		if err == nil && !p.Parent.proc {
			p.Name = string(name)
			p.Object, err = pin(openat2(p.Parent.FD, p.Name, pathFlags(true), h.Resolve&^scoped))
			link := err == nil && p.Object.Stat.Mode&unix.S_IFMT == unix.S_IFLNK
			if err == unix.ENOENT || err == nil && !p.Object.proc && (h.NoFollow || !link) {
				return p, nil
			}
		}
		p.Close()
	}
	s := steps{w: w, c: c, h: h}
	return s.run(base.fd)
}

// base is where a path starts.
type base struct {
	fd    int
	owned bool
}

func (b base) close() {
	if b.owned {
		unix.Close(b.fd)
	}
}

func (w *Walker) base(c Caller, h *How) (base, error) {
	switch {
	case len(h.Path) >= PathMax:
		return base{}, unix.ENAMETOOLONG
	case bytes.IndexByte(h.Path, 0) >= 0 || h.Resolve&^KnownResolve != 0 || h.Resolve&scoped == scoped:
		return base{}, unix.EINVAL
	case len(h.Path) == 0 && !h.Empty:
		return base{}, unix.ENOENT
	}
	h.Resolve &^= ResolveCached
	switch {
	case len(h.Path) > 0 && h.Path[0] == '/' && h.Resolve&scoped == 0:
		return base{fd: unix.AT_FDCWD}, nil // an absolute path needs none
	case h.Dir != unix.AT_FDCWD:
		fd, err := c.FD(h.Dir)
		return base{fd, true}, err
	}
	fd, err := unix.Open("/proc/"+strconv.Itoa(c.PID())+"/cwd", unix.O_PATH|unix.O_CLOEXEC|unix.O_DIRECTORY, 0)
	if err != nil {
		return base{}, err
	}
	if err := c.Valid(); err != nil {
		unix.Close(fd)
		return base{}, err
	}
	return base{fd, true}, nil
}

// absent tells whether the error ENOENT was about the last component, in a
// directory that is the same for everybody.
func absent(base int, h *How) bool {
	dir, name, plain := split(h.Path)
	if !plain {
		return false
	}
	d, err := pin(openat2(base, string(dir), unix.O_PATH|unix.O_CLOEXEC|unix.O_DIRECTORY, h.Resolve|unix.RESOLVE_NO_MAGICLINKS))
	if err != nil {
		return false
	}
	defer d.Close()
	var st unix.Stat_t
	return !d.proc && unix.Fstatat(d.FD, string(name), &st, unix.AT_SYMLINK_NOFOLLOW) == unix.ENOENT
}

// split cuts off the last component. It is plain when it names an entry: it is
// not empty, "." or "..", and no slash follows.
func split(path []byte) (dir, name []byte, plain bool) {
	i := bytes.LastIndexByte(path, '/')
	dir, name = path[:i+1], path[i+1:]
	if i < 0 {
		dir = []byte(".")
	}
	return dir, name, len(name) > 0 && string(name) != "." && string(name) != ".."
}

func pathFlags(noFollow bool) int {
	if noFollow {
		return unix.O_PATH | unix.O_CLOEXEC | unix.O_NOFOLLOW
	}
	return unix.O_PATH | unix.O_CLOEXEC
}

func openat2(dir int, path string, flags int, resolve uint64) (int, error) {
	return unix.Openat2(dir, path, &unix.OpenHow{Flags: uint64(flags), Resolve: resolve})
}

// pin takes over a descriptor and looks at what it holds.
func pin(fd int, err error) (Object, error) {
	if err != nil {
		return Object{FD: -1}, err
	}
	o := Object{FD: fd}
	err = unix.Fstat(fd, &o.Stat)
	if err == nil && unix.Major(o.Stat.Dev) == 0 { // no disk, as with /proc
		o.proc, err = inProc(fd)
	}
	if err != nil {
		o.Close()
	}
	return o, err
}

func fdPath(fd int) string { return "/proc/self/fd/" + strconv.Itoa(fd) }
