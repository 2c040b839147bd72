package dispatch

import (
	"bytes"
	"strconv"

	"github.com/sandlock/sandlock/internal/sys"
)

// maxStatus bounds what is read of a status file: it is some 1.5 KiB, and longer
// only where a process is in thousands of groups.
const maxStatus = 1 << 20

// status returns the fields of /proc/pid/status that are asked for, as text.
func status(pid int, fields ...string) map[string]string {
	text, err := sys.ReadFile("/proc/"+strconv.Itoa(pid)+"/status", maxStatus)
	if err != nil {
		return nil
	}
	out := make(map[string]string, len(fields))
	for line := range bytes.Lines(text) {
		key, val, ok := bytes.Cut(line, []byte(":"))
		if !ok {
			continue
		}
		for _, f := range fields {
			if string(key) == f {
				out[f] = string(bytes.TrimSpace(val))
			}
		}
	}
	return out
}

// TGID returns the process that thread pid belongs to, or pid when it is gone.
func TGID(pid int) int {
	if n, err := strconv.Atoi(status(pid, "Tgid")["Tgid"]); err == nil {
		return n
	}
	return pid
}

// interrupted tells whether a signal that the thread catches is pending.
func interrupted(pid int) bool {
	s := status(pid, "SigPnd", "ShdPnd", "SigBlk", "SigCgt")
	hex := func(f string) uint64 {
		v, _ := strconv.ParseUint(s[f], 16, 64)
		return v
	}
	return (hex("SigPnd")|hex("ShdPnd"))&^hex("SigBlk")&hex("SigCgt") != 0
}
