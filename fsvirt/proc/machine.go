package proc

import (
	"bytes"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/sandlock/sandlock/dispatch"
	"github.com/sandlock/sandlock/fsvirt/open"
	"github.com/sandlock/sandlock/fsvirt/walk"
	"golang.org/x/sys/unix"
)

// facts are the files and directories below /proc that say nothing about other
// processes or secrets of the kernel. What is not listed is closed: kcore, kmsg,
// kallsyms, keys, key-users, sysrq-trigger and their like.
var facts = []string{"buddyinfo", "cgroups", "cmdline", "consoles", "cpuinfo", "crypto", "devices", "diskstats", "filesystems", "interrupts",
	"loadavg", "meminfo", "misc", "pagetypeinfo", "partitions", "pressure", "softirqs", "stat", "swaps", "sys", "uptime", "version", "version_signature", "vmstat", "zoneinfo"}

const readableByAll = 0o004

// machine answers an open of what is not a process's.
func (v *View) machine(c *dispatch.Call, r *open.Request, o *walk.Object, names []string) dispatch.Action {
	isDir := o.Stat.Mode&unix.S_IFMT == unix.S_IFDIR
	switch {
	case !slices.Contains(facts, names[0]):
		return v.refuse(c, o, "a secret of the kernel, or nothing that sandlock knows")
	case r.Writes():
		return v.refuse(c, o, "this may not be written")
	case !isDir && o.Stat.Mode&readableByAll == 0 && r.Flags&unix.O_PATH == 0:
		return dispatch.Errno(unix.EACCES)
	case isDir:
		return v.perform(r, o)
	}
	switch name := strings.Join(names, "/"); {
	case name == "sys/kernel/hostname" && v.Hostname != "":
		return v.give(r, "hostname", []byte(v.Hostname+"\n"))
	case name == "loadavg":
		return v.answer(r, name, v.loadavg)
	case name == "meminfo" && v.Memory != nil:
		return v.give(r, name, v.meminfo())
	case name == "cpuinfo" && v.CPUs > 0:
		return v.give(r, name, v.cpuinfo())
	case name == "stat" && (v.CPUs > 0 || v.Offset != 0):
		return v.answer(r, name, v.stat)
	}
	return v.perform(r, o)
}

func (v *View) answer(r *open.Request, name string, content func() ([]byte, error)) dispatch.Action {
	b, err := content()
	if err != nil {
		return dispatch.Fail(err)
	}
	return v.give(r, name, b)
}

func (v *View) cpuinfo() []byte {
	var b bytes.Buffer
	for i := range v.CPUs {
		fmt.Fprintf(&b, "processor\t: %d\nmodel name\t: Virtual CPU\ncpu MHz\t\t: 2400.000\n\n", i)
	}
	return b.Bytes()
}

// stat is the host's, without the processors that are not shown, and with the
// time of the boot by the clock that is shown.
func (v *View) stat() ([]byte, error) {
	text, err := os.ReadFile("/proc/stat")
	if err != nil {
		return nil, err
	}
	var b bytes.Buffer
	for line := range bytes.Lines(text) {
		var cpu int
		if n, _ := fmt.Sscanf(string(line), "cpu%d", &cpu); n == 1 && v.CPUs > 0 && cpu >= v.CPUs {
			continue
		}
		var boot int64
		if n, _ := fmt.Sscanf(string(line), "btime %d", &boot); n == 1 {
			line = fmt.Appendf(nil, "btime %d\n", boot+int64(v.Offset/time.Second))
		}
		b.Write(line)
	}
	return b.Bytes(), nil
}

func (v *View) meminfo() []byte {
	limit, used := v.Memory()
	free := limit - min(used, limit)
	const kilo = 1024
	return fmt.Appendf(nil, "MemTotal:       %8d kB\nMemFree:        %8d kB\nMemAvailable:   %8d kB\nBuffers:               0 kB\nCached:                0 kB\nSwapTotal:             0 kB\nSwapFree:              0 kB\n",
		limit/kilo, free/kilo, free/kilo)
}

// loadavg shows how many processes of the sandbox there are; the load itself is
// the host's affair.
func (v *View) loadavg() ([]byte, error) {
	pids, err := v.Members()
	if err != nil {
		return nil, err
	}
	last := 0
	if len(pids) > 0 {
		last = slices.Max(pids)
	}
	return fmt.Appendf(nil, "0.00 0.00 0.00 1/%d %d\n", max(len(pids), 1), last), nil
}
