// Package proc is what a sandbox sees of /proc: its own processes, harmless facts
// about the machine, and nothing of anybody else. Landlock opens nothing there to
// the command: every open is performed or answered here, on the object that the
// path led to.
package proc

import (
	"strconv"
	"sync/atomic"
	"time"

	"github.com/sandlock/sandlock/dispatch"
	"github.com/sandlock/sandlock/fsvirt/open"
	"github.com/sandlock/sandlock/fsvirt/walk"
	"github.com/sandlock/sandlock/internal/event"
	"golang.org/x/sys/unix"
)

// Config is what a View works with.
type Config struct {
	// Member tells whether a process belongs to the sandbox, and Members lists all
	// that do. Both may block for a moment.
	Member   func(pid int) bool
	Members  func() ([]int, error)
	Hostname string  // "" is the host's
	Mounts   []Mount // what the mount tables show beside the root
	CPUs     int     // how many processors to show; 0 is the host's
	// Memory, if not nil, returns the limit and what of it is used, in bytes.
	Memory func() (limit, used uint64)
	// TCP, if not nil, returns the file tcp or tcp6 of /proc/net, of the sandbox's
	// own sockets.
	TCP    func(table string) ([]byte, error)
	Offset time.Duration     // of the wall clock that the command sees
	Emit   func(event.Event) // never blocks
	// Passed says that the command was given descriptors that may be of /proc.
	Passed bool
}

// Mount is a line of the mount tables.
type Mount struct {
	Path  string
	Type  string // of the file system
	Write bool
}

// View answers opens in /proc.
type View struct {
	Config
	dev    uint64      // of /proc
	listed atomic.Bool // a descriptor of /proc itself was handed out
}

// New returns the view of /proc as it is mounted now.
func New(c Config) (*View, error) {
	var st unix.Stat_t
	if err := unix.Stat("/proc", &st); err != nil {
		return nil, err
	}
	v := &View{Config: c, dev: st.Dev}
	v.listed.Store(c.Passed)
	return v, nil
}

// Open answers an open of an object in a proc file system. It does not keep the
// object.
func (v *View) Open(c *dispatch.Call, r *open.Request, o *walk.Object) dispatch.Action {
	if o.Stat.Dev != v.dev {
		return v.refuse(c, o, "another PID namespace's /proc")
	}
	names, err := o.ProcName()
	if err != nil {
		return dispatch.Fail(err)
	}
	pid := 0
	if len(names) > 0 {
		pid, _ = strconv.Atoi(names[0])
	}
	switch {
	case len(names) == 0:
		v.listed.Store(true)
		return v.perform(r, o)
	case pid > 0 && !v.mine(c, pid):
		return v.refuse(c, o, "a process outside of the sandbox")
	case pid > 0:
		return v.process(c, r, o, pid, names[1:])
	}
	return v.machine(c, r, o, names)
}

// mine tells whether a process is the caller or another of the sandbox.
func (v *View) mine(c *dispatch.Call, pid int) bool {
	return pid == c.PID() || v.Member(dispatch.TGID(pid))
}

func (v *View) refuse(c *dispatch.Call, o *walk.Object, reason string) dispatch.Action {
	name, err := o.Path()
	if err != nil {
		return dispatch.Fail(err)
	}
	v.Emit(event.Event{Kind: event.Deny, PID: int32(dispatch.TGID(c.PID())), Syscall: c.Name(), Protocol: "file", Path: name, Reason: reason})
	return dispatch.Errno(unix.EACCES)
}

// perform opens the object itself for the caller.
func (v *View) perform(r *open.Request, o *walk.Object) dispatch.Action {
	cloexec := r.Flags&unix.O_CLOEXEC != 0
	if r.Flags&unix.O_DIRECTORY != 0 && o.Stat.Mode&unix.S_IFMT != unix.S_IFDIR {
		return dispatch.Errno(unix.ENOTDIR)
	}
	if r.Flags&unix.O_PATH != 0 {
		// Such a descriptor opens nothing: whatever is done with it is judged again.
		return dispatch.Continue()
	}
	if o.Stat.Mode&unix.S_IFMT == unix.S_IFLNK {
		return dispatch.Errno(unix.ELOOP)
	}
	const drop = unix.O_CREAT | unix.O_EXCL | unix.O_NOFOLLOW
	fd, err := unix.Open("/proc/self/fd/"+strconv.Itoa(o.FD), r.Flags&^drop|unix.O_CLOEXEC|unix.O_NOCTTY, 0)
	if err != nil {
		return dispatch.Fail(err)
	}
	return dispatch.InjectFD(fd, cloexec)
}

// give answers with content of our own.
func (v *View) give(r *open.Request, name string, content []byte) dispatch.Action {
	switch {
	case r.Writes():
		return dispatch.Errno(unix.EACCES)
	case r.Flags&unix.O_DIRECTORY != 0:
		return dispatch.Errno(unix.ENOTDIR)
	}
	return dispatch.InjectBytes(name, content, r.Flags&unix.O_CLOEXEC != 0)
}
