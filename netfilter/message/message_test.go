package message

import (
	"bytes"
	"encoding/binary"
	"errors"
	"slices"
	"testing"

	"github.com/sandlock/sandlock/internal/sys"
	"golang.org/x/sys/unix"
)

func header(name uint64, nameLen int32, vectors, vectorsLen, control, controlLen uint64) []byte {
	b := make([]byte, HeaderSize)
	binary.NativeEndian.PutUint64(b, name)
	binary.NativeEndian.PutUint32(b[NameLenAt:], uint32(nameLen))
	for i, v := range []uint64{vectors, vectorsLen, control, controlLen} {
		binary.NativeEndian.PutUint64(b[16+8*i:], v)
	}
	return b
}

func TestParseHeader(t *testing.T) {
	for _, c := range []struct {
		name string
		b    []byte
		want Header
		err  error
	}{
		{"plain", header(8, 16, 24, 2, 32, 48), Header{8, 16, 24, 2, 32, 48}, nil},
		{"no address", header(0, 16, 24, 1, 0, 0), Header{0, 0, 24, 1, 0, 0}, nil},
		{"an address without a length", header(8, 0, 24, 1, 0, 0), Header{0, 0, 24, 1, 0, 0}, nil},
		{"a long address is cut", header(8, 4096, 24, 1, 0, 0), Header{8, sys.SockaddrMax, 24, 1, 0, 0}, nil},
		{"a negative length", header(8, -1, 24, 1, 0, 0), Header{}, unix.EINVAL},
		{"too many vectors", header(0, 0, 24, MaxVectors+1, 0, 0), Header{}, unix.EMSGSIZE},
		{"long control messages", header(0, 0, 24, 1, 32, 1<<40), Header{0, 0, 24, 1, 32, MaxControl + 1}, nil},
		{"short", header(0, 0, 0, 0, 0, 0)[:HeaderSize-1], Header{}, unix.EINVAL},
	} {
		h, err := ParseHeader(c.b)
		if !errors.Is(err, c.err) || err == nil && h != c.want {
			t.Errorf("%s: %+v, %v", c.name, h, err)
		}
	}
}

func vector(addr, length uint64) []byte {
	return binary.NativeEndian.AppendUint64(binary.NativeEndian.AppendUint64(nil, addr), length)
}

func TestParseVectors(t *testing.T) {
	got, n, err := ParseVectors(slices.Concat(vector(1, 10), vector(2, 0), vector(3, 5)))
	if want := []sys.Range{{Addr: 1, Len: 10}, {Addr: 3, Len: 5}}; err != nil || n != 15 || !slices.Equal(got, want) {
		t.Errorf("%v %d %v", got, n, err)
	}
	if _, _, err := ParseVectors(vector(1, 1<<63)); err != unix.EINVAL {
		t.Errorf("a negative length: %v", err)
	}
	if _, n, err := ParseVectors(slices.Concat(vector(1, 1<<40), vector(2, 1<<40))); err != nil || n != maxInOne-1 {
		t.Errorf("too much: %d %v", n, err)
	}
}

func sum(rs []sys.Range) (n uint64) {
	for _, r := range rs {
		n += r.Len
	}
	return n
}

func TestCut(t *testing.T) {
	pieces := []sys.Range{{Addr: 100, Len: 10}, {Addr: 200, Len: 10}}
	for n := range 25 {
		head, rest := Cut(pieces, n)
		if sum(head) != uint64(min(n, 20)) || sum(head)+sum(rest) != 20 {
			t.Errorf("%d: %v %v", n, head, rest)
		}
	}
}

func TestInetControl(t *testing.T) {
	ok := func(level, kind int32, data ...byte) []byte { return AppendControl(nil, Control{level, kind, data}) }
	four := []byte{1, 0, 0, 0}
	tos := ok(unix.SOL_IP, unix.IP_TOS, 4)
	for _, c := range []struct {
		name string
		b    []byte
		want []byte
		err  error
	}{
		{"nothing", nil, nil, nil},
		{"too short for a header", make([]byte, 15), nil, nil},
		{"IP_TOS of a byte", tos, tos, nil},
		{"IP_TTL", ok(unix.SOL_IP, unix.IP_TTL, four...), ok(unix.SOL_IP, unix.IP_TTL, four...), nil},
		{"IP_TTL of a byte", ok(unix.SOL_IP, unix.IP_TTL, 1), nil, unix.EINVAL},
		{"two", slices.Concat(tos, ok(unix.SOL_UDP, unix.UDP_SEGMENT, 1, 2)), slices.Concat(tos, ok(unix.SOL_UDP, unix.UDP_SEGMENT, 1, 2)), nil},
		{"the interface goes", ok(unix.SOL_IP, unix.IP_PKTINFO, 7, 0, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2),
			ok(unix.SOL_IP, unix.IP_PKTINFO, 0, 0, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2), nil},
		{"the interface goes, IPv6", ok(unix.SOL_IPV6, unix.IPV6_PKTINFO, append(bytes.Repeat([]byte{9}, 16), 7, 0, 0, 0)...),
			ok(unix.SOL_IPV6, unix.IPV6_PKTINFO, append(bytes.Repeat([]byte{9}, 16), 0, 0, 0, 0)...), nil},
		{"source route", ok(unix.SOL_IP, unix.IP_RETOPTS, four...), nil, unix.EPERM},
		{"routing header", ok(unix.SOL_IPV6, unix.IPV6_RTHDR, make([]byte, 24)...), nil, unix.EPERM},
		{"behind a good one", slices.Concat(tos, ok(unix.SOL_SOCKET, unix.SO_MARK, four...)), nil, unix.EPERM},
		{"a length of zero", make([]byte, 16), nil, unix.EINVAL},
		{"a length beyond the end", slices.Concat(binary.NativeEndian.AppendUint64(nil, 17), make([]byte, 8)), nil, unix.EINVAL},
		{"a huge length", slices.Concat(binary.NativeEndian.AppendUint64(nil, 1<<63), make([]byte, 8)), nil, unix.EINVAL},
	} {
		got, _, err := InetControl(c.b)
		if !errors.Is(err, c.err) || !bytes.Equal(got, c.want) {
			t.Errorf("%s: % x, %v", c.name, got, err)
		}
	}
}

func TestUnixControl(t *testing.T) {
	rights := AppendControl(nil, Control{unix.SOL_SOCKET, unix.SCM_RIGHTS, []byte{5, 0, 0, 0, 7, 0, 0, 0, 1}})
	got, err := UnixControl(rights, func(fd int) (int, error) { return fd + 100, nil })
	if want := AppendControl(nil, Control{unix.SOL_SOCKET, unix.SCM_RIGHTS, []byte{105, 0, 0, 0, 107, 0, 0, 0}}); err != nil || !bytes.Equal(got, want) {
		t.Errorf("% x, %v", got, err)
	}
	if _, err := UnixControl(rights, func(int) (int, error) { return -1, unix.EBADF }); err != unix.EBADF {
		t.Errorf("no such descriptor: %v", err)
	}
	if _, err := UnixControl(AppendControl(nil, Control{unix.SOL_SOCKET, unix.SCM_CREDENTIALS, make([]byte, 12)}), nil); err != unix.EPERM {
		t.Errorf("credentials: %v", err)
	}
	many := AppendControl(nil, Control{unix.SOL_SOCKET, unix.SCM_RIGHTS, make([]byte, 4*(MaxFiles+1))})
	if _, err := UnixControl(many, func(fd int) (int, error) { return fd, nil }); err != unix.EINVAL {
		t.Errorf("too many descriptors: %v", err)
	}
}
