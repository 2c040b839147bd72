package files

import (
	"bytes"
	"context"
	"strconv"

	"github.com/sandlock/sandlock/dispatch"
	"github.com/sandlock/sandlock/fsvirt/open"
	"github.com/sandlock/sandlock/fsvirt/walk"
	"golang.org/x/sys/unix"
)

// maxRaces is how often a creation is tried again when others make and remove the
// name meanwhile.
const maxRaces = 16

// open answers an open. What Landlock closes as a whole (/proc, and whatever no
// rule opens) is performed or refused here. The rest goes on to the kernel, which
// judges it again; but where something is denied inside of an open tree, the
// kernel cannot, and every open is performed here, on the object that was judged.
func (f *Filter) open(c *dispatch.Call) dispatch.Action {
	r, err := open.Decode(c)
	if err != nil {
		return dispatch.Fail(err)
	}
	strict := f.Rules.HasDenied()
	if !strict && f.static(c, &r) {
		return dispatch.Continue()
	}
	if r.Flags&unix.O_CREAT != 0 {
		return f.create(c, &r, strict)
	}
	o, err := f.Walker.Walk(c, r.How())
	if err != nil {
		return failed(err, strict)
	}
	keep := false
	defer func() {
		if !keep {
			o.Close()
		}
	}()
	a, perform := f.existing(c, &r, &o, strict)
	if !perform {
		return a
	}
	if blocks(&o) {
		keep = true
		return f.waitOpen(c, r, o)
	}
	return f.reopen(c, &r, &o)
}

// static tells whether a request reads by a plain name in a place that leads
// nowhere else: most opens of programs and libraries do. The kernel judges it, and
// a link that does lead to /proc after all is closed.
func (f *Filter) static(c *dispatch.Call, r *open.Request) bool {
	if r.Flags&(unix.O_CREAT|unix.O_PATH) != 0 || r.Writes() || r.Resolve != 0 || hasDots(r.Path) {
		return false
	}
	if len(r.Path) > 0 && r.Path[0] == '/' {
		return f.inStatic(r.Path)
	}
	// Where the caller is, as its kernel names it: that name has no links.
	link := "/proc/" + strconv.Itoa(c.PID()) + "/cwd"
	if r.Dir != unix.AT_FDCWD {
		link = "/proc/" + strconv.Itoa(c.PID()) + "/fd/" + strconv.Itoa(r.Dir)
	}
	var buf [256]byte // a longer name is walked
	n, err := unix.Readlink(link, buf[:])
	return err == nil && n < len(buf) && f.inStatic(buf[:n])
}

func (f *Filter) inStatic(name []byte) bool {
	for _, place := range f.Static {
		if len(name) >= len(place) && string(name[:len(place)]) == place && (len(name) == len(place) || name[len(place)] == '/') {
			return true
		}
	}
	return false
}

// hasDots tells whether a path has a component that begins with "..".
func hasDots(path []byte) bool {
	return bytes.HasPrefix(path, []byte("..")) || bytes.Contains(path, []byte("/.."))
}

// failed answers a walk that led nowhere: the kernel fails the same way.
func failed(err error, strict bool) dispatch.Action {
	if strict {
		return dispatch.Fail(err)
	}
	return dispatch.Continue()
}

// existing judges an open of an object that is there. perform tells that the
// open is to be performed here.
func (f *Filter) existing(c *dispatch.Call, r *open.Request, o *walk.Object, strict bool) (a dispatch.Action, perform bool) {
	want := Read
	if r.Writes() {
		want = Write
	}
	if o.InProc() {
		return f.Proc(c, r, o), false
	}
	if r.Flags&unix.O_PATH != 0 {
		// Such a descriptor opens nothing: whatever is done with it is judged again.
		// The kernel takes none of them from us either (seccomp_unotify(2), EBADF).
		a, _ := f.judge(c, o, None)
		return a, false
	}
	if want == Read && f.listed[idOf(&o.Stat)] {
		return f.judge(c, o, None) // unless it is denied
	}
	if a, ok := f.judge(c, o, want); !ok {
		return a, false
	}
	return dispatch.Continue(), strict
}

// blocks tells whether opening may wait for others.
func blocks(o *walk.Object) bool {
	switch o.Stat.Mode & unix.S_IFMT {
	case unix.S_IFREG, unix.S_IFDIR, unix.S_IFLNK:
		return false
	}
	return true
}

// waitOpen opens an object that others may have to join first, and owns it. A
// caller that goes away meanwhile lets the open of a FIFO end: we join it.
func (f *Filter) waitOpen(c *dispatch.Call, r open.Request, o walk.Object) dispatch.Action {
	return dispatch.Defer(func(ctx context.Context) dispatch.Action {
		defer o.Close()
		if o.Stat.Mode&unix.S_IFMT == unix.S_IFIFO {
			stop := context.AfterFunc(ctx, func() {
				if fd, err := unix.Open(fdPath(o.FD), unix.O_RDWR|unix.O_NONBLOCK|unix.O_CLOEXEC, 0); err == nil {
					unix.Close(fd)
				}
			})
			defer stop()
		}
		return f.reopen(c, &r, &o)
	})
}

