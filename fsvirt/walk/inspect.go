package walk

import (
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// MayInspect tells whether the thread caller may look into the process or thread
// target, by the rule of ptrace(2), "Ptrace access mode checking": a process may
// look into itself; another's user and group ids are all the caller's file system
// ids, it can be dumped, and it has no capability that the caller lacks. What
// cannot be known is refused. No process of a sandbox has CAP_SYS_PTRACE, and it
// counts for nothing here.
func MayInspect(caller, target int) bool {
	c, err := readIdentity(caller)
	if err != nil {
		return false
	}
	t, err := readIdentity(target)
	if err != nil {
		return false
	}
	if c.group == t.group {
		return true
	}
	const effective, saved = 1, 2
	for i := 0; i <= saved; i++ {
		if t.uids[i] != c.uids[fsID] || t.gids[i] != c.gids[fsID] {
			return false
		}
	}
	return t.permitted&^c.effective == 0 && t.owner == t.uids[effective]
}

// fsID is the place of the file system's id in the lines Uid and Gid of
// /proc/pid/status: real, effective, saved, file system (proc(5)).
const fsID = 3

// identity is who a thread is, as its status says.
type identity struct {
	group                int // number of its process
	uids, gids           [fsID + 1]uint32
	effective, permitted uint64 // capabilities, one bit each
	owner                uint32 // of its files in /proc: root's when it cannot be dumped
}

func readIdentity(tid int) (id identity, err error) {
	f, err := os.Open("/proc/" + strconv.Itoa(tid) + "/status")
	if err != nil {
		return id, err
	}
	defer f.Close()
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err != nil {
		return id, err
	}
	id.owner = st.Uid
	const statusMax = 1 << 16 // a status is about 1500 bytes, and more with many groups
	buf := make([]byte, statusMax)
	n, err := f.Read(buf)
	if err != nil {
		return id, err
	}
	const lines = 5 // that are read below
	found := 0
	for line := range strings.Lines(string(buf[:n])) {
		key, value, _ := strings.Cut(line, ":")
		words := strings.Fields(value)
		switch key {
		case "Tgid":
			id.group, err = strconv.Atoi(strings.TrimSpace(value))
		case "Uid":
			err = ids(&id.uids, words)
		case "Gid":
			err = ids(&id.gids, words)
		case "CapPrm":
			id.permitted, err = strconv.ParseUint(strings.TrimSpace(value), 16, 64)
		case "CapEff":
			id.effective, err = strconv.ParseUint(strings.TrimSpace(value), 16, 64)
		default:
			continue
		}
		if err != nil {
			return id, err
		}
		found++
	}
	if found != lines {
		return id, unix.EPERM
	}
	return id, nil
}

func ids(to *[fsID + 1]uint32, words []string) error {
	if len(words) != len(to) {
		return unix.EPERM
	}
	for i, w := range words {
		n, err := strconv.ParseUint(w, 10, 32)
		if err != nil {
			return err
		}
		to[i] = uint32(n)
	}
	return nil
}
