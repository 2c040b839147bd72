package files

import (
	"github.com/sandlock/sandlock/dispatch"
	"github.com/sandlock/sandlock/fsvirt/walk"
	"golang.org/x/sys/unix"
)

// entry says in which registers a call names a directory's entry.
type entry struct{ dir, path int }

// changes are the calls that make, remove or rename entries, or change a file by
// its name. They are performed here where something is denied inside of an open
// tree: else a denied file could be given another name, or one be put in its
// place.
var changes = map[string]func(*Filter, *dispatch.Call) dispatch.Action{
	"link": func(f *Filter, c *dispatch.Call) dispatch.Action { return f.link(c, entry{none, 0}, entry{none, 1}, 0) },
	"linkat": func(f *Filter, c *dispatch.Call) dispatch.Action {
		return f.link(c, entry{0, 1}, entry{2, 3}, c.Int(4))
	},
	"rename": func(f *Filter, c *dispatch.Call) dispatch.Action {
		return f.rename(c, entry{none, 0}, entry{none, 1}, 0)
	},
	"renameat": func(f *Filter, c *dispatch.Call) dispatch.Action { return f.rename(c, entry{0, 1}, entry{2, 3}, 0) },
	"renameat2": func(f *Filter, c *dispatch.Call) dispatch.Action {
		return f.rename(c, entry{0, 1}, entry{2, 3}, uint(c.Int(4)))
	},
	"unlink":   func(f *Filter, c *dispatch.Call) dispatch.Action { return f.unlink(c, entry{none, 0}, 0) },
	"unlinkat": func(f *Filter, c *dispatch.Call) dispatch.Action { return f.unlink(c, entry{0, 1}, c.Int(2)) },
	"rmdir": func(f *Filter, c *dispatch.Call) dispatch.Action {
		return f.unlink(c, entry{none, 0}, unix.AT_REMOVEDIR)
	},
	"symlink":   func(f *Filter, c *dispatch.Call) dispatch.Action { return f.symlink(c, 0, entry{none, 1}) },
	"symlinkat": func(f *Filter, c *dispatch.Call) dispatch.Action { return f.symlink(c, 0, entry{1, 2}) },
	"mkdir":     func(f *Filter, c *dispatch.Call) dispatch.Action { return f.mkdir(c, entry{none, 0}, c.Arg(1)) },
	"mkdirat":   func(f *Filter, c *dispatch.Call) dispatch.Action { return f.mkdir(c, entry{0, 1}, c.Arg(2)) },
	"mknod":     func(f *Filter, c *dispatch.Call) dispatch.Action { return f.mknod(c, entry{none, 0}, c.Arg(1)) },
	"mknodat":   func(f *Filter, c *dispatch.Call) dispatch.Action { return f.mknod(c, entry{0, 1}, c.Arg(2)) },
	"truncate":  (*Filter).truncate,
}

func changeCalls() []string {
	var names []string
	for name := range changes {
		names = append(names, name)
	}
	return names
}

func (f *Filter) change(c *dispatch.Call) dispatch.Action { return changes[c.Name()](f, c) }

func (e entry) how(c *dispatch.Call) (walk.How, error) {
	h := walk.How{Dir: unix.AT_FDCWD, NoFollow: true}
	if e.dir != none {
		h.Dir = c.Int(e.dir)
	}
	path, err := c.ReadString(c.Arg(e.path), walk.PathMax)
	h.Path = path
	return h, err
}

// entry pins an entry that may be made, removed or renamed. The caller closes it.
func (f *Filter) entry(c *dispatch.Call, e entry) (p walk.Place, a dispatch.Action, ok bool) {
	if p, a, ok = f.directory(c, e); !ok {
		return p, a, false
	}
	if a, ok = f.judgeHolds(c, &p); !ok {
		p.Close()
	}
	return p, a, ok
}

// directory pins an entry that may become a directory. A denied place may lie in
// it, for it is then in what was made and not somewhere else, as through a link.
// The caller closes it.
func (f *Filter) directory(c *dispatch.Call, e entry) (p walk.Place, a dispatch.Action, ok bool) {
	h, err := e.how(c)
	if err == nil {
		p, err = f.Walker.Place(c, h)
	}
	if err != nil {
		return p, dispatch.Fail(err), false
	}
	if a, ok = f.judgeEntry(c, &p); !ok {
		p.Close()
	}
	return p, a, ok
}

// judgeHolds refuses an entry that a denied place lies in.
func (f *Filter) judgeHolds(c *dispatch.Call, p *walk.Place) (a dispatch.Action, ok bool) {
	at := &p.Object
	if at.FD < 0 {
		at = &p.Parent
	}
	name, placed, err := named(at)
	if at == &p.Parent {
		name = join(name, p.Name)
	}
	if err != nil {
		return dispatch.Fail(err), false
	}
	holds := false
	if placed {
		holds, err = f.Rules.Holds(&p.Object, name)
	}
	switch {
	case err != nil:
		return dispatch.Fail(err), false
	case holds:
		return f.refuse(c, name, "something denied lies in it, which keeps its name", "", ""), false
	}
	return dispatch.Action{}, true
}

// entryName is the name for a call in the pinned directory.
func entryName(p *walk.Place) string {
	if p.Slash {
		return p.Name + "/"
	}
	return p.Name
}

func (f *Filter) unlink(c *dispatch.Call, e entry, flags int) dispatch.Action {
	p, a, ok := f.entry(c, e)
	if !ok {
		return a
	}
	defer p.Close()
	_, err := f.as(c, func() (int, error) { return 0, unix.Unlinkat(p.Parent.FD, entryName(&p), flags) })
	return dispatch.Result(0, err)
}

