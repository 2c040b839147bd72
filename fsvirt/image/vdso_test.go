package image

import (
	"encoding/binary"
	"os"
	"runtime"
	"testing"

	"github.com/sandlock/sandlock/internal/sys"
)

func image(t testing.TB) []byte {
	t.Helper()
	base, err := ownVDSO()
	if err != nil || base == 0 {
		t.Fatal("no vDSO:", err)
	}
	head := make([]byte, os.Getpagesize())
	if _, err := sys.ReadMemory(os.Getpid(), base, head); err != nil {
		t.Fatal(err)
	}
	b := make([]byte, (loadSize(head)+uint64(len(head))-1)/uint64(len(head))*uint64(len(head)))
	if n, err := sys.ReadMemory(os.Getpid(), base, b); err != nil || n != len(b) {
		t.Fatal(n, err)
	}
	return b
}

func TestLayout(t *testing.T) {
	l, err := ReadLayout()
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]string{"amd64": "__vdso_clock_gettime", "arm64": "__kernel_clock_gettime"}[runtime.GOARCH]
	s, ok := l.symbols[want]
	if !ok || s.value == 0 || s.value >= l.size || s.size == 0 {
		t.Fatalf("%s: %+v of %v", want, s, l.symbols)
	}
	b := image(t)
	if got := binary.LittleEndian.Uint64(b[s.entry+valueInSymbol:]); got != s.value {
		t.Fatalf("the entry holds %#x, not %#x", got, s.value)
	}
	for _, x := range b[l.room:] {
		if x != 0 {
			t.Fatal("the room is not free")
		}
	}
}

// Every edit lies in the table of symbols, in free room, or in a function that it
// replaces.
func TestEditsStayInTheirPlaces(t *testing.T) {
	if runtime.GOARCH != "amd64" {
		t.Skip("the clocks of the vDSO are changed on x86-64 only")
	}
	l, err := ReadLayout()
	if err != nil {
		t.Fatal(err)
	}
	for _, offset := range []int64{1, -1, 1e9, -1e9, -1234567890123456789, 1234567890123456789} {
		edits, err := clocks(l, offset)
		if err != nil {
			t.Fatal(err)
		}
		entries := map[uint64]bool{}
		for _, s := range l.symbols {
			entries[s.entry+valueInSymbol] = true
		}
		for _, e := range edits {
			end := e.at + uint64(len(e.to))
			if !(entries[e.at] && len(e.to) == 8) && !(e.at >= l.room && end <= l.end) {
				t.Fatalf("%d: an edit at %#x to %#x", offset, e.at, end)
			}
		}
	}
	tight := *l
	tight.end = l.room + 100
	if _, err := clocks(&tight, 1); err == nil {
		t.Fatal("there was no room")
	}
}

// The image comes from the kernel; a strange one must not end the supervisor.
func FuzzParse(f *testing.F) {
	f.Add([]byte("\x7fELF\x02\x01"), uint16(0), byte(0))
	f.Add(image(f), uint16(0), byte(0))
	good := image(f)
	f.Fuzz(func(t *testing.T, b []byte, at uint16, to byte) {
		parse(b)
		c := append([]byte(nil), good...)
		c[int(at)%len(c)] = to
		if l, err := parse(c); err == nil && l.room > l.size+64 {
			t.Fatal("room beyond the image")
		}
	})
}
