// Package message reads what a program hands to sendmsg(2) and its kin: headers,
// vectors, addresses and control messages, all of them bytes that the program
// chose. It does no I/O, and says which control messages may be sent.
package message

import (
	"encoding/binary"
	"errors"

	"github.com/sandlock/sandlock/internal/sys"
	"golang.org/x/sys/unix"
)

// Sizes and offsets of struct msghdr, mmsghdr and iovec on 64-bit machines
// (recvmsg(2), sendmmsg(2)).
const (
	HeaderSize   = 56
	EntrySize    = 64 // of struct mmsghdr: a header and msg_len
	EntryLen     = 56 // offset of msg_len
	NameLenAt    = 8
	ControlLenAt = 40 // msg_flags lies behind it
	VectorSize   = 16
	MaxVectors   = 1024    // UIO_MAXIOV of linux/uio.h
	maxInOne     = 1 << 31 // MAX_RW_COUNT of linux/fs.h, rounded up to the sign
	MaxControl   = 16 << 10
	MaxDatagram  = 1 << 20 // of one message whose borders the kernel keeps
)

// ErrTooLong is EMSGSIZE for what is within the kernel's limits and not in ours.
var ErrTooLong = unix.EMSGSIZE

// Header is struct msghdr: addresses and lengths in the program's memory.
type Header struct {
	Name       uint64
	NameLen    int // bytes; at most sys.SockaddrMax
	Vectors    uint64
	VectorsLen int // number of vectors
	Control    uint64
	ControlLen int // bytes; at most one more than MaxControl
}

// ParseHeader reads struct msghdr (the first HeaderSize bytes of b) as the kernel
// does: a length without an address counts as none, one beyond the largest
// address is cut. The errors are EINVAL and EMSGSIZE.
func ParseHeader(b []byte) (h Header, err error) {
	if len(b) < HeaderSize {
		return h, unix.EINVAL
	}
	le := binary.NativeEndian
	h.Name, h.Vectors, h.Control = le.Uint64(b), le.Uint64(b[16:]), le.Uint64(b[32:])
	name := int32(le.Uint32(b[NameLenAt:]))
	vectors, control := le.Uint64(b[24:]), le.Uint64(b[ControlLenAt:])
	switch {
	case h.Name != 0 && name < 0:
		return h, unix.EINVAL
	case vectors > MaxVectors:
		return h, ErrTooLong
	}
	if h.VectorsLen = int(vectors); h.Control != 0 {
		h.ControlLen = int(min(control, MaxControl+1))
	}
	if h.Name != 0 {
		h.NameLen = min(int(name), sys.SockaddrMax)
	}
	if h.NameLen == 0 {
		h.Name = 0
	}
	return h, nil
}

// ParseVectors reads an array of struct iovec and returns the pieces that are
// not empty and their length together. It fails with EINVAL where the kernel
// does (readv(2)).
func ParseVectors(b []byte) (pieces []sys.Range, total int, err error) {
	if len(b)%VectorSize != 0 {
		return nil, 0, errors.New("half a vector")
	}
	pieces = make([]sys.Range, 0, len(b)/VectorSize)
	for ; len(b) > 0; b = b[VectorSize:] {
		r := sys.Range{Addr: binary.NativeEndian.Uint64(b), Len: binary.NativeEndian.Uint64(b[8:])}
		if int64(r.Len) < 0 {
			return nil, 0, unix.EINVAL
		}
		// The kernel shortens what is beyond its limit.
		r.Len = min(r.Len, uint64(maxInOne-1-total))
		if r.Len == 0 {
			continue
		}
		total += int(r.Len)
		pieces = append(pieces, r)
	}
	return pieces, total, nil
}

// Cut returns the first n bytes of the pieces and the rest.
func Cut(pieces []sys.Range, n int) (head, rest []sys.Range) {
	for i, p := range pieces {
		if uint64(n) < p.Len {
			if n > 0 {
				head = append(head, sys.Range{Addr: p.Addr, Len: uint64(n)})
			}
			rest = append([]sys.Range{{Addr: p.Addr + uint64(n), Len: p.Len - uint64(n)}}, pieces[i+1:]...)
			return head, rest
		}
		head = append(head, p)
		n -= int(p.Len)
	}
	return head, nil
}