// reopen opens a pinned object as the request asks.
func (f *Filter) reopen(c *dispatch.Call, r *open.Request, o *walk.Object) dispatch.Action {
	cloexec := r.Flags&unix.O_CLOEXEC != 0
	isDir := o.Stat.Mode&unix.S_IFMT == unix.S_IFDIR
	switch {
	case r.Flags&unix.O_DIRECTORY != 0 && r.Flags&unix.O_TMPFILE != unix.O_TMPFILE && !isDir:
		return dispatch.Errno(unix.ENOTDIR)
	case o.Stat.Mode&unix.S_IFMT == unix.S_IFLNK:
		return dispatch.Errno(unix.ELOOP)
	case o.Stat.Mode&unix.S_IFMT == unix.S_IFCHR && isTTY(o) && !sameSession(c.PID()):
		return dispatch.Errno(unix.ENXIO) // /dev/tty would be ours
	}
	as := f.as
	if r.Creates() { // a file without a name
		as = f.making
	}
	fd, err := as(c, func() (int, error) {
		flags := r.Flags&^(unix.O_CREAT|unix.O_NOFOLLOW) | unix.O_CLOEXEC | unix.O_NOCTTY
		return unix.Open(fdPath(o.FD), flags, r.Mode)
	})
	if err != nil {
		return dispatch.Fail(err)
	}
	return dispatch.InjectFD(fd, cloexec)
}

// ttyDevice is the number of /dev/tty (Documentation/admin-guide/devices.txt).
const ttyDevice = 5 << 8

func isTTY(o *walk.Object) bool { return o.Stat.Rdev == ttyDevice }

func sameSession(pid int) bool {
	theirs, err := unix.Getsid(pid)
	ours, err2 := unix.Getsid(0)
	return err == nil && err2 == nil && theirs == ours
}

// create answers an open with O_CREAT.
func (f *Filter) create(c *dispatch.Call, r *open.Request, strict bool) dispatch.Action {
	for range maxRaces {
		p, err := f.Walker.Place(c, r.How())
		if err != nil {
			return failed(err, strict)
		}
		a, again := f.createAt(c, r, &p, strict)
		p.Close()
		if !again {
			return a
		}
	}
	return dispatch.Errno(unix.EAGAIN)
}

func (f *Filter) createAt(c *dispatch.Call, r *open.Request, p *walk.Place, strict bool) (a dispatch.Action, again bool) {
	if p.Object.FD >= 0 {
		exclusive := r.Flags&unix.O_EXCL != 0
		switch {
		case exclusive && !p.Object.InProc():
			return dispatch.Errno(unix.EEXIST), false
		case p.Object.Stat.Mode&unix.S_IFMT == unix.S_IFDIR:
			return dispatch.Errno(unix.EISDIR), false
		}
		// A file that is there needs no right to be made.
		plain := *r
		plain.Flags &^= unix.O_CREAT
		a, perform := f.existing(c, &plain, &p.Object, strict)
		if !perform {
			return a, false
		}
		if !blocks(&p.Object) {
			return f.reopen(c, &plain, &p.Object), false
		}
		o := p.Object
		p.Object.FD = -1
		return f.waitOpen(c, plain, o), false
	}
	if p.Slash {
		return dispatch.Errno(unix.EISDIR), false
	}
	if a, ok := f.judgeEntry(c, p); !ok {
		return a, false
	}
	if !strict {
		return dispatch.Continue(), false
	}
	fd, err := f.making(c, func() (int, error) {
		flags := r.Flags&^unix.O_NOFOLLOW | unix.O_EXCL | unix.O_CLOEXEC | unix.O_NOCTTY
		return unix.Openat(p.Parent.FD, p.Name, flags, r.Mode)
	})
	if err == unix.EEXIST && r.Flags&unix.O_EXCL == 0 {
		return dispatch.Action{}, true
	}
	if err != nil {
		return dispatch.Fail(err), false
	}
	return dispatch.InjectFD(fd, r.Flags&unix.O_CLOEXEC != 0), false
}

// judgeEntry judges the making or removing of a directory's entry.
func (f *Filter) judgeEntry(c *dispatch.Call, p *walk.Place) (a dispatch.Action, ok bool) {
	dir, placed, err := named(&p.Parent)
	if err != nil {
		return dispatch.Fail(err), false
	}
	if !placed || p.Parent.InProc() {
		return dispatch.Errno(unix.EACCES), false
	}
	name := dir
	if p.Name != "." {
		name = join(dir, p.Name)
	}
	if p.Object.FD < 0 {
		return f.judgeName(c, &walk.Object{FD: -1}, name, Write, dir)
	}
	return f.judgeName(c, &p.Object, name, Write, name)
}

func join(dir, name string) string {
	if dir == "/" {
		return dir + name
	}
	return dir + "/" + name
}
