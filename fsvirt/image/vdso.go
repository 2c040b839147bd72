package image

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"os"

	"github.com/sandlock/sandlock/internal/sys"
	"golang.org/x/sys/unix"
)

// Layout is how this kernel's vDSO looks (vdso(7)), the same in every process:
// where its functions are, and where there is room for code of ours.
type Layout struct {
	size    uint64
	room    uint64 // offset of the zeros behind its last section
	end     uint64 // of them
	symbols map[string]symbol
}

type symbol struct {
	value uint64 // offset of the function
	size  uint64
	entry uint64 // offset of the table's entry
}

// Of elf(5), for 64 bits.
const (
	typeDynamic, typeLoad        = 2, 1
	tagHash, tagStrtab, tagSymab = 4, 5, 6
	programHeaderSize            = 56
	symbolSize                   = 24
	valueInSymbol                = 8
	maxVDSO                      = 1 << 20
	markSize                     = 8
)

// ReadLayout looks at the vDSO of this process. It returns nil where the kernel
// has none.
func ReadLayout() (*Layout, error) {
	base, err := ownVDSO()
	if base == 0 || err != nil {
		return nil, err
	}
	head := make([]byte, os.Getpagesize())
	if n, err := sys.ReadMemory(os.Getpid(), base, head); err != nil || n != len(head) {
		return nil, fmt.Errorf("read the vDSO: %w", err)
	}
	size := loadSize(head)
	if size == 0 || size > maxVDSO {
		return nil, errors.New("the vDSO has no segment")
	}
	size = (size + uint64(len(head)) - 1) / uint64(len(head)) * uint64(len(head))
	image := make([]byte, size)
	if n, err := sys.ReadMemory(os.Getpid(), base, image); err != nil || n != len(image) {
		return nil, fmt.Errorf("read the vDSO: %w", err)
	}
	return parse(image)
}

func ownVDSO() (uint64, error) {
	const sysinfoEHDR = 33 // AT_SYSINFO_EHDR of getauxval(3)
	aux, err := unix.Auxv()
	if err != nil {
		return 0, err
	}
	for _, a := range aux {
		if a[0] == sysinfoEHDR {
			return uint64(a[1]), nil
		}
	}
	return 0, nil
}

func u16(b []byte, at uint64) uint64 { return uint64(binary.LittleEndian.Uint16(b[at:])) }
func u32(b []byte, at uint64) uint64 { return uint64(binary.LittleEndian.Uint32(b[at:])) }
func u64(b []byte, at uint64) uint64 { return binary.LittleEndian.Uint64(b[at:]) }

// programs calls f with the type, address and size in memory of each segment.
func programs(b []byte, f func(typ, addr, size uint64)) {
	at, n := u64(b, 32), u16(b, 56)
	for i := range n {
		p := at + i*programHeaderSize
		if p+programHeaderSize > uint64(len(b)) {
			return
		}
		f(u32(b, p), u64(b, p+16), u64(b, p+40))
	}
}

func loadSize(head []byte) (size uint64) {
	if !bytes.HasPrefix(head, []byte("\x7fELF\x02\x01")) {
		return 0
	}
	programs(head, func(typ, addr, n uint64) {
		if typ == typeLoad {
			size = max(size, addr+n)
		}
	})
	return size
}

// parse reads an image; it comes from the kernel, but no offset in it is trusted.
func parse(b []byte) (l *Layout, err error) {
	defer func() {
		if recover() != nil { // an offset beyond the image
			l, err = nil, errors.New("the vDSO's tables are not understood")
		}
	}()
	l = &Layout{size: uint64(len(b)), symbols: map[string]symbol{}}
	tags := map[uint64]uint64{}
	programs(b, func(typ, addr, size uint64) {
		for at := addr; typ == typeDynamic && at+16 <= addr+size; at += 16 {
			tags[u64(b, at)] = u64(b, at+8)
		}
	})
	hash, strings, table := tags[tagHash], tags[tagStrtab], tags[tagSymab]
	if hash == 0 || strings == 0 || table == 0 {
		return nil, errors.New("the vDSO has no table of symbols")
	}
	for i := range u32(b, hash+4) { // nchain, the number of symbols
		e := table + i*symbolSize
		name, _, _ := bytes.Cut(b[strings+u32(b, e):], []byte{0})
		l.symbols[string(name)] = symbol{value: u64(b, e+valueInSymbol), size: u64(b, e+16), entry: e}
	}
	last := uint64(len(bytes.TrimRight(b, "\x00")))
	l.room, l.end = (last+31)&^15, l.size-markSize
	return l, nil
}

// edit is a change of a vDSO: bytes at an offset.
type edit struct {
	at uint64
	to []byte
}

// points is the edit that lets the symbol mean another offset.
func (s symbol) points(to uint64) edit {
	return edit{s.entry + valueInSymbol, binary.LittleEndian.AppendUint64(nil, to)}
}
