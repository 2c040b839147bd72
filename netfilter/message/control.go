package message

import (
	"encoding/binary"

	"golang.org/x/sys/unix"
)

const (
	controlHeader = 16  // struct cmsghdr: length, level, type (cmsg(3))
	MaxFiles      = 253 // SCM_MAX_FD of net/scm.h
)

// Control is one control message.
type Control struct {
	Level, Type int32
	Data        []byte // part of what was parsed
}

// ParseControl reads a sequence of control messages as the kernel does: too few
// bytes for a header end it. A length that does not fit is EINVAL.
func ParseControl(b []byte) ([]Control, error) {
	var out []Control
	for len(b) >= controlHeader {
		n := binary.NativeEndian.Uint64(b)
		if n < controlHeader || n > uint64(len(b)) {
			return nil, unix.EINVAL
		}
		out = append(out, Control{
			Level: int32(binary.NativeEndian.Uint32(b[8:])),
			Type:  int32(binary.NativeEndian.Uint32(b[12:])),
			Data:  b[controlHeader:n:n],
		})
		b = b[min(aligned(int(n)), len(b)):]
	}
	return out, nil
}

func aligned(n int) int { return (n + 7) &^ 7 } // CMSG_ALIGN of 64-bit machines

// AppendControl appends a control message in the kernel's form.
func AppendControl(b []byte, m Control) []byte {
	b = binary.NativeEndian.AppendUint64(b, uint64(controlHeader+len(m.Data)))
	b = binary.NativeEndian.AppendUint32(b, uint32(m.Level))
	b = binary.NativeEndian.AppendUint32(b, uint32(m.Type))
	b = append(b, m.Data...)
	return append(b, make([]byte, aligned(len(m.Data))-len(m.Data))...)
}

// harmless are the control messages that a send on an IP socket may carry: they
// change how a packet looks and not where it goes (ip(7), ipv6(7), udp(7)).
var harmless = [...]struct {
	level, kind    int32
	shortest, size int // bytes of data
	clear          int // bytes to put to zero ...
	at             int // ... from here on
}{
	{unix.SOL_IP, unix.IP_TOS, 1, 4, 0, 0},
	{unix.SOL_IP, unix.IP_TTL, 4, 4, 0, 0},
	// The interface in them would lead an allowed address elsewhere: it is left to
	// the routes. The source address has to be the host's own, which the kernel checks.
	{unix.SOL_IP, unix.IP_PKTINFO, unix.SizeofInet4Pktinfo, unix.SizeofInet4Pktinfo, 4, 0},
	{unix.SOL_IPV6, unix.IPV6_PKTINFO, unix.SizeofInet6Pktinfo, unix.SizeofInet6Pktinfo, 4, 16},
	{unix.SOL_IPV6, unix.IPV6_TCLASS, 4, 4, 0, 0},
	{unix.SOL_IPV6, unix.IPV6_HOPLIMIT, 4, 4, 0, 0},
	{unix.SOL_IPV6, unix.IPV6_DONTFRAG, 4, 4, 0, 0},
	{unix.SOL_UDP, unix.UDP_SEGMENT, 2, 2, 0, 0},
}

// InetControl returns what the kernel may be given of the control messages of a
// send on an IP socket. One that is not known to be harmless is EPERM, with that
// message as refused; a malformed one is EINVAL.
func InetControl(b []byte) (out []byte, refused Control, err error) {
	all, err := ParseControl(b)
	if err != nil {
		return nil, Control{}, err
	}
	for _, m := range all {
		clean, err := inetControl(m)
		if err != nil {
			return nil, m, err
		}
		out = AppendControl(out, clean)
	}
	return out, Control{}, nil
}

func inetControl(m Control) (Control, error) {
	for _, h := range harmless {
		if h.level != m.Level || h.kind != m.Type {
			continue
		}
		if len(m.Data) < h.shortest || len(m.Data) > h.size {
			return m, unix.EINVAL
		}
		m.Data = append([]byte(nil), m.Data...)
		clear(m.Data[h.at : h.at+h.clear])
		return m, nil
	}
	return m, unix.EPERM
}

// UnixControl returns the control messages of a send on a unix socket with every
// descriptor of SCM_RIGHTS exchanged for the one that fetch returns for it, in
// order. What fetch fails with ends it. Anything else is EPERM, credentials too:
// the kernel would have to take the supervisor's for the program's.
func UnixControl(b []byte, fetch func(fd int) (int, error)) ([]byte, error) {
	all, err := ParseControl(b)
	if err != nil {
		return nil, err
	}
	var out []byte
	files := 0
	for _, m := range all {
		if m.Level != unix.SOL_SOCKET || m.Type != unix.SCM_RIGHTS {
			return nil, unix.EPERM
		}
		n := len(m.Data) / 4
		if files += n; files > MaxFiles {
			return nil, unix.EINVAL
		}
		data := make([]byte, 4*n)
		for i := range n {
			fd, err := fetch(int(int32(binary.NativeEndian.Uint32(m.Data[4*i:]))))
			if err != nil {
				return nil, err
			}
			binary.NativeEndian.PutUint32(data[4*i:], uint32(fd))
		}
		out = AppendControl(out, Control{m.Level, m.Type, data})
	}
	return out, nil
}
