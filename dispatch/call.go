package dispatch

import (
	"bytes"
	"errors"
	"fmt"

	"github.com/sandlock/sandlock/internal/sys"
	"golang.org/x/sys/unix"
)

// ErrGone reports that the caller no longer waits: nothing that was read in its
// name may be used.
var ErrGone = errors.New("the caller is gone")

// Call is one system call that waits for an answer, with checked access to the
// caller's memory and descriptors. It may be used until the answer was given.
type Call struct {
	n     sys.Notification
	loop  *Loop
	asked int // handlers of the chain that were asked or do not care

	text   []byte // the string that was read last, and where it lies
	textAt uint64
}

// Nr returns the number of the system call.
func (c *Call) Nr() int { return int(c.n.Data.Nr) }

// Name returns the name of the system call as in syscalls(2).
func (c *Call) Name() string { return sys.SyscallName(c.Nr()) }

// Arg returns register i (0 to 5) as the caller set it.
func (c *Call) Arg(i int) uint64 { return c.n.Data.Args[i] }

// Int returns register i as a C int.
func (c *Call) Int(i int) int { return int(int32(uint32(c.n.Data.Args[i]))) }

// IP returns the address behind the instruction that made the call.
func (c *Call) IP() uint64 { return c.n.Data.IP }

// PID returns the number of the calling thread.
func (c *Call) PID() int { return int(c.n.PID) }

// TGID returns the number of the calling process.
func (c *Call) TGID() int { return c.loop.index.tgid(c.PID()) }

// Valid returns ErrGone when the caller no longer waits.
func (c *Call) Valid() error {
	if sys.IDValid(c.loop.listener, c.n.ID) {
		return nil
	}
	return ErrGone
}

// Read fills buf from the caller's memory at addr, or fails with EFAULT, or with
// ErrGone when the caller went away.
func (c *Call) Read(addr uint64, buf []byte) error {
	n, err := sys.ReadMemory(c.PID(), addr, buf)
	if verr := c.Valid(); verr != nil {
		return verr
	}
	if err != nil || n != len(buf) {
		return unix.EFAULT
	}
	return nil
}

// ReadRanges fills buf from the caller's memory at the pieces, one behind the
// other, or fails as Read does.
func (c *Call) ReadRanges(from []sys.Range, buf []byte) error {
	n, err := sys.ReadRanges(c.PID(), from, buf)
	if verr := c.Valid(); verr != nil {
		return verr
	}
	if err != nil || n != len(buf) {
		return unix.EFAULT
	}
	return nil
}

// firstPiece is how much of a string is read at once: most paths are shorter.
const firstPiece = 256

// ReadString reads a string that ends in NUL, of at most max bytes with the NUL.
// It fails with ENAMETOOLONG when there is no NUL in them. All handlers of a call
// get what the first one read, which must not be changed.
func (c *Call) ReadString(addr uint64, max int) ([]byte, error) {
	if c.text != nil && c.textAt == addr && len(c.text) < max {
		return c.text, nil
	}
	text, err := c.readString(addr, max)
	if err == nil {
		c.text, c.textAt = text, addr
	}
	return text, err
}

func (c *Call) readString(addr uint64, max int) ([]byte, error) {
	const page = 4096
	out := []byte{}
	for piece := firstPiece; len(out) < max; piece = page {
		n := int(page - addr%page)
		n = min(n, piece, max-len(out))
		buf := make([]byte, n)
		if err := c.Read(addr, buf); err != nil {
			return nil, err
		}
		if i := bytes.IndexByte(buf, 0); i >= 0 {
			if len(out) == 0 {
				return buf[:i], nil
			}
			return append(out, buf[:i]...), nil
		}
		out = append(out, buf...)
		addr += uint64(n)
	}
	return nil, unix.ENAMETOOLONG
}

// Write copies buf to the caller's memory at addr, or fails with EFAULT.
func (c *Call) Write(addr uint64, buf []byte) error {
	if err := c.Valid(); err != nil {
		return err
	}
	n, err := sys.WriteMemory(c.PID(), addr, buf)
	if err != nil || n != len(buf) {
		return unix.EFAULT
	}
	return nil
}

// FD returns a copy of the caller's descriptor fd, close-on-exec and owned by
// the caller of this method. It fails with EBADF when there is none, and with
// EPERM where pidfd_getfd(2) is refused and no handler injected the socket.
func (c *Call) FD(fd int) (int, error) { return c.FDOf(c.PID(), fd) }

// FDOf is FD for a descriptor of another process of the sandbox. That the process
// is the one that was meant has to be told from the descriptor.
func (c *Call) FDOf(pid, fd int) (int, error) {
	copyOf := c.loop.index.getfd
	if c.loop.kept != nil {
		copyOf = c.loop.kept.get
	}
	n, err := copyOf(pid, fd)
	if err != nil {
		return -1, err
	}
	if err := c.Valid(); err != nil {
		unix.Close(n)
		return -1, err
	}
	return n, nil
}

// FileCredentials returns what the kernel judges the caller's work on files by.
func (c *Call) FileCredentials() (sys.FileCredentials, error) {
	who, err := fileCredentials(c.PID())
	if verr := c.Valid(); verr != nil {
		return who, verr
	}
	return who, err
}

// Release says that the socket which fd, a copy from FD, is one of needs no
// handler any more. It matters where sockets are kept (Table.KeepSockets).
func (c *Call) Release(fd int) {
	if c.loop.kept != nil {
		c.loop.kept.release(fd)
	}
}

// Keep takes a copy of a socket that the caller gets by AddFD, so that FD finds
// it later where pidfd_getfd(2) is refused. fd stays owned by the caller of this
// method.
func (c *Call) Keep(fd int) {
	if c.loop.kept != nil {
		c.loop.kept.keep(c.loop, fd)
	}
}

// ReleaseClosed gives up the kept sockets that the sandbox has closed, which may
// hold an address. Where sockets are kept it takes up to some milliseconds.
func (c *Call) ReleaseClosed() {
	if c.loop.kept != nil {
		c.loop.kept.sweep()
	}
}

// AddFD installs a copy of fd in the caller at the number at (any if negative)
// without answering the call. fd stays owned by the caller of this method.
func (c *Call) AddFD(fd, at int, cloexec bool) (int, error) {
	return sys.AddFD(c.loop.listener, c.n.ID, fd, at, cloexec)
}

// String names the call for messages.
func (c *Call) String() string { return fmt.Sprintf("%s by %d", c.Name(), c.PID()) }

// Fail turns an error of the methods above into the answer: the errno in it, or
// EPERM where there is none, so that a fault denies.
func Fail(err error) Action {
	var e unix.Errno
	if errors.As(err, &e) && e != 0 {
		return Errno(e)
	}
	return Errno(unix.EPERM)
}
