package proc

import (
	"bytes"
	"encoding/binary"
	"slices"
	"testing"

	"golang.org/x/sys/unix"
)

func entry(name string, is64 bool) []byte {
	head := 18
	if is64 {
		head = 19
	}
	b := make([]byte, (head+len(name)+1+7)/8*8)
	binary.NativeEndian.PutUint16(b[16:], uint16(len(b)))
	copy(b[head:], name)
	return b
}

func TestKeep(t *testing.T) {
	for _, is64 := range []bool{false, true} {
		var in, want []byte
		for _, name := range []string{".", "..", "1", "self", "42", "420", "4a", "kmsg", "77"} {
			in = append(in, entry(name, is64)...)
			if name != "1" && name != "420" {
				want = append(want, entry(name, is64)...)
			}
		}
		got, err := keep(in, is64, func(pid int) bool { return pid == 42 || pid == 77 })
		if err != nil || !bytes.Equal(got, want) {
			t.Errorf("64 bits %v: %q %v", is64, got, err)
		}
	}
	for _, bad := range [][]byte{make([]byte, 10), make([]byte, 24), entry("x", true)[:20]} {
		if _, err := keep(bad, true, func(int) bool { return true }); err != unix.EIO {
			t.Errorf("%x: %v", bad, err)
		}
	}
}

func FuzzKeep(f *testing.F) {
	f.Add(slices.Concat(entry("1", true), entry("self", true)), true)
	f.Add(slices.Concat(entry("1", false), entry("self", false)), false)
	f.Fuzz(func(t *testing.T, in []byte, is64 bool) {
		n := len(in)
		got, err := keep(in, is64, func(pid int) bool { return pid%2 == 0 })
		if err == nil && len(got) > n {
			t.Errorf("%d bytes of %d are kept", len(got), n)
		}
	})
}

func TestEscapeMount(t *testing.T) {
	if got := escapeMount("/a b\tc\\d\ne"); got != `/a\040b\011c\134d\012e` {
		t.Error(got)
	}
}
