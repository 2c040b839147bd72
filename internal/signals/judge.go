package signals

import (
	"os"
	"strconv"
	"strings"
)

const capKill = 5 // CAP_KILL of linux/capability.h

// mayKill is the kernel's own test, as kill(2) has it, for a caller whose rights
// may be less than the supervisor's.
func mayKill(from, to int) bool {
	a, b := statusOf(from), statusOf(to)
	if a == nil || b == nil {
		return false
	}
	caps, err := strconv.ParseUint(a["CapEff"], 16, 64)
	if err == nil && caps&(1<<capKill) != 0 {
		return true
	}
	// Uid: real, effective, saved, file system (proc(5)).
	mine, theirs := strings.Fields(a["Uid"]), strings.Fields(b["Uid"])
	if len(mine) < 2 || len(theirs) < 3 {
		return false
	}
	for _, m := range mine[:2] {
		if m == theirs[0] || m == theirs[2] {
			return true
		}
	}
	return false
}

func statusOf(pid int) map[string]string {
	text, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/status")
	if err != nil {
		return nil
	}
	out := map[string]string{}
	for line := range strings.Lines(string(text)) {
		if key, val, ok := strings.Cut(line, ":"); ok {
			out[key] = strings.TrimSpace(val)
		}
	}
	return out
}
