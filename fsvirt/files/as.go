package files

import (
	"bytes"
	"os"
	"runtime"
	"strconv"

	"github.com/sandlock/sandlock/dispatch"
	"github.com/sandlock/sandlock/internal/sys"
	"golang.org/x/sys/unix"
)

func fdPath(fd int) string { return "/proc/self/fd/" + strconv.Itoa(fd) }

// as performs work on files with the caller's rights. Those of an ordinary user's
// command are our own. One of root's has fewer capabilities than we, and can become
// somebody else.
func (f *Filter) as(c *dispatch.Call, work func() (int, error)) (int, error) {
	if os.Geteuid() != 0 {
		return work()
	}
	return f.apart(c, nil, work)
}

// making is as for work that makes files: they get the caller's umask.
func (f *Filter) making(c *dispatch.Call, work func() (int, error)) (int, error) {
	mask, err := umask(c.PID())
	if err != nil {
		return -1, err
	}
	return f.apart(c, &mask, work)
}

// apart performs work on a thread of its own that has the caller's credentials
// and, unless mask is nil, that umask.
func (f *Filter) apart(c *dispatch.Call, mask *uint32, work func() (int, error)) (int, error) {
	var who *sys.FileCredentials
	if os.Geteuid() == 0 {
		w, err := c.FileCredentials()
		if err != nil {
			return -1, err
		}
		who = &w
	}
	if err := c.Valid(); err != nil {
		return -1, err
	}
	n, err := -1, error(nil)
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread() // never unlocked: the thread ends with the goroutine
		if mask != nil {
			if err = unix.Unshare(unix.CLONE_FS); err != nil {
				return
			}
			unix.Umask(int(*mask))
		}
		if who != nil {
			if err = sys.Become(*who); err != nil {
				return
			}
		}
		n, err = work()
	}()
	<-done
	return n, err
}

// umask returns the mask that a thread's new files have (proc(5), Linux 4.7).
func umask(pid int) (uint32, error) {
	text, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/status")
	if err != nil {
		return 0, unix.ESRCH
	}
	mask := numbers(text, "Umask:", 8)
	if len(mask) != 1 {
		return 0, unix.EPERM
	}
	return uint32(mask[0]), nil
}

// numbers returns the numbers of a line of /proc/pid/status.
func numbers(text []byte, key string, base int) []uint64 {
	for line := range bytes.Lines(text) {
		rest, ok := bytes.CutPrefix(line, []byte(key))
		if !ok {
			continue
		}
		var out []uint64
		for _, word := range bytes.Fields(rest) {
			n, err := strconv.ParseUint(string(word), base, 64)
			if err != nil {
				return nil
			}
			out = append(out, n)
		}
		return out
	}
	return nil
}
