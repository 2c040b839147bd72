package wire

import (
	"encoding/binary"
	"errors"
	"net/netip"

	"github.com/sandlock/sandlock/netfilter/endpoint"
)

// ErrMalformed says that a message is not one that this package writes.
var ErrMalformed = errors.New("wire: malformed message")

// encoder appends values: integers in big endian, everything else behind its
// length.
type encoder struct{ b []byte }

func (e *encoder) u8(v uint8)   { e.b = append(e.b, v) }
func (e *encoder) u16(v uint16) { e.b = binary.BigEndian.AppendUint16(e.b, v) }
func (e *encoder) u32(v uint32) { e.b = binary.BigEndian.AppendUint32(e.b, v) }
func (e *encoder) u64(v uint64) { e.b = binary.BigEndian.AppendUint64(e.b, v) }

func (e *encoder) flag(v bool) {
	if v {
		e.u8(1)
	} else {
		e.u8(0)
	}
}

func (e *encoder) bytes(v []byte) {
	e.u32(uint32(len(v)))
	e.b = append(e.b, v...)
}

func (e *encoder) text(v string) {
	e.u32(uint32(len(v)))
	e.b = append(e.b, v...)
}

func (e *encoder) name(n endpoint.Name) { e.text(n.String()) }

func (e *encoder) addr(a netip.Addr) {
	e.bytes(a.AsSlice())
}

// decoder reads what encoder wrote. The first fault sticks, and everything that
// is read after it is zero.
type decoder struct {
	b   []byte
	bad bool
}

func (d *decoder) take(n int) []byte {
	if d.bad || n < 0 || n > len(d.b) {
		d.bad = true
		return nil
	}
	v := d.b[:n:n]
	d.b = d.b[n:]
	return v
}

func (d *decoder) u8() uint8 {
	if v := d.take(1); v != nil {
		return v[0]
	}
	return 0
}

func (d *decoder) u16() uint16 {
	if v := d.take(2); v != nil {
		return binary.BigEndian.Uint16(v)
	}
	return 0
}

func (d *decoder) u32() uint32 {
	if v := d.take(4); v != nil {
		return binary.BigEndian.Uint32(v)
	}
	return 0
}

func (d *decoder) u64() uint64 {
	if v := d.take(8); v != nil {
		return binary.BigEndian.Uint64(v)
	}
	return 0
}

func (d *decoder) flag() bool {
	v := d.u8()
	d.bad = d.bad || v > 1
	return v == 1
}

// bytes returns a copy: what came in is in a buffer that is used again.
func (d *decoder) bytes(most int) []byte {
	n := d.u32()
	if n > uint32(most) {
		d.bad = true
	}
	v := d.take(int(n))
	if len(v) == 0 {
		return nil
	}
	return append([]byte(nil), v...)
}

func (d *decoder) text(most int) string { return string(d.bytes(most)) }

// count reads how many things follow, each at least one byte long.
func (d *decoder) count(most int) int {
	n := d.u32()
	if n > uint32(most) || int(n) > len(d.b) {
		d.bad = true
		return 0
	}
	return int(n)
}

// name takes only a name in its canonical form, or none.
func (d *decoder) name() endpoint.Name {
	text := d.text(maxNameLen)
	if text == "" {
		return endpoint.Name{}
	}
	n, err := endpoint.ParseName(text)
	if err != nil || n.String() != text {
		d.bad = true
		return endpoint.Name{}
	}
	return n
}

func (d *decoder) addr() netip.Addr {
	b := d.bytes(16)
	if len(b) == 0 {
		return netip.Addr{}
	}
	a, ok := netip.AddrFromSlice(b)
	d.bad = d.bad || !ok
	return a
}

// size is a count of bytes or nanoseconds, never negative.
func (d *decoder) size() int64 {
	v := int64(d.u64())
	if v < 0 {
		d.bad = true
		return 0
	}
	return v
}

func (d *decoder) end() error {
	if d.bad || len(d.b) > 0 {
		return ErrMalformed
	}
	return nil
}
