package files

import (
	"github.com/sandlock/sandlock/dispatch"
	"github.com/sandlock/sandlock/fsvirt/open"
	"github.com/sandlock/sandlock/fsvirt/walk"
	"github.com/sandlock/sandlock/internal/event"
	"github.com/sandlock/sandlock/internal/sys"
	"golang.org/x/sys/unix"
)

// Config is what a Filter works with.
type Config struct {
	Rules  *Rules
	Walker *walk.Walker
	// Proc answers opens that lead into a proc file system. It does not keep the
	// object. Landlock gives the command nothing there.
	Proc func(*dispatch.Call, *open.Request, *walk.Object) dispatch.Action
	// Listed are directories that the command may list although Landlock does not
	// open the tree below: something in it is closed.
	Listed []string
	// Static are files, and directories with all below, that the command cannot
	// change and that are known not to lead to /proc.
	Static []string
	Emit   func(event.Event) // never blocks
}

// Filter holds the file rules of one sandbox.
type Filter struct {
	Config
	listed map[identity]bool
}

// New returns the filter. It opens nothing.
func New(c Config) *Filter {
	f := &Filter{Config: c, listed: map[identity]bool{}}
	for _, path := range c.Listed {
		var st unix.Stat_t
		if unix.Stat(path, &st) == nil {
			f.listed[idOf(&st)] = true
		}
	}
	return f
}

// Register puts the handlers into the table: opens, the calls that change what
// Landlock does not govern, and, where something is denied inside of an open
// tree, all calls that could reach or rename it.
func (f *Filter) Register(t *dispatch.Table) {
	reg := func(name string, h dispatch.HandlerFunc, names ...string) {
		var nrs []int
		for _, n := range names {
			if nr, ok := sys.SyscallNumber(n); ok {
				nrs = append(nrs, nr)
			}
		}
		t.Builtin(dispatch.Registration{Name: name, Syscalls: nrs, Handler: h})
	}
	t.Builtin(dispatch.Registration{Name: "files.open", Syscalls: open.Syscalls(), Handler: dispatch.HandlerFunc(f.open)})
	reg("files.attributes", f.attributes, attributeCalls()...)
	if f.Rules.HasDenied() {
		reg("files.deny.exec", f.exec, "execve", "execveat")
		reg("files.deny.change", f.change, changeCalls()...)
	}
	for _, nr := range []uint32{fsIocSetFlags, fsIocSetXattr} {
		t.Deny(dispatch.Denial{Syscall: unix.SYS_IOCTL, Guard: dispatch.When(dispatch.Eq(1, nr)), Errno: unix.EPERM})
	}
	for _, name := range []string{"setxattrat", "removexattrat"} { // libraries fall back
		if nr, ok := sys.SyscallNumber(name); ok {
			t.Deny(dispatch.Denial{Syscall: nr, Errno: unix.ENOSYS})
		}
	}
}

// Of linux/fs.h: they change a file's attributes through a descriptor that is
// only open for reading.
const (
	fsIocSetFlags = 0x40086602 // FS_IOC_SETFLAGS
	fsIocSetXattr = 0x401c5820 // FS_IOC_FSSETXATTR
)

// refuse answers EACCES and says why.
func (f *Filter) refuse(c *dispatch.Call, name, reason, rule, allow string) dispatch.Action {
	f.Emit(event.Event{Kind: event.Deny, PID: int32(dispatch.TGID(c.PID())), Syscall: c.Name(), Protocol: "file", Path: name,
		Reason: reason, Rule: rule, AllowWith: allow})
	return dispatch.Errno(unix.EACCES)
}

// MayRead tells whether the rules let the command read an object.
func (f *Filter) MayRead(o *walk.Object) bool {
	name, placed, err := named(o)
	if err != nil || !placed {
		return err == nil
	}
	rule, _, err := f.Rules.Denied(o, name)
	return err == nil && rule == "" && f.Rules.Access(name) >= Read
}

const (
	notReadable = "no rule opens this for reading"
	notWritable = "no rule opens this for writing"
	isDenied    = "this is denied"
	isAlias     = "this is another name of a file in a directory that is denied"
)

// judge refuses an object that no rule opens for the access, or that is denied.
// ok tells that it may be used.
func (f *Filter) judge(c *dispatch.Call, o *walk.Object, want Access) (a dispatch.Action, ok bool) {
	name, placed, err := named(o)
	if err != nil {
		return dispatch.Fail(err), false
	}
	if !placed {
		return dispatch.Action{}, true
	}
	return f.judgeName(c, o, name, want, name)
}

// judgeName judges an object by its name; open is the path that a rule would name
// to allow it.
func (f *Filter) judgeName(c *dispatch.Call, o *walk.Object, name string, want Access, open string) (a dispatch.Action, ok bool) {
	if f.Rules.HasDenied() {
		rule, reason, err := f.Rules.Denied(o, name)
		if err != nil {
			return dispatch.Fail(err), false
		}
		if rule != "" {
			return f.refuse(c, name, reason, "--fs-deny "+rule, ""), false
		}
	}
	switch got := f.Rules.Access(name); {
	case got >= want:
		return dispatch.Action{}, true
	case want == Write:
		return f.refuse(c, name, notWritable, "", "--fs-write "+open), false
	default:
		return f.refuse(c, name, notReadable, "", "--fs-read "+open), false
	}
}
