package open

import (
	"bytes"
	"encoding/binary"
	"testing"

	"github.com/sandlock/sandlock/internal/sys"
	"golang.org/x/sys/unix"
)

// call is an open whose memory is a map of buffers.
type call struct {
	nr     int
	args   [6]uint64
	memory map[uint64][]byte
}

func (c call) Nr() int          { return c.nr }
func (c call) Arg(i int) uint64 { return c.args[i] }
func (c call) Int(i int) int    { return int(int32(uint32(c.args[i]))) }
func (c call) Read(addr uint64, buf []byte) error {
	m, ok := c.memory[addr]
	if !ok || len(m) < len(buf) {
		return unix.EFAULT
	}
	copy(buf, m)
	return nil
}
func (c call) ReadString(addr uint64, max int) ([]byte, error) {
	m, ok := c.memory[addr]
	i := bytes.IndexByte(m, 0)
	switch {
	case !ok:
		return nil, unix.EFAULT
	case i < 0 || i >= max:
		return nil, unix.ENAMETOOLONG
	}
	return m[:i], nil
}

func how(flags, mode, resolve uint64, more ...byte) []byte {
	b := binary.NativeEndian.AppendUint64(nil, flags)
	b = binary.NativeEndian.AppendUint64(b, mode)
	return append(binary.NativeEndian.AppendUint64(b, resolve), more...)
}

func TestDecode(t *testing.T) {
	const fdcwd = ^uint64(99) // -100
	path := []byte("/x\xff\x00")
	number := func(name string) int {
		nr, ok := sys.SyscallNumber(name)
		if !ok {
			return -1
		}
		return nr
	}
	for _, c := range []struct {
		name    string
		args    [6]uint64
		how     []byte
		flags   int
		mode    uint32
		resolve uint64
		dir     int
		err     error
	}{
		{"open", [6]uint64{1, unix.O_WRONLY | unix.O_CREAT, 0o100644}, nil, unix.O_WRONLY | unix.O_CREAT, 0o644, 0, unix.AT_FDCWD, nil},
		{"open", [6]uint64{1, 0x40000000, 0o777}, nil, 0, 0, 0, unix.AT_FDCWD, nil},
		{"creat", [6]uint64{1, 0o600}, nil, unix.O_WRONLY | unix.O_CREAT | unix.O_TRUNC, 0o600, 0, unix.AT_FDCWD, nil},
		{"openat", [6]uint64{fdcwd & 0xffffffff, 1, unix.O_PATH | unix.O_RDWR | unix.O_CREAT, 0o600}, nil, unix.O_PATH, 0, 0, unix.AT_FDCWD, nil},
		{"openat", [6]uint64{7 | 1<<40, 1, unix.O_TMPFILE | unix.O_RDWR, 0o600}, nil, unix.O_TMPFILE | unix.O_RDWR, 0o600, 0, 7, nil},
		{"openat2", [6]uint64{7, 1, 2, 24}, how(unix.O_CREAT, 0o600, unix.RESOLVE_BENEATH), unix.O_CREAT, 0o600, unix.RESOLVE_BENEATH, 7, nil},
		{"openat2", [6]uint64{7, 1, 2, 32}, how(0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0), 0, 0, 0, 7, nil},
		{"openat2", [6]uint64{7, 1, 2, 32}, how(0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1), 0, 0, 0, 7, unix.E2BIG},
		{"openat2", [6]uint64{7, 1, 2, 23}, how(0, 0, 0), 0, 0, 0, 7, unix.EINVAL},
		{"openat2", [6]uint64{7, 1, 2, 4097}, how(0, 0, 0), 0, 0, 0, 7, unix.E2BIG},
		{"openat2", [6]uint64{7, 1, 3, 24}, how(0, 0, 0), 0, 0, 0, 7, unix.EFAULT},
		{"openat2", [6]uint64{7, 1, 2, 24}, how(1<<40, 0, 0), 0, 0, 0, 7, unix.EINVAL},
		{"openat2", [6]uint64{7, 1, 2, 24}, how(0, 0o600, 0), 0, 0, 0, 7, unix.EINVAL},
		{"openat2", [6]uint64{7, 1, 2, 24}, how(unix.O_CREAT, 0o10000, 0), 0, 0, 0, 7, unix.EINVAL},
		{"openat2", [6]uint64{7, 1, 2, 24}, how(0, 0, 0x40), 0, 0, 0, 7, unix.EINVAL},
		{"openat2", [6]uint64{7, 1, 2, 24}, how(0, 0, unix.RESOLVE_BENEATH|unix.RESOLVE_IN_ROOT), 0, 0, 0, 7, unix.EINVAL},
		{"openat2", [6]uint64{7, 1, 2, 24}, how(unix.O_PATH|unix.O_RDWR, 0, 0), 0, 0, 0, 7, unix.EINVAL},
	} {
		nr := number(c.name)
		if nr < 0 {
			continue
		}
		got, err := Decode(call{nr, c.args, map[uint64][]byte{1: path, 2: c.how}})
		if err != c.err {
			t.Errorf("%s %v: %v, want %v", c.name, c.args, err, c.err)
		} else if err == nil && (got.Flags != c.flags || got.Mode != c.mode || got.Resolve != c.resolve || got.Dir != c.dir || string(got.Path) != "/x\xff") {
			t.Errorf("%s %v: %+v", c.name, c.args, got)
		}
	}
	if _, err := Decode(call{unix.SYS_READ, [6]uint64{}, nil}); err != unix.ENOSYS {
		t.Errorf("read: %v", err)
	}
}

func TestWrites(t *testing.T) {
	for flags, want := range map[int]bool{0: false, unix.O_WRONLY: true, unix.O_RDWR: true, unix.O_TRUNC: true, unix.O_CREAT: true, unix.O_TMPFILE: true, unix.O_DIRECTORY: false, unix.O_PATH: false} {
		if r := (Request{Flags: flags}); r.Writes() != want {
			t.Errorf("%#o: %v", flags, !want)
		}
	}
}

func FuzzHow(f *testing.F) {
	f.Add(how(0, 0, 0), uint64(24))
	f.Add(how(unix.O_CREAT|unix.O_RDWR, 0o7777, unix.RESOLVE_IN_ROOT, 0), uint64(25))
	nr, _ := sys.SyscallNumber("openat2")
	f.Fuzz(func(t *testing.T, b []byte, size uint64) {
		r, err := Decode(call{nr, [6]uint64{3, 1, 2, size}, map[uint64][]byte{1: {'x', 0}, 2: b}})
		if err == nil && (r.Flags&^validFlags != 0 || r.Mode&^modeBits != 0 || r.Mode != 0 && !r.Creates()) {
			t.Errorf("%x: %+v", b, r)
		}
	})
}
