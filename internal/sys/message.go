package sys

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

// header points a message header at the buffers, by way of v for the data. Empty
// ones are left out.
func header(v *unix.Iovec, data, name, control []byte) (m unix.Msghdr) {
	if len(data) > 0 {
		v.Base = &data[0]
		v.SetLen(len(data))
	}
	m.Iov, m.Iovlen = v, 1
	if len(name) > 0 {
		m.Name, m.Namelen = &name[0], uint32(len(name))
	}
	if len(control) > 0 {
		m.Control = &control[0]
		m.SetControllen(len(control))
	}
	return m
}

// SendMessage is sendmsg(2) with the address and the control messages as bytes;
// empty ones are left out. It returns how many bytes of data were taken. It blocks
// as the socket and the flags say.
func SendMessage(fd int, data, name, control []byte, flags int) (int, error) {
	var v unix.Iovec
	m := header(&v, data, name, control)
	n, _, e := unix.Syscall(unix.SYS_SENDMSG, uintptr(fd), uintptr(unsafe.Pointer(&m)), uintptr(flags))
	if e != 0 {
		return 0, e
	}
	return int(n), nil
}

// Received tells what ReceiveMessage stored: Data may exceed the buffer where
// MSG_TRUNC was asked for, Name is the true length of the address.
type Received struct {
	Data, Name, Control int
	Flags               int // MSG_TRUNC, MSG_CTRUNC and so on, recvmsg(2)
}

// ReceiveMessage is recvmsg(2) into the buffers, each of which may be empty. It
// blocks as the socket and the flags say.
func ReceiveMessage(fd int, data, name, control []byte, flags int) (Received, error) {
	var v unix.Iovec
	m := header(&v, data, name, control)
	n, _, e := unix.Syscall(unix.SYS_RECVMSG, uintptr(fd), uintptr(unsafe.Pointer(&m)), uintptr(flags))
	if e != 0 {
		return Received{}, e
	}
	return Received{int(n), int(m.Namelen), int(m.Controllen), int(m.Flags)}, nil
}

// Range is a piece of another process's memory.
type Range struct{ Addr, Len uint64 }

// ReadRanges copies the pieces (at most 1,024, IOV_MAX), one behind the other, of
// process pid into buf and returns how many bytes were copied: fewer when memory
// is not mapped (process_vm_readv(2)). It may block as ReadMemory does.
func ReadRanges(pid int, from []Range, buf []byte) (int, error) {
	if len(buf) == 0 || len(from) == 0 {
		return 0, nil
	}
	local := unix.Iovec{Base: &buf[0], Len: uint64(len(buf))}
	n, _, e := unix.Syscall6(unix.SYS_PROCESS_VM_READV, uintptr(pid), uintptr(unsafe.Pointer(&local)), 1,
		uintptr(unsafe.Pointer(&from[0])), uintptr(len(from)), 0)
	if e != 0 {
		return 0, e
	}
	return int(n), nil
}
