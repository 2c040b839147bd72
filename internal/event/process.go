package event

import (
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

const (
	commLen = 64   // TASK_COMM_LEN is 16 (linux/sched.h); kernel workers show up to 64
	exeLen  = 4096 // PATH_MAX, linux/limits.h
)

// Process returns the name and the program of a process, "" for what cannot
// be read. It makes plain system calls on purpose: os.ReadFile costs three more
// of them, and a denial pays for this while its caller waits. Neither file makes
// the kernel touch the process's memory, so nothing here can be made to block.
func Process(pid int32) (comm, exe string) {
	dir := "/proc/" + strconv.Itoa(int(pid))
	if fd, err := unix.Open(dir+"/comm", unix.O_RDONLY|unix.O_CLOEXEC, 0); err == nil {
		var buf [commLen]byte
		if n, err := unix.Read(fd, buf[:]); err == nil {
			comm = strings.TrimSuffix(string(buf[:n]), "\n")
		}
		unix.Close(fd)
	}
	buf := make([]byte, exeLen)
	if n, err := unix.Readlink(dir+"/exe", buf); err == nil {
		exe = string(buf[:n])
	}
	return comm, exe
}