func (f *Filter) rename(c *dispatch.Call, from, to entry, flags uint) dispatch.Action {
	if flags&^(unix.RENAME_NOREPLACE|unix.RENAME_EXCHANGE) != 0 {
		return dispatch.Errno(unix.EINVAL) // RENAME_WHITEOUT makes a device
	}
	p, a, ok := f.entry(c, from)
	if !ok {
		return a
	}
	defer p.Close()
	q, a, ok := f.entry(c, to)
	if !ok {
		return a
	}
	defer q.Close()
	_, err := f.as(c, func() (int, error) {
		return 0, unix.Renameat2(p.Parent.FD, entryName(&p), q.Parent.FD, entryName(&q), flags)
	})
	return dispatch.Result(0, err)
}

// link needs the right to write on both sides: a file that may only be read must
// not get a name where it may be written.
func (f *Filter) link(c *dispatch.Call, from, to entry, flags int) dispatch.Action {
	if flags&^(unix.AT_SYMLINK_FOLLOW|unix.AT_EMPTY_PATH) != 0 {
		return dispatch.Errno(unix.EINVAL)
	}
	h, err := from.how(c)
	if err != nil {
		return dispatch.Fail(err)
	}
	h.NoFollow, h.Empty = flags&unix.AT_SYMLINK_FOLLOW == 0, flags&unix.AT_EMPTY_PATH != 0
	o, err := f.Walker.Walk(c, h)
	if err != nil {
		return dispatch.Fail(err)
	}
	defer o.Close()
	if o.InProc() {
		return dispatch.Errno(unix.EPERM)
	}
	if a, ok := f.judge(c, &o, Write); !ok {
		return a
	}
	p, a, ok := f.entry(c, to)
	if !ok {
		return a
	}
	defer p.Close()
	_, err = f.as(c, func() (int, error) {
		return 0, unix.Linkat(unix.AT_FDCWD, fdPath(o.FD), p.Parent.FD, entryName(&p), unix.AT_SYMLINK_FOLLOW)
	})
	return dispatch.Result(0, err)
}

func (f *Filter) symlink(c *dispatch.Call, target int, e entry) dispatch.Action {
	text, err := c.ReadString(c.Arg(target), walk.PathMax)
	if err != nil {
		return dispatch.Fail(err)
	}
	p, a, ok := f.entry(c, e)
	if !ok {
		return a
	}
	defer p.Close()
	_, err = f.as(c, func() (int, error) { return 0, unix.Symlinkat(string(text), p.Parent.FD, entryName(&p)) })
	return dispatch.Result(0, err)
}

func (f *Filter) mkdir(c *dispatch.Call, e entry, mode uint64) dispatch.Action {
	p, a, ok := f.directory(c, e)
	if !ok {
		return a
	}
	defer p.Close()
	_, err := f.making(c, func() (int, error) { return 0, unix.Mkdirat(p.Parent.FD, entryName(&p), uint32(mode)&0o7777) })
	return dispatch.Result(0, err)
}

func (f *Filter) mknod(c *dispatch.Call, e entry, mode uint64) dispatch.Action {
	switch uint32(mode) & unix.S_IFMT {
	case unix.S_IFCHR, unix.S_IFBLK:
		return dispatch.Errno(unix.EPERM)
	}
	p, a, ok := f.entry(c, e)
	if !ok {
		return a
	}
	defer p.Close()
	_, err := f.making(c, func() (int, error) { return 0, unix.Mknodat(p.Parent.FD, entryName(&p), uint32(mode), 0) })
	return dispatch.Result(0, err)
}

func (f *Filter) truncate(c *dispatch.Call) dispatch.Action {
	h, err := entry{none, 0}.how(c)
	if err != nil {
		return dispatch.Fail(err)
	}
	h.NoFollow = false
	o, err := f.Walker.Walk(c, h)
	if err != nil {
		return dispatch.Fail(err)
	}
	defer o.Close()
	if o.Stat.Mode&unix.S_IFMT == unix.S_IFDIR {
		return dispatch.Errno(unix.EISDIR)
	}
	if o.InProc() || blocks(&o) {
		return dispatch.Errno(unix.EINVAL)
	}
	if a, ok := f.judge(c, &o, Write); !ok {
		return a
	}
	_, err = f.as(c, func() (int, error) { return 0, unix.Truncate(fdPath(o.FD), int64(c.Arg(1))) })
	return dispatch.Result(0, err)
}

// exec refuses a denied program. The kernel performs the call and reads the path
// once more, so a program that wins a race against itself could execute a denied
// program: it runs confined as ever, and cannot be read.
func (f *Filter) exec(c *dispatch.Call) dispatch.Action {
	e, flags := entry{none, 0}, 0
	if c.Nr() == unix.SYS_EXECVEAT {
		e, flags = entry{0, 1}, c.Int(4)
	}
	h, err := e.how(c)
	if err != nil {
		return dispatch.Fail(err)
	}
	h.NoFollow, h.Empty = flags&unix.AT_SYMLINK_NOFOLLOW != 0, flags&unix.AT_EMPTY_PATH != 0
	o, err := f.Walker.Walk(c, h)
	if err != nil {
		return dispatch.Fail(err)
	}
	defer o.Close()
	name, placed, err := named(&o)
	if err != nil {
		return dispatch.Fail(err)
	}
	if !placed {
		return dispatch.Continue()
	}
	rule, reason, err := f.Rules.Denied(&o, name)
	switch {
	case err != nil:
		return dispatch.Fail(err)
	case rule != "":
		return f.refuse(c, name, reason, "--fs-deny "+rule, "")
	}
	return dispatch.Continue()
}
