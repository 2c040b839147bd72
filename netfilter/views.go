package netfilter

import (
	"encoding/binary"

	"github.com/sandlock/sandlock/dispatch"
	"github.com/sandlock/sandlock/internal/sys"
	"golang.org/x/sys/unix"
)

// pin returns a copy of the socket in the call's first register, owned by the
// caller, and its cookie.
func pin(c *dispatch.Call) (fd int, cookie uint64, err error) {
	if fd, err = c.FD(c.Int(0)); err != nil {
		return -1, 0, err
	}
	if cookie, err = sys.Cookie(fd); err != nil {
		unix.Close(fd)
		return -1, 0, err
	}
	return fd, cookie, nil
}

// getpeername shows a redirected socket's own idea of its peer. It is a help
// for programs, not a protection: to let others pass is safe.
func (f *Filter) getpeername(c *dispatch.Call) dispatch.Action {
	if f.peers.n.Load() == 0 && f.asked.n.Load() == 0 && !f.PortRemap && len(f.Neighbours) == 0 {
		return dispatch.Continue()
	}
	fd, cookie, err := pin(c)
	if err != nil {
		return dispatch.Continue()
	}
	defer unix.Close(fd)
	to, ok := f.peers.get(cookie)
	if !ok {
		to, _ = f.asked.get(cookie)
		ok = to.IsValid()
	}
	if !ok {
		to, ok = f.named.get(cookie)
	}
	if !ok && f.PortRemap {
		to, ok = f.remappedPeer(fd)
	}
	if !ok {
		return dispatch.Continue()
	}
	if _, err := unix.Getpeername(fd); err != nil {
		return dispatch.Fail(err)
	}
	return answerBytes(c, 1, 2, sys.EncodeInet(to, domainV6(fd)))
}

// answerBytes writes b as calls like getpeername(2) and getsockopt(2) do: cut to
// the caller's buffer, with the true length behind.
func answerBytes(c *dispatch.Call, at, length int, b []byte) dispatch.Action {
	if err := writeBytes(c, c.Arg(at), c.Arg(length), b); err != nil {
		return dispatch.Fail(err)
	}
	return dispatch.Return(0)
}

// writeBytes is answerBytes for addresses that are not in registers.
func writeBytes(c *dispatch.Call, at, length uint64, b []byte) error {
	var n [4]byte
	if err := c.Read(length, n[:]); err != nil {
		return err
	}
	room := int32(binary.NativeEndian.Uint32(n[:]))
	if room < 0 {
		return unix.EINVAL
	}
	if err := c.Write(at, b[:min(int(room), len(b))]); err != nil {
		return err
	}
	binary.NativeEndian.PutUint32(n[:], uint32(len(b)))
	return c.Write(length, n[:])
}

// soerror gives the true reason why a redirected connection failed.
func (f *Filter) soerror(c *dispatch.Call) dispatch.Action {
	if f.failures.n.Load() == 0 {
		return dispatch.Continue()
	}
	fd, cookie, err := pin(c)
	if err != nil {
		return dispatch.Continue()
	}
	defer unix.Close(fd)
	e, ok := f.failures.take(cookie)
	if !ok {
		return dispatch.Continue()
	}
	unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_ERROR) // clears ECONNRESET
	var n [4]byte
	if err := c.Read(c.Arg(4), n[:]); err != nil {
		return dispatch.Fail(err)
	}
	room := min(binary.NativeEndian.Uint32(n[:]), 4)
	var val [4]byte
	binary.NativeEndian.PutUint32(val[:], uint32(e))
	binary.NativeEndian.PutUint32(n[:], room)
	if err := c.Write(c.Arg(3), val[:room]); err != nil {
		return dispatch.Fail(err)
	}
	if err := c.Write(c.Arg(4), n[:]); err != nil {
		return dispatch.Fail(err)
	}
	return dispatch.Return(0)
}
