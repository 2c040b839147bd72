package launch

import (
	"fmt"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// maxSweeps bounds how often the tree is looked through for survivors.
const maxSweeps = 1000

// HardenSelf makes the calling process unreadable for its children and the
// reaper of all their descendants. It is for a process that is sandlock's own.
func HardenSelf() error {
	if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
		return fmt.Errorf("child subreaper: %w", err)
	}
	if err := unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0); err != nil {
		return fmt.Errorf("not dumpable: %w", err)
	}
	return nil
}

// KillAll ends every descendant of the calling process, which must be their
// reaper, but those in spare: it stops all that it finds until there is nothing
// new, then kills and reaps them.
func KillAll(spare ...int) {
	skip := map[int]bool{}
	for _, p := range spare {
		skip[p] = true
	}
	seen := map[int]bool{}
	for range maxSweeps {
		fresh := false
		for _, pid := range descendants(os.Getpid()) {
			if skip[pid] || seen[pid] {
				continue
			}
			seen[pid], fresh = true, true
			unix.Kill(pid, unix.SIGSTOP)
		}
		if !fresh {
			break
		}
	}
	for pid := range seen {
		unix.Kill(pid, unix.SIGKILL)
	}
	for range maxSweeps {
		left := false
		for _, pid := range descendants(os.Getpid()) {
			if !skip[pid] {
				left = true
				unix.Kill(pid, unix.SIGKILL)
				unix.Wait4(pid, nil, 0, nil)
			}
		}
		if !left {
			return
		}
	}
}

// descendants lists all processes below root, from /proc/pid/task/tid/children
// (proc(5)).
func descendants(root int) []int {
	var all []int
	queue := []int{root}
	for len(queue) > 0 {
		pid := queue[0]
		queue = queue[1:]
		tasks, err := os.ReadDir("/proc/" + strconv.Itoa(pid) + "/task")
		if err != nil {
			continue
		}
		for _, t := range tasks {
			text, _ := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/task/" + t.Name() + "/children")
			for _, f := range strings.Fields(string(text)) {
				if n, err := strconv.Atoi(f); err == nil {
					all = append(all, n)
					queue = append(queue, n)
				}
			}
		}
	}
	return all
}
