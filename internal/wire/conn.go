package wire

import (
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

// Conn is one end of the connection. Send and Receive may be called from any
// goroutine.
type Conn struct {
	file *os.File
	raw  syscall.RawConn
	send sync.Mutex
	recv sync.Mutex
	buf  []byte
	oob  []byte
}

// Pair returns the supervisor's end and the descriptor of the interceptor's,
// which the caller owns. Both are close-on-exec.
func Pair() (*Conn, int, error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return nil, -1, fmt.Errorf("wire: %w", err)
	}
	c, err := Open(fds[0])
	if err != nil {
		unix.Close(fds[1])
		return nil, -1, err
	}
	return c, fds[1], nil
}

// Open returns the end of a pair whose descriptor is fd, and owns fd, also when
// it fails.
func Open(fd int) (*Conn, error) {
	if err := unix.SetNonblock(fd, true); err != nil {
		unix.Close(fd)
		return nil, fmt.Errorf("wire: %w", err)
	}
	f := os.NewFile(uintptr(fd), "interceptor")
	raw, err := f.SyscallConn()
	if err != nil {
		f.Close()
		return nil, fmt.Errorf("wire: %w", err)
	}
	return &Conn{file: f, raw: raw, buf: make([]byte, MaxMessage), oob: make([]byte, unix.CmsgSpace(4*maxFDs))}, nil
}

// Close ends the connection; calls that wait fail.
func (c *Conn) Close() error { return c.file.Close() }

// CloseWrite tells the other side that nothing more comes; it can still answer.
func (c *Conn) CloseWrite() error {
	var err error
	if cerr := c.raw.Control(func(fd uintptr) { err = unix.Shutdown(int(fd), unix.SHUT_WR) }); cerr != nil {
		return cerr
	}
	return err
}

// Send sends a message with descriptors, which stay the caller's. It blocks while
// the other side does not read.
func (c *Conn) Send(m Message, fds ...int) error {
	e := encoder{b: []byte{m.kind()}}
	m.encode(&e)
	if len(e.b) > MaxMessage || len(fds) > maxFDs {
		return fmt.Errorf("wire: message of %d bytes with %d descriptors is too large", len(e.b), len(fds))
	}
	var rights []byte
	if len(fds) > 0 {
		rights = unix.UnixRights(fds...)
	}
	c.send.Lock()
	defer c.send.Unlock()
	var err error
	werr := c.raw.Write(func(fd uintptr) bool {
		for {
			_, err = unix.SendmsgN(int(fd), e.b, rights, nil, unix.MSG_NOSIGNAL|unix.MSG_DONTWAIT)
			if err != unix.EINTR {
				return err != unix.EAGAIN
			}
		}
	})
	if err == nil {
		err = werr
	}
	if err != nil {
		return fmt.Errorf("wire: send: %w", err)
	}
	return nil
}

// Receive blocks until a message has come, and returns it with its descriptors,
// close-on-exec, which the caller owns: all of them, or none where this process has
// no descriptor left. io.EOF: the other side is gone.
// ErrMalformed: it says what nobody says; the connection is of no more use.
func (c *Conn) Receive() (Message, []int, error) {
	c.recv.Lock()
	defer c.recv.Unlock()
	var n, oobn, flags int
	var err error
	rerr := c.raw.Read(func(fd uintptr) bool {
		for {
			n, oobn, flags, _, err = unix.Recvmsg(int(fd), c.buf, c.oob, unix.MSG_CMSG_CLOEXEC|unix.MSG_DONTWAIT)
			if err != unix.EINTR {
				return err != unix.EAGAIN
			}
		}
	})
	if err == nil {
		err = rerr
	}
	switch {
	case errors.Is(err, unix.ECONNRESET):
		return nil, nil, io.EOF
	case err != nil:
		return nil, nil, fmt.Errorf("wire: receive: %w", err)
	case n == 0 && oobn == 0:
		return nil, nil, io.EOF
	}
	fds, err := rights(c.oob[:oobn])
	if err == nil && flags&unix.MSG_TRUNC != 0 {
		err = ErrMalformed
	}
	if flags&unix.MSG_CTRUNC != 0 { // there was no room for them, or no descriptor left
		CloseAll(fds)
		fds = nil
	}
	var m Message
	if err == nil {
		m, err = decode(c.buf[:n])
	}
	if err != nil {
		CloseAll(fds)
		return nil, nil, err
	}
	return m, fds, nil
}

// rights returns the descriptors in control data.
func rights(oob []byte) (fds []int, err error) {
	if len(oob) == 0 {
		return nil, nil
	}
	messages, err := unix.ParseSocketControlMessage(oob)
	if err != nil {
		return nil, ErrMalformed
	}
	for i := range messages {
		got, err := unix.ParseUnixRights(&messages[i])
		if err != nil {
			CloseAll(fds)
			return nil, ErrMalformed
		}
		fds = append(fds, got...)
	}
	return fds, nil
}

// CloseAll closes descriptors.
func CloseAll(fds []int) {
	for _, fd := range fds {
		unix.Close(fd)
	}
}
