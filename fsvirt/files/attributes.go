package files

import (
	"encoding/binary"
	"strings"

	"github.com/sandlock/sandlock/dispatch"
	"github.com/sandlock/sandlock/fsvirt/walk"
	"golang.org/x/sys/unix"
)

// Of linux/limits.h.
const (
	xattrNameMax = 255
	xattrSizeMax = 65536
)

const none = -1

// attribute is a call that changes what a file is rather than what it holds:
// Landlock governs none of them. The numbers are those of registers, none where
// the call has no such argument.
type attribute struct {
	dir, path, flags int // a call without path is about the descriptor in dir
	noFollow         bool
	apply            func(c *dispatch.Call, o *walk.Object) error
}

var attributes = map[string]attribute{
	"chmod":        {none, 0, none, false, chmod(1)},
	"fchmod":       {0, none, none, false, chmod(1)},
	"fchmodat":     {0, 1, none, false, chmod(2)},
	"fchmodat2":    {0, 1, 3, false, chmod(2)},
	"chown":        {none, 0, none, false, chown(1)},
	"lchown":       {none, 0, none, true, chown(1)},
	"fchown":       {0, none, none, false, chown(1)},
	"fchownat":     {0, 1, 4, false, chown(2)},
	"utime":        {none, 0, none, false, utime},
	"utimes":       {none, 0, none, false, utimes(1)},
	"futimesat":    {0, 1, none, false, utimes(2)},
	"utimensat":    {0, 1, 3, false, utimensat},
	"setxattr":     {none, 0, none, false, setxattr},
	"lsetxattr":    {none, 0, none, true, setxattr},
	"fsetxattr":    {0, none, none, false, setxattr},
	"removexattr":  {none, 0, none, false, removexattr},
	"lremovexattr": {none, 0, none, true, removexattr},
	"fremovexattr": {0, none, none, false, removexattr},
}

func attributeCalls() []string {
	var names []string
	for name := range attributes {
		names = append(names, name)
	}
	return names
}

// attributes performs such a call on an object that may be written.
func (f *Filter) attributes(c *dispatch.Call) dispatch.Action {
	a := attributes[c.Name()]
	h := walk.How{Dir: unix.AT_FDCWD, NoFollow: a.noFollow, Empty: a.path == none}
	if a.dir != none {
		h.Dir = c.Int(a.dir)
	}
	if a.flags != none {
		flags := c.Int(a.flags)
		if flags&^(unix.AT_SYMLINK_NOFOLLOW|unix.AT_EMPTY_PATH) != 0 {
			return dispatch.Errno(unix.EINVAL)
		}
		h.NoFollow, h.Empty = flags&unix.AT_SYMLINK_NOFOLLOW != 0, flags&unix.AT_EMPTY_PATH != 0
	}
	if a.path != none {
		if c.Arg(a.path) == 0 && a.dir != none && h.Dir != unix.AT_FDCWD && c.Name() == "utimensat" {
			h.Empty = true // utimensat(2): no path means the descriptor
		} else {
			path, err := c.ReadString(c.Arg(a.path), walk.PathMax)
			if err != nil {
				return dispatch.Fail(err)
			}
			h.Path = path
		}
	}
	o, err := f.Walker.Walk(c, h)
	if err != nil {
		return dispatch.Fail(err)
	}
	defer o.Close()
	if o.InProc() {
		return dispatch.Errno(unix.EPERM)
	}
	if d, ok := f.judge(c, &o, Write); !ok {
		return d
	}
	_, err = f.as(c, func() (int, error) { return 0, a.apply(c, &o) })
	return dispatch.Result(0, err)
}

func chmod(arg int) func(*dispatch.Call, *walk.Object) error {
	return func(c *dispatch.Call, o *walk.Object) error {
		return unix.Chmod(fdPath(o.FD), uint32(c.Arg(arg))&0o7777)
	}
}

func chown(arg int) func(*dispatch.Call, *walk.Object) error {
	return func(c *dispatch.Call, o *walk.Object) error {
		return unix.Fchownat(o.FD, "", c.Int(arg), c.Int(arg+1), unix.AT_EMPTY_PATH)
	}
}

// setTimes sets access and modification time; nil means the present time.
func setTimes(o *walk.Object, times []unix.Timespec) error {
	if times == nil {
		present := unix.Timespec{Nsec: unix.UTIME_NOW}
		times = []unix.Timespec{present, present}
	}
	return unix.UtimesNanoAt(o.FD, "", times, unix.AT_EMPTY_PATH)
}

// words reads n words of 64 bits, nil at address 0.
func words(c *dispatch.Call, addr uint64, n int) ([]int64, error) {
	if addr == 0 {
		return nil, nil
	}
	buf := make([]byte, 8*n)
	if err := c.Read(addr, buf); err != nil {
		return nil, err
	}
	out := make([]int64, n)
	for i := range out {
		out[i] = int64(binary.NativeEndian.Uint64(buf[8*i:]))
	}
	return out, nil
}

func utimensat(c *dispatch.Call, o *walk.Object) error {
	w, err := words(c, c.Arg(2), 4)
	if err != nil {
		return err
	}
	if w == nil {
		return setTimes(o, nil)
	}
	return setTimes(o, []unix.Timespec{{Sec: w[0], Nsec: w[1]}, {Sec: w[2], Nsec: w[3]}})
}

func utimes(arg int) func(*dispatch.Call, *walk.Object) error {
	return func(c *dispatch.Call, o *walk.Object) error {
		w, err := words(c, c.Arg(arg), 4)
		if err != nil {
			return err
		}
		if w == nil {
			return setTimes(o, nil)
		}
		const second, micro = 1000000, 1000
		if w[1] < 0 || w[1] >= second || w[3] < 0 || w[3] >= second {
			return unix.EINVAL
		}
		return setTimes(o, []unix.Timespec{{Sec: w[0], Nsec: w[1] * micro}, {Sec: w[2], Nsec: w[3] * micro}})
	}
}

func utime(c *dispatch.Call, o *walk.Object) error {
	w, err := words(c, c.Arg(1), 2)
	if err != nil {
		return err
	}
	if w == nil {
		return setTimes(o, nil)
	}
	return setTimes(o, []unix.Timespec{{Sec: w[0]}, {Sec: w[1]}})
}

func xattrName(c *dispatch.Call) (string, error) {
	name, err := c.ReadString(c.Arg(1), xattrNameMax+1)
	switch {
	case err == unix.ENAMETOOLONG, err == nil && len(name) == 0:
		return "", unix.ERANGE
	case err != nil:
		return "", err
	}
	// The others need CAP_SYS_ADMIN, which we may have and the command has not.
	for _, ok := range []string{"user.", "security.capability", "system.posix_acl_"} {
		if strings.HasPrefix(string(name), ok) {
			return string(name), nil
		}
	}
	return "", unix.EPERM
}

func setxattr(c *dispatch.Call, o *walk.Object) error {
	name, err := xattrName(c)
	if err != nil {
		return err
	}
	if c.Arg(3) > xattrSizeMax {
		return unix.E2BIG
	}
	value := make([]byte, c.Arg(3))
	if err := c.Read(c.Arg(2), value); err != nil {
		return err
	}
	return unix.Setxattr(fdPath(o.FD), name, value, c.Int(4))
}

func removexattr(c *dispatch.Call, o *walk.Object) error {
	name, err := xattrName(c)
	if err != nil {
		return err
	}
	return unix.Removexattr(fdPath(o.FD), name)
}
