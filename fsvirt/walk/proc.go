package walk

import (
	"bytes"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

const (
	procRootIno = 1  // PROC_ROOT_INO of linux/proc_fs.h
	maxProcDeep = 32 // directories below the root of /proc; the kernel's own are less deep
)

func inProc(fd int) (bool, error) {
	var st unix.Statfs_t
	if err := unix.Fstatfs(fd, &st); err != nil {
		return false, err
	}
	return st.Type == unix.PROC_SUPER_MAGIC, nil
}

// ProcName returns the names that lead from the root of its proc file system to
// the object, none for the root itself. It fails with EACCES when they cannot be
// known and with ENOENT when the process is gone.
func (o *Object) ProcName() ([]string, error) {
	dir, err := o.dup()
	if err != nil {
		return nil, err
	}
	depth := 0
	if dir.Stat.Mode&unix.S_IFMT != unix.S_IFDIR {
		// A file's name is one component more than its directory's: that one is
		// found by name, for a file has no "..".
		dir.Close()
		return o.fileProcName()
	}
	defer func() { dir.Close() }()
	for dir.Stat.Ino != procRootIno {
		if depth++; depth > maxProcDeep {
			return nil, unix.EACCES
		}
		up, err := pin(openat2(dir.FD, "..", unix.O_PATH|unix.O_CLOEXEC|unix.O_DIRECTORY, 0))
		if err != nil {
			return nil, err
		}
		dir.Close()
		dir = up
		if !dir.proc || dir.Stat.Dev != o.Stat.Dev {
			return nil, unix.EACCES // a part of /proc that is mounted elsewhere
		}
	}
	return o.lastNames(depth)
}

// fileProcName climbs over the directory's name instead of its descriptor: the
// kernel's name of a file in /proc is never more than its mount and its entries.
func (o *Object) fileProcName() ([]string, error) {
	path, err := o.Path()
	if err != nil {
		return nil, err
	}
	i := strings.LastIndexByte(path, '/')
	if i <= 0 || strings.HasSuffix(path, " (deleted)") {
		return nil, unix.ENOENT
	}
	dir, err := pin(openat2(unix.AT_FDCWD, path[:i], unix.O_PATH|unix.O_CLOEXEC|unix.O_DIRECTORY, unix.RESOLVE_NO_SYMLINKS))
	if err != nil {
		return nil, err
	}
	defer dir.Close()
	var st unix.Stat_t
	if err := unix.Fstatat(dir.FD, path[i+1:], &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return nil, err
	}
	if !dir.proc || st.Dev != o.Stat.Dev || st.Ino != o.Stat.Ino {
		return nil, unix.EACCES
	}
	names, err := dir.ProcName()
	if err != nil {
		return nil, err
	}
	return append(names, path[i+1:]), nil
}

// lastNames returns the last n components of the object's name.
func (o *Object) lastNames(n int) ([]string, error) {
	path, err := o.Path()
	if err != nil {
		return nil, err
	}
	if strings.HasSuffix(path, " (deleted)") {
		return nil, unix.ENOENT
	}
	names := strings.Split(strings.Trim(path, "/"), "/")
	if n > len(names) {
		return nil, unix.EACCES
	}
	return names[len(names)-n:], nil
}

// procLink follows the symbolic link name of the directory s.cur, which is in a
// proc file system. "self" is the caller. The links of a process jump to their
// object and are followed only for processes of the sandbox that the caller may
// look into: the kernel would ask whether the supervisor may.
func (s *steps) procLink(next *Object, name string) (target []byte, jump Object, err error) {
	jump.FD = -1
	names, err := s.cur.ProcName()
	if err != nil {
		return nil, jump, err
	}
	if len(names) == 0 && (name == "self" || name == "thread-self") {
		if next.Stat.Dev != s.w.procDev {
			return nil, jump, unix.EACCES // another PID namespace's numbers
		}
		target, err = s.self(name)
		return target, jump, err
	}
	pid := 0
	if len(names) > 0 {
		pid, _ = strconv.Atoi(names[0])
	}
	if pid <= 0 {
		target, err = readlink(next.FD)
		return target, jump, err
	}
	switch {
	case next.Stat.Dev != s.w.procDev || !s.isMember(pid) || !MayInspect(s.c.PID(), thread(names, pid)):
		return nil, jump, unix.EACCES
	case s.h.Resolve&unix.RESOLVE_NO_MAGICLINKS != 0:
		return nil, jump, unix.ELOOP
	case s.h.Resolve&scoped != 0:
		return nil, jump, unix.EXDEV // as the kernel answers, openat2(2)
	}
	jump, err = pin(openat2(s.cur.FD, name, unix.O_PATH|unix.O_CLOEXEC, 0))
	if err == nil {
		if err = s.crossed(&jump); err != nil {
			jump.Close()
		}
	}
	return nil, jump, err
}

// thread is the number of the thread whose directory names lead to, or into, below
// that of the process pid.
func thread(names []string, pid int) int {
	if len(names) > 2 && names[1] == "task" {
		if tid, err := strconv.Atoi(names[2]); err == nil {
			return tid
		}
	}
	return pid
}

// self is the text that the links /proc/self and /proc/thread-self have for the
// caller.
func (s *steps) self(name string) ([]byte, error) {
	tgid, err := threadGroup(s.c.PID())
	if err == nil {
		err = s.c.Valid()
	}
	if err != nil {
		return nil, err
	}
	text := strconv.Itoa(tgid)
	if name == "thread-self" {
		text += "/task/" + strconv.Itoa(s.c.PID())
	}
	return []byte(text), nil
}

func (s *steps) isMember(pid int) bool {
	if own, err := threadGroup(s.c.PID()); err == nil && s.c.Valid() == nil {
		if other, err := threadGroup(pid); err == nil && own == other {
			return true
		}
	}
	return s.w.member != nil && s.w.member(pid)
}

// threadGroup returns the process of a thread.
func threadGroup(tid int) (int, error) {
	text, err := os.ReadFile("/proc/" + strconv.Itoa(tid) + "/status")
	if err != nil {
		return 0, unix.ESRCH
	}
	_, rest, found := bytes.Cut(text, []byte("\nTgid:\t"))
	line, _, _ := bytes.Cut(rest, []byte("\n"))
	if !found {
		return 0, unix.ESRCH
	}
	return strconv.Atoi(string(line))
}
