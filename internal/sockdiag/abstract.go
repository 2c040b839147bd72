package sockdiag

import (
	"bytes"
	"encoding/binary"
	"fmt"

	"golang.org/x/sys/unix"
)

const (
	unixShowName = 1 // UDIAG_SHOW_NAME of linux/unix_diag.h
	unixAttrName = 0 // UNIX_DIAG_NAME of linux/unix_diag.h
)

// Abstract returns the cookies of the unix sockets that have an abstract name,
// given with its leading NUL (unix(7)): listeners, or with datagram those that
// take datagrams. It does not block.
func Abstract(name []byte, datagram bool) ([]uint64, error) {
	var out []uint64
	states := uint32(1 << tcpListen)
	if datagram {
		states = anyState
	}
	req := make([]byte, 24) // as in Unix
	req[0] = unix.AF_UNIX
	binary.NativeEndian.PutUint32(req[4:], states)
	binary.NativeEndian.PutUint32(req[12:], unixShowName)
	err := dump(req, func(msg []byte) {
		if len(msg) < 16 || datagram && msg[1] != unix.SOCK_DGRAM {
			return
		}
		for attrs := msg[16:]; len(attrs) >= 4; {
			n := int(binary.NativeEndian.Uint16(attrs))
			if n < 4 || n > len(attrs) {
				return
			}
			if binary.NativeEndian.Uint16(attrs[2:]) == unixAttrName && bytes.Equal(attrs[4:n], name) {
				out = append(out, cookie(msg[8:16]))
			}
			attrs = attrs[min((n+3)&^3, len(attrs)):]
		}
	})
	if err != nil {
		return nil, fmt.Errorf("list unix sockets: %w", err)
	}
	return out, nil
}
