package netfilter

import (
	"bytes"
	"context"
	"os"
	"runtime"
	"strconv"
	"strings"
	"time"

	"github.com/sandlock/sandlock/dispatch"
	"github.com/sandlock/sandlock/internal/event"
	"github.com/sandlock/sandlock/internal/launch"
	"github.com/sandlock/sandlock/internal/sockdiag"
	"github.com/sandlock/sandlock/internal/sys"
	"golang.org/x/sys/unix"
)

const (
	unixPathAt = 2                    // offsetof(struct sockaddr_un, sun_path), unix(7)
	unixRetry  = 5 * time.Millisecond // pause while a listener's backlog is full

	// The program shares the socket and can take away the time-out that
	// connectBriefly gave it; longer than this no connect keeps the thread.
	unixHold = 20 * time.Millisecond
)

// connectUnix owns fd. The connection is made by the thread that is in the
// sandbox's Landlock domain: the kernel itself judges abstract names there. A
// path is resolved once; the object it led to is judged and connected to.
func (f *Filter) connectUnix(c *dispatch.Call, fd int, sa []byte) dispatch.Action {
	path := sa[unixPathAt:]
	typ, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_TYPE)
	if err != nil {
		unix.Close(fd)
		return dispatch.Fail(err)
	}
	if len(path) == 0 || path[0] == 0 {
		if !f.mayReachAbstract(path, typ) {
			unix.Close(fd)
			f.reportUnix(c, -1, bytes.Replace(path, []byte{0}, []byte{'@'}, 1))
			return dispatch.Errno(unix.EPERM)
		}
		return f.onThread(c, fd, sa, -1)
	}
	if i := bytes.IndexByte(path, 0); i >= 0 {
		path = path[:i]
	}
	pin, err := openSocket(c.PID(), string(path))
	if err == nil {
		err = c.Valid()
	}
	if err != nil {
		if pin >= 0 {
			unix.Close(pin)
		}
		unix.Close(fd)
		return dispatch.Fail(err)
	}
	if !f.mayReach(pin, typ) {
		f.reportUnix(c, pin, path)
		if !f.Audit {
			unix.Close(pin)
			unix.Close(fd)
			return dispatch.Errno(unix.EACCES)
		}
	}
	return f.onThread(c, fd, unixAddr("/proc/self/fd/"+strconv.Itoa(pin)), pin)
}

func unixAddr(path string) []byte {
	sa := make([]byte, unixPathAt, unixPathAt+len(path)+1)
	sys.SetFamily(sa, unix.AF_UNIX)
	return append(append(sa, path...), 0)
}

// openSocket pins the file that path means for thread pid, without opening it.
// Programs whose path is too long for an address name a descriptor of their own
// in /proc/self; links to there are not followed on their behalf.
func openSocket(pid int, path string) (int, error) {
	own := "/proc/" + strconv.Itoa(pid)
	base := own + "/cwd/"
	if path[0] == '/' {
		base = own + "/root/"
		for _, self := range [...]string{"/proc/self/", "/proc/thread-self/"} {
			if rest, ok := strings.CutPrefix(path, self); ok {
				base, path = own+"/", rest
			}
		}
	}
	return unix.Open(base+path, unix.O_PATH|unix.O_CLOEXEC, 0)
}

// mayReach tells whether a socket of the given type may connect or send to the
// file: whether a door leads there, or whoever has it belongs to the sandbox.
func (f *Filter) mayReach(pin, typ int) bool {
	var st unix.Stat_t
	if unix.Fstat(pin, &st) != nil || st.Mode&unix.S_IFMT != unix.S_IFSOCK {
		return true // the kernel answers ECONNREFUSED
	}
	if name, err := os.Readlink("/proc/self/fd/" + strconv.Itoa(pin)); err == nil && f.open(&st, name) {
		return true
	}
	return f.ownUnix(pin, typ, st.Ino)
}

