package dispatch

import (
	"fmt"
	"os"
	"strconv"

	"golang.org/x/sys/unix"
)

// memfdNoExecSeal is MFD_NOEXEC_SEAL of linux/memfd.h (Linux 6.3).
const memfdNoExecSeal = 8

const allSeals = unix.F_SEAL_SEAL | unix.F_SEAL_SHRINK | unix.F_SEAL_GROW | unix.F_SEAL_WRITE

// File returns a descriptor, open for reading and owned by the caller, of a file
// that exists in memory only, holds the content and can never be changed. name
// shows in /proc/pid/fd.
func File(name string, content []byte) (int, error) {
	mem, err := unix.MemfdCreate(name, unix.MFD_CLOEXEC|unix.MFD_ALLOW_SEALING|memfdNoExecSeal)
	if err == unix.EINVAL {
		mem, err = unix.MemfdCreate(name, unix.MFD_CLOEXEC|unix.MFD_ALLOW_SEALING)
	}
	if err != nil {
		return -1, fmt.Errorf("memfd_create: %w", err)
	}
	f := os.NewFile(uintptr(mem), name)
	defer f.Close()
	if _, err := f.Write(content); err != nil {
		return -1, err
	}
	if _, err := unix.FcntlInt(uintptr(mem), unix.F_ADD_SEALS, allSeals); err != nil {
		return -1, fmt.Errorf("seal: %w", err)
	}
	// Opened anew, it is for reading only and at its beginning.
	return unix.Open("/proc/self/fd/"+strconv.Itoa(mem), unix.O_RDONLY|unix.O_CLOEXEC, 0)
}

// InjectBytes answers a call that opens a file with a File of the content, which
// is cheap for some kilobytes: a larger one is better made once and injected by a
// copy of its descriptor each time.
func InjectBytes(name string, content []byte, cloexec bool) Action {
	fd, err := File(name, content)
	if err != nil {
		return Fail(err)
	}
	return InjectFD(fd, cloexec)
}
