package dispatch

import (
	"bytes"
	"errors"
	"strconv"
	"strings"

	"github.com/sandlock/sandlock/internal/sys"
	"golang.org/x/sys/unix"
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

// fileCredentials reads the credentials of a thread from its status (proc(5)).
func fileCredentials(pid int) (who sys.FileCredentials, err error) {
	s := status(pid, "Uid", "Gid", "Groups", "CapEff")
	if s == nil {
		return who, unix.ESRCH
	}
	const fsID = 3 // real, effective, saved, file system
	uid, gid := strings.Fields(s["Uid"]), strings.Fields(s["Gid"])
	if len(uid) <= fsID || len(gid) <= fsID {
		return who, unix.EPERM
	}
	if who.UID, err = strconv.Atoi(uid[fsID]); err == nil {
		who.GID, err = strconv.Atoi(gid[fsID])
	}
	if err == nil {
		who.Capabilities, err = strconv.ParseUint(s["CapEff"], 16, 64)
	}
	for _, g := range strings.Fields(s["Groups"]) {
		n, e := strconv.ParseUint(g, 10, 32)
		who.Groups, err = append(who.Groups, uint32(n)), errors.Join(err, e)
	}
	if err != nil {
		return who, unix.EPERM
	}
	return who, nil
}
