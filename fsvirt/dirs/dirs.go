// Package dirs lists directories in the order of their names, so that a program
// finds them the same way each time.
package dirs

import (
	"bytes"
	"context"
	"encoding/binary"
	"slices"
	"strconv"
	"sync"

	"github.com/sandlock/sandlock/dispatch"
	"github.com/sandlock/sandlock/internal/sys"
	"golang.org/x/sys/unix"
)

const (
	maxListings = 128     // directories whose listing is kept while it is read
	maxEntries  = 1 << 20 // of a directory that is sorted; a larger one fails with ENOMEM
	readBuffer  = 1 << 16
)

// Sorted answers getdents with sorted entries. The position in the listing is the
// offset of the caller's own descriptor: rewinddir, telldir and seekdir work, and
// copies of the descriptor share it, as ever. It is safe for concurrent use.
type Sorted struct {
	mu       sync.Mutex
	listings map[key][]entry
}

// key is a directory that a process reads through a descriptor.
type key struct {
	tgid, fd int
	dev, ino uint64
}

type entry struct {
	ino  uint64
	kind byte // DT_*
	name []byte
}

// New returns the listing.
func New() *Sorted { return &Sorted{listings: map[key][]entry{}} }

// Register puts the handler into the table: it traps every listing.
func (s *Sorted) Register(t *dispatch.Table) {
	var nrs []int
	for _, name := range []string{"getdents64", "getdents"} {
		if nr, ok := sys.SyscallNumber(name); ok {
			nrs = append(nrs, nr)
		}
	}
	t.Builtin(dispatch.Registration{Name: "dirs.sorted", Syscalls: nrs, Handler: dispatch.HandlerFunc(s.list)})
}

func (s *Sorted) list(c *dispatch.Call) dispatch.Action {
	fd, err := c.FD(c.Int(0))
	if err != nil {
		return dispatch.Fail(err)
	}
	return dispatch.Defer(func(context.Context) dispatch.Action {
		defer unix.Close(fd)
		n, err := s.read(c, fd)
		return dispatch.Result(int64(n), err)
	})
}

func (s *Sorted) read(c *dispatch.Call, fd int) (int, error) {
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return 0, err
	}
	if st.Mode&unix.S_IFMT != unix.S_IFDIR {
		return 0, unix.ENOTDIR
	}
	at, err := unix.Seek(fd, 0, unix.SEEK_CUR)
	if err != nil {
		return 0, err
	}
	k := key{dispatch.TGID(c.PID()), c.Int(0), st.Dev, st.Ino}
	all, err := s.listing(k, fd, at == 0)
	if err != nil {
		return 0, err
	}
	if at < 0 || at >= int64(len(all)) {
		s.forget(k)
		return 0, nil
	}
	buf, next := fill(all, int(at), int(min(uint64(uint32(c.Arg(2))), readBuffer)), c.Nr() == unix.SYS_GETDENTS64)
	if len(buf) == 0 {
		return 0, unix.EINVAL // getdents(2): the buffer is too small
	}
	if err := c.Write(c.Arg(1), buf); err != nil {
		return 0, err
	}
	if _, err := unix.Seek(fd, int64(next), unix.SEEK_SET); err != nil {
		return 0, err
	}
	return len(buf), nil
}

// listing returns what the directory held when the caller began to read it.
func (s *Sorted) listing(k key, fd int, fresh bool) ([]entry, error) {
	s.mu.Lock()
	all, ok := s.listings[k]
	s.mu.Unlock()
	if ok && !fresh {
		return all, nil
	}
	all, err := readAll(fd)
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.listings) >= maxListings {
		clear(s.listings)
	}
	s.listings[k] = all
	return all, nil
}

func (s *Sorted) forget(k key) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.listings, k)
}

// readAll reads a directory through a descriptor of our own, with its own offset.
func readAll(fd int) ([]entry, error) {
	own, err := unix.Open("/proc/self/fd/"+strconv.Itoa(fd), unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	defer unix.Close(own)
	var all []entry
	buf := make([]byte, readBuffer)
	for {
		n, err := sys.Getdents(unix.SYS_GETDENTS64, own, buf)
		if err != nil {
			return nil, err
		}
		if n == 0 {
			break
		}
		if all, err = parse(all, buf[:n]); err != nil {
			return nil, err
		}
		if len(all) > maxEntries {
			return nil, unix.ENOMEM
		}
	}
	slices.SortFunc(all, func(a, b entry) int { return bytes.Compare(a.name, b.name) })
	return all, nil
}

// Offsets of struct linux_dirent64 and of struct linux_dirent, whose type is its
// last byte (getdents(2)).
const (
	offOffset  = 8
	offLength  = 16
	offType64  = 18
	offName64  = 19
	offNameOld = 18
)

func parse(all []entry, b []byte) ([]entry, error) {
	for len(b) > 0 {
		if len(b) < offName64 {
			return nil, unix.EIO
		}
		length := int(binary.NativeEndian.Uint16(b[offLength:]))
		if length <= offName64 || length > len(b) {
			return nil, unix.EIO
		}
		name, _, _ := bytes.Cut(b[offName64:length], []byte{0})
		all = append(all, entry{binary.NativeEndian.Uint64(b), b[offType64], bytes.Clone(name)})
		b = b[length:]
	}
	return all, nil
}

// fill writes entries from at on, as many as size bytes hold, and returns the
// position behind them.
func fill(all []entry, at, size int, is64 bool) (buf []byte, next int) {
	for ; at < len(all); at++ {
		e := all[at]
		const align = 8
		length := (offName64 + len(e.name) + 1 + align - 1) / align * align
		if !is64 { // name, NUL, and the type at the very end
			length = (offNameOld + len(e.name) + 2 + align - 1) / align * align
		}
		if len(buf)+length > size {
			break
		}
		rec := make([]byte, length)
		binary.NativeEndian.PutUint64(rec, e.ino)
		binary.NativeEndian.PutUint64(rec[offOffset:], uint64(at+1))
		binary.NativeEndian.PutUint16(rec[offLength:], uint16(length))
		if is64 {
			rec[offType64] = e.kind
			copy(rec[offName64:], e.name)
		} else {
			copy(rec[offNameOld:], e.name)
			rec[length-1] = e.kind
		}
		buf = append(buf, rec...)
	}
	return buf, at
}
