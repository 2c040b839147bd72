package proc

import (
	"context"
	"encoding/binary"
	"slices"
	"strconv"

	"github.com/sandlock/sandlock/dispatch"
	"github.com/sandlock/sandlock/internal/sys"
	"golang.org/x/sys/unix"
)

const (
	procRootIno = 1     // PROC_ROOT_INO of linux/proc_fs.h
	maxListing  = 32768 // bytes of entries a call; libraries ask for as many
)

// Register puts the listing of /proc into the table, and the calls that tell the
// host's name and processors where those are not shown.
func (v *View) Register(t *dispatch.Table) {
	var nrs []int
	for _, name := range []string{"getdents64", "getdents"} {
		if nr, ok := sys.SyscallNumber(name); ok {
			nrs = append(nrs, nr)
		}
	}
	t.Builtin(dispatch.Registration{Name: "proc.list", Syscalls: nrs, Handler: dispatch.HandlerFunc(v.list)})
	if v.CPUs > 0 {
		t.Builtin(dispatch.Registration{Name: "proc.affinity", Syscalls: []int{unix.SYS_SCHED_GETAFFINITY}, Handler: dispatch.HandlerFunc(v.affinity)})
	}
	if v.Hostname != "" {
		t.Builtin(dispatch.Registration{Name: "proc.uname", Syscalls: []int{unix.SYS_UNAME}, Handler: dispatch.HandlerFunc(v.uname)})
	}
}

// list answers getdents on the root of /proc: without the processes of others.
// The duplicate shares its offset with the caller's descriptor, so seeking works
// as ever. It looks at the descriptor, not at memory, and lets every other
// directory go on to the kernel: Landlock keeps those of /proc from being opened.
func (v *View) list(c *dispatch.Call) dispatch.Action {
	if !v.listed.Load() {
		return dispatch.Continue() // nobody has such a descriptor yet
	}
	fd, err := c.FD(c.Int(0))
	if err != nil {
		return dispatch.Fail(err)
	}
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil || st.Dev != v.dev || st.Ino != procRootIno {
		unix.Close(fd)
		return dispatch.Continue()
	}
	return dispatch.Defer(func(context.Context) dispatch.Action {
		defer unix.Close(fd)
		n, err := v.copyEntries(c, fd)
		return dispatch.Result(int64(n), err)
	})
}

func (v *View) copyEntries(c *dispatch.Call, fd int) (int, error) {
	pids, err := v.Members()
	if err != nil {
		return 0, err
	}
	mine := func(pid int) bool { return slices.Contains(pids, pid) }
	buf := make([]byte, min(uint64(uint32(c.Arg(2))), maxListing))
	for {
		n, err := sys.Getdents(c.Nr(), fd, buf)
		if n <= 0 || err != nil {
			return 0, err
		}
		kept, err := keep(buf[:n], c.Nr() == unix.SYS_GETDENTS64, mine)
		if err != nil {
			return 0, err
		}
		if len(kept) > 0 {
			return len(kept), c.Write(c.Arg(1), kept)
		}
	}
}

// keep removes the entries of processes that are not mine, in place. Both forms
// of an entry begin with two words of 64 bits and the length of the entry;
// struct linux_dirent64 has a type before the name (getdents(2)).
func keep(entries []byte, is64 bool, mine func(pid int) bool) ([]byte, error) {
	const offLength = 16
	offName := 18
	if is64 {
		offName = 19
	}
	out := entries[:0]
	for len(entries) > 0 {
		if len(entries) < offName {
			return nil, unix.EIO
		}
		length := int(binary.NativeEndian.Uint16(entries[offLength:]))
		if length < offName || length > len(entries) {
			return nil, unix.EIO
		}
		name := entries[offName:length]
		if i := slices.Index(name, 0); i >= 0 {
			name = name[:i]
		}
		pid, err := strconv.Atoi(string(name))
		if err != nil || mine(pid) {
			out = append(out, entries[:length]...)
		}
		entries = entries[length:]
	}
	return out, nil
}
