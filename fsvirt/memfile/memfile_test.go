package memfile

import (
	"bytes"
	"io"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

func TestNew(t *testing.T) {
	content := bytes.Repeat([]byte("0123456789"), 100000)
	fd, err := New("test", content)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	for range 2 {
		own, err := Open(fd)
		if err != nil {
			t.Fatal(err)
		}
		f := os.NewFile(uintptr(own), "copy")
		got, err := io.ReadAll(f)
		if err != nil || !bytes.Equal(got, content) {
			t.Fatalf("%d bytes, %v", len(got), err)
		}
		if _, err := f.Write([]byte("x")); err == nil {
			t.Error("written")
		}
		f.Close()
	}
	if _, err := unix.Pwrite(fd, []byte("x"), 0); err != unix.EPERM {
		t.Errorf("a write: %v", err)
	}
	if err := unix.Ftruncate(fd, 0); err != unix.EPERM {
		t.Errorf("a truncation: %v", err)
	}
}

func TestRead(t *testing.T) {
	dir := t.TempDir()
	for _, size := range []int{0, 1, 4095, 4096, 9999} {
		path := filepath.Join(dir, "f")
		content := bytes.Repeat([]byte("x"), size)
		if err := os.WriteFile(path, content, 0o600); err != nil {
			t.Fatal(err)
		}
		fd, err := unix.Open(path, unix.O_PATH|unix.O_CLOEXEC, 0)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := Read(fd, 9999); err != nil || !bytes.Equal(got, content) {
			t.Errorf("%d bytes: %d, %v", size, len(got), err)
		}
		if _, err := Read(fd, size-1); size > 0 && err != unix.EFBIG {
			t.Errorf("%d bytes, one less asked for: %v", size, err)
		}
		unix.Close(fd)
	}
	fd, err := unix.Open(dir, unix.O_PATH|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	if _, err := Read(fd, 10); err != unix.EINVAL {
		t.Errorf("a directory: %v", err)
	}
}
