// Package memfile makes files that exist only as descriptors: what the sandbox
// sees in place of a file of the host.
package memfile

import (
	"fmt"
	"os"
	"strconv"

	"golang.org/x/sys/unix"
)

const (
	noExecSeal = 8 // MFD_NOEXEC_SEAL of linux/memfd.h (Linux 6.3)
	seals      = unix.F_SEAL_SEAL | unix.F_SEAL_SHRINK | unix.F_SEAL_GROW | unix.F_SEAL_WRITE
	readable   = 0o444
)

// New returns a descriptor, owned by the caller and close-on-exec, of a file in
// memory that holds content, cannot be changed and is not executable. name is
// what /proc/pid/fd shows of it.
func New(name string, content []byte) (int, error) {
	fd, err := unix.MemfdCreate(name, unix.MFD_CLOEXEC|unix.MFD_ALLOW_SEALING|noExecSeal)
	if err == unix.EINVAL {
		fd, err = unix.MemfdCreate(name, unix.MFD_CLOEXEC|unix.MFD_ALLOW_SEALING)
	}
	if err != nil {
		return -1, fmt.Errorf("memfd: %w", err)
	}
	if err := fill(fd, content); err != nil {
		unix.Close(fd)
		return -1, fmt.Errorf("memfd: %w", err)
	}
	return fd, nil
}

func fill(fd int, content []byte) error {
	for at := 0; at < len(content); {
		n, err := unix.Pwrite(fd, content[at:], int64(at))
		if err != nil {
			return err
		}
		at += n
	}
	if err := unix.Fchmod(fd, readable); err != nil {
		return err
	}
	_, err := unix.FcntlInt(uintptr(fd), unix.F_ADD_SEALS, seals)
	return err
}

// Open returns another descriptor of the file behind fd, for reading, with an
// offset of its own. It is owned by the caller and close-on-exec.
func Open(fd int) (int, error) {
	return unix.Open("/proc/self/fd/"+strconv.Itoa(fd), unix.O_RDONLY|unix.O_CLOEXEC, 0)
}

// Read returns the content of the file that the O_PATH descriptor fd pins, which
// must be a regular file of at most max bytes; else it fails with EFBIG or
// EINVAL. It blocks as long as the file system does.
func Read(fd, max int) ([]byte, error) {
	own, err := unix.Open("/proc/self/fd/"+strconv.Itoa(fd), unix.O_RDONLY|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	f := os.NewFile(uintptr(own), "pinned")
	defer f.Close()
	var st unix.Stat_t
	if err := unix.Fstat(own, &st); err != nil {
		return nil, err
	}
	if st.Mode&unix.S_IFMT != unix.S_IFREG {
		return nil, unix.EINVAL
	}
	buf := make([]byte, min(max, int(st.Size))+1)
	n := 0
	for {
		k, err := unix.Pread(own, buf[n:], int64(n))
		switch {
		case err == unix.EINTR:
			continue
		case err != nil:
			return nil, err
		case k == 0:
			return buf[:n], nil
		}
		if n += k; n > max {
			return nil, unix.EFBIG
		}
		if n == len(buf) {
			buf = append(buf, make([]byte, min(max+1-n, len(buf)))...)
		}
	}
}
