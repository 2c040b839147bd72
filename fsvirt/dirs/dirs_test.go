package dirs

import (
	"bytes"
	"slices"
	"strconv"
	"testing"

	"golang.org/x/sys/unix"
)

func entries(names ...string) []entry {
	var all []entry
	for i, n := range names {
		all = append(all, entry{uint64(i + 1), unix.DT_REG, []byte(n)})
	}
	return all
}

func TestFillAndParse(t *testing.T) {
	var names []string
	for i := range 300 {
		names = append(names, "name"+strconv.Itoa(i))
	}
	all := entries(names...)
	for _, size := range []int{32, 100, 4096} {
		var got []entry
		for at := 0; at < len(all); {
			buf, next := fill(all, at, size, true)
			if len(buf) == 0 || len(buf) > size || next == at {
				t.Fatalf("size %d: %d bytes from %d to %d", size, len(buf), at, next)
			}
			var err error
			if got, err = parse(got, buf); err != nil {
				t.Fatal(err)
			}
			at = next
		}
		if !slices.EqualFunc(all, got, func(a, b entry) bool { return a.ino == b.ino && a.kind == b.kind && bytes.Equal(a.name, b.name) }) {
			t.Errorf("size %d: %d entries, want %d", size, len(got), len(all))
		}
	}
	if buf, next := fill(all, 0, 20, true); len(buf) != 0 || next != 0 {
		t.Errorf("a buffer that is too small: %d bytes, next %d", len(buf), next)
	}
	buf, _ := fill(entries("x"), 0, 100, false)
	if len(buf) != 24 || buf[18] != 'x' || buf[23] != unix.DT_REG {
		t.Errorf("the old form: %x", buf)
	}
}

func TestReadAll(t *testing.T) {
	dir := t.TempDir()
	for _, n := range []string{"b", "a", "\xff", "c"} {
		if err := unix.Mkdir(dir+"/"+n, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	fd, err := unix.Open(dir, unix.O_RDONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	all, err := readAll(fd)
	var names []string
	for _, e := range all {
		names = append(names, string(e.name))
	}
	if want := []string{".", "..", "a", "b", "c", "\xff"}; err != nil || !slices.Equal(names, want) {
		t.Errorf("%q %v, want %q", names, err, want)
	}
	if at, err := unix.Seek(fd, 0, unix.SEEK_CUR); at != 0 || err != nil {
		t.Errorf("the descriptor moved to %d: %v", at, err)
	}
}

func FuzzParse(f *testing.F) {
	buf, _ := fill(entries("a", "bc"), 0, 1000, true)
	f.Add(buf)
	f.Fuzz(func(t *testing.T, b []byte) {
		all, err := parse(nil, b)
		for _, e := range all {
			if err == nil && bytes.IndexByte(e.name, 0) >= 0 {
				t.Errorf("%q", e.name)
			}
		}
	})
}
