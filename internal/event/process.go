package event

import (
	"strconv"
	"strings"
	"sync"

	"golang.org/x/sys/unix"
)

const (
	commLen  = 64   // TASK_COMM_LEN is 16 (linux/sched.h); kernel workers show up to 64
	exeLen   = 4096 // PATH_MAX, linux/limits.h
	maxKnown = 32   // processes whose files are kept open, two for each
)

// Process returns the name and the program of a process, "" for what cannot
// be read. It makes plain system calls on purpose: os.ReadFile costs three more
// of them, and a denial pays for this while its caller waits. Neither file makes
// the kernel touch the process's memory, so nothing here can be made to block.
func Process(pid int32) (comm, exe string) {
	p, err := openProcess(pid)
	if err != nil {
		return "", ""
	}
	defer p.close()
	comm, exe, _ = p.read()
	return comm, exe
}

// openFiles are files of a process that the kernel ties to this process: they do
// not come to mean another one that gets its number.
type openFiles struct{ dir, comm int }

func openProcess(pid int32) (openFiles, error) {
	dir, err := unix.Open("/proc/"+strconv.Itoa(int(pid)), unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return openFiles{}, err
	}
	comm, err := unix.Openat(dir, "comm", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		unix.Close(dir)
		return openFiles{}, err
	}
	return openFiles{dir, comm}, nil
}

// read fails with ESRCH when the process is gone.
func (p openFiles) read() (comm, exe string, err error) {
	var name [commLen]byte
	n, err := unix.Pread(p.comm, name[:], 0)
	if err != nil {
		return "", "", err
	}
	var path [exeLen]byte
	m, err := unix.Readlinkat(p.dir, "exe", path[:])
	if err != nil {
		m = 0 // of another user, or a thread of the kernel
	}
	return strings.TrimSuffix(string(name[:n]), "\n"), string(path[:m]), nil
}

func (p openFiles) close() {
	unix.Close(p.comm)
	unix.Close(p.dir)
}

// processes reads what Process does with half of the system calls, for those
// that are asked for again and again.
type processes struct {
	mu     sync.Mutex
	known  map[int32]openFiles
	closed bool
}

func (x *processes) look(pid int32) (comm, exe string) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if p, ok := x.known[pid]; ok {
		if comm, exe, err := p.read(); err == nil {
			return comm, exe
		}
		p.close()
		delete(x.known, pid)
	}
	p, err := openProcess(pid)
	if err != nil {
		return "", ""
	}
	comm, exe, _ = p.read()
	switch {
	case x.closed:
		p.close()
		return comm, exe
	case x.known == nil:
		x.known = map[int32]openFiles{}
	case len(x.known) >= maxKnown:
		x.forget()
	}
	x.known[pid] = p
	return comm, exe
}

func (x *processes) forget() {
	for pid, p := range x.known {
		p.close()
		delete(x.known, pid)
	}
}

func (x *processes) close() {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.closed = true
	x.forget()
}