// ownUnix tells whether all sockets that have the pinned file, listeners or those
// that take datagrams, are of the sandbox. The file system counts too: the host's
// socket may be invisible, because its server is in another network namespace, and
// the sandbox can make a socket with the same inode number elsewhere.
func (f *Filter) ownUnix(pin, typ int, ino uint64) bool {
	find := sockdiag.Unix
	if typ == unix.SOCK_DGRAM {
		find = sockdiag.UnixDatagram
	}
	holders, err := find(ino)
	if err != nil || len(holders) == 0 {
		return false
	}
	dev, err := superBlock(pin)
	if err != nil {
		return false
	}
	found := false
	for _, l := range holders {
		switch {
		case l.Dev != dev:
		case !f.own.has(l.Cookie):
			return false
		default:
			found = true
		}
	}
	return found
}

// onThread owns fd and pin. A full backlog must not hold up the thread, so a
// blocking socket gets a time-out of a moment there and is tried again.
func (f *Filter) onThread(c *dispatch.Call, fd int, sa []byte, pin int) dispatch.Action {
	blocking := !nonblocking(fd)
	who, err := f.unlikeUs(c)
	if err != nil {
		if pin >= 0 {
			unix.Close(pin)
		}
		unix.Close(fd)
		return dispatch.Fail(err)
	}
	return dispatch.Defer(func(ctx context.Context) dispatch.Action {
		defer unix.Close(fd)
		if pin >= 0 {
			defer unix.Close(pin)
		}
		for {
			err := f.reachUnix(who, pin >= 0, func() error { return connectBriefly(fd, sa, blocking) })
			if err == unix.EINTR { // after unixHold; the socket is as it was
				err = unix.EAGAIN
			}
			if err != unix.EAGAIN || !blocking {
				return dispatch.Result(0, err)
			}
			select {
			case <-ctx.Done():
				return dispatch.Errno(unix.EINTR)
			case <-time.After(unixRetry):
			}
		}
	})
}

// unlikeUs returns the caller's credentials for files where they are not ours: a
// command starts as who we are, and only root can become somebody else.
func (f *Filter) unlikeUs(c *dispatch.Call) (*sys.FileCredentials, error) {
	if os.Geteuid() != 0 {
		return nil, nil
	}
	who, err := c.FileCredentials()
	if err != nil || who.UID == 0 {
		return nil, err
	}
	return &who, nil
}

// reachUnix connects or sends to a unix address: on the sandbox's thread, or to a file
// with the rights of a caller who is not us, on a thread of its own. Abstract names
// know no rights. A call that the program holds up ends with EINTR after unixHold.
func (f *Filter) reachUnix(who *sys.FileCredentials, file bool, do func() error) error {
	if who == nil || !file {
		return f.Thread.DoWithin(unixHold, do)
	}
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread ends with the goroutine
		err := sys.Become(*who)
		if err == nil {
			err = launch.Within(unixHold, do)
		}
		done <- err
	}()
	return <-done
}

func connectBriefly(fd int, sa []byte, blocking bool) error {
	if blocking {
		old, err := unix.GetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_SNDTIMEO)
		if err != nil {
			return err
		}
		brief := unix.NsecToTimeval(int64(time.Millisecond))
		if err := unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_SNDTIMEO, &brief); err != nil {
			return err
		}
		defer unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_SNDTIMEO, old)
	}
	return sys.Connect(fd, sa)
}

func (f *Filter) reportUnix(c *dispatch.Call, pin int, path []byte) {
	name, err := os.Readlink("/proc/self/fd/" + strconv.Itoa(pin))
	if err != nil {
		name = string(path)
	}
	ev := event.Event{
		Kind: f.denial(), PID: int32(c.TGID()), Syscall: c.Name(), Protocol: "unix", Path: name,
		Reason: "the socket's server is outside the sandbox",
	}
	if pin >= 0 { // an abstract name cannot be allowed
		ev.AllowWith = "--allow-unix " + name
	}
	f.Emit(ev)
}
