package launch

import (
	"bytes"
	"errors"
	"os"
	"strconv"
	"strings"

	"github.com/sandlock/sandlock/internal/sys"
	"golang.org/x/sys/unix"
)

// Without LANDLOCK_SCOPE_SIGNAL the processes of the sandbox are the descendants
// of this process, which must be sandlock's own and so the reaper of all of them
// (HardenSelf), but for its own helpers.

const (
	maxSweeps = 1000  // how often the tree is looked through for new processes
	maxDepth  = 65536 // of the tree: a longer way up is no way
)

// parentOf returns field 4 of /proc/pid/stat (proc(5)), 0 for what is gone.
func parentOf(pid int) int {
	text, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return 0
	}
	i := bytes.LastIndexByte(text, ')') // a name may hold anything
	fields := bytes.Fields(text[i+1:])
	if i < 0 || len(fields) < 2 {
		return 0
	}
	n, _ := strconv.Atoi(string(fields[1]))
	return n
}

// descends tells whether process pid is below this process.
func (t *Thread) descends(pid int) bool {
	self := os.Getpid()
	for range maxDepth {
		if pid <= 1 || pid == self || t.isHelper(pid) {
			return false
		}
		if pid = parentOf(pid); pid == self {
			return true
		}
	}
	return false
}

// descendants lists all processes below this process but its helpers, from
// /proc/pid/task/tid/children (proc(5)).
func (t *Thread) descendants() []int {
	var all []int
	for queue := []int{os.Getpid()}; len(queue) > 0; queue = queue[1:] {
		dir := "/proc/" + strconv.Itoa(queue[0]) + "/task/"
		tasks, err := os.ReadDir(dir)
		if err != nil {
			continue
		}
		for _, task := range tasks {
			text, _ := os.ReadFile(dir + task.Name() + "/children")
			for f := range strings.FieldsSeq(string(text)) {
				if pid, err := strconv.Atoi(f); err == nil && !t.isHelper(pid) {
					all, queue = append(all, pid), append(queue, pid)
				}
			}
		}
	}
	return all
}

// signalTree sends a signal to every descendant, until a look finds no new one.
// What is to be killed is stopped first: it forks no more.
func (t *Thread) signalTree(sig unix.Signal) error {
	first := sig
	if sig == unix.SIGKILL {
		first = unix.SIGSTOP
	}
	seen := map[int]bool{}
	for range maxSweeps {
		fresh := false
		for _, pid := range t.descendants() {
			if !seen[pid] {
				seen[pid], fresh = true, true
				t.signalOne(pid, first)
			}
		}
		if fresh {
			continue
		}
		for pid := range seen {
			if sig != first {
				t.signalOne(pid, sig)
			}
		}
		return nil
	}
	return errors.New("the processes of the sandbox multiply too fast")
}

// signalOne holds the process by a descriptor while it is judged, for its number
// may be used again.
func (t *Thread) signalOne(pid int, sig unix.Signal) {
	p, err := sys.PidfdOpen(pid, 0)
	if err != nil {
		return
	}
	defer unix.Close(p)
	if t.descends(pid) {
		unix.PidfdSendSignal(p, sig, nil, 0)
	}
}
