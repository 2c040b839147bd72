package proc

import (
	"slices"
	"strconv"

	"github.com/sandlock/sandlock/dispatch"
	"github.com/sandlock/sandlock/fsvirt/open"
	"github.com/sandlock/sandlock/fsvirt/walk"
)

// writable are the files of a process that it may write about itself and the
// sandbox's other processes (proc(5)).
var writable = []string{"comm", "oom_score_adj", "oom_adj", "timerslack_ns", "coredump_filter", "clear_refs", "autogroup"}

// inside are the files of a process that the kernel gives only to who may look into
// it, and to the supervisor: a process of the sandbox may be another user than
// its neighbours (proc(5)). closed are those that show root the addresses of the
// kernel or of physical memory.
var (
	inside = []string{"auxv", "environ", "fd", "fdinfo", "io", "map_files", "maps", "mem", "ns", "numa_maps", "personality", "smaps", "smaps_rollup", "syscall", "timers"}
	closed = []string{"pagemap", "stack"}
)

// process answers an open below the directory of a process of the sandbox.
func (v *View) process(c *dispatch.Call, r *open.Request, o *walk.Object, pid int, names []string) dispatch.Action {
	if len(names) >= 2 && names[0] == "task" {
		if tid, err := strconv.Atoi(names[1]); err == nil && tid > 0 {
			names = names[2:] // a thread's directory looks like a process's
			pid = tid
		}
	}
	if len(names) == 0 {
		return v.perform(r, o)
	}
	switch name := names[0]; {
	case name == "net":
		return v.network(c, r, o, names[1:])
	case len(names) == 1 && (name == "mounts" || name == "mountinfo" || name == "mountstats"):
		return v.give(r, name, v.mounts(name))
	case slices.Contains(closed, name):
		return v.refuse(c, o, "this may show addresses of the machine")
	case slices.Contains(inside, name) && !walk.MayInspect(c.PID(), pid):
		return v.refuse(c, o, "another user's process")
	case name == "mem":
		if dispatch.TGID(pid) != dispatch.TGID(c.PID()) {
			return v.refuse(c, o, "another process's memory")
		}
	case r.Writes() && !slices.Contains(writable, names[len(names)-1]):
		return v.refuse(c, o, "this may not be written")
	}
	return v.perform(r, o)
}
