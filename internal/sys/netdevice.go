package sys

import (
	"encoding/binary"
	"unsafe"

	"golang.org/x/sys/unix"
)

// SizeofIfreq is sizeof(struct ifreq), SizeofIfconf that of struct ifconf of
// linux/if.h.
const (
	SizeofIfreq  = 40
	SizeofIfconf = 16
)

// Ifreq performs one of the ioctls of netdevice(7) that take a struct ifreq
// without pointers, in the network namespace of socket fd.
func Ifreq(fd, cmd int, req *[SizeofIfreq]byte) error {
	return ioctlPtr(fd, uintptr(cmd), unsafe.Pointer(req))
}

// Ifconf is SIOCGIFCONF (netdevice(7)): it fills buf with whole entries and
// returns their length, or with a nil buf the length of all.
func Ifconf(fd int, buf []byte) (int, error) {
	conf := struct {
		length int32
		_      int32
		buf    unsafe.Pointer
	}{length: int32(len(buf))}
	if buf != nil {
		conf.buf = unsafe.Pointer(unsafe.SliceData(buf))
	}
	err := ioctlPtr(fd, unix.SIOCGIFCONF, unsafe.Pointer(&conf))
	return int(conf.length), err
}

// ParseIfconf reads struct ifconf: the room at address to, which may be 0.
func ParseIfconf(b *[SizeofIfconf]byte) (room int32, to uint64) {
	return int32(binary.NativeEndian.Uint32(b[:])), binary.NativeEndian.Uint64(b[8:])
}
