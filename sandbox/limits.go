package sandbox

import (
	"context"
	"errors"
	"fmt"
	"math"
	"runtime"
	"strconv"
	"strings"

	"github.com/sandlock/sandlock/internal/launch"
	"github.com/sandlock/sandlock/internal/limits"
	"github.com/sandlock/sandlock/internal/sys"
	"golang.org/x/sys/unix"
)

// Limits bound what a command uses of the machine. Zero is no limit.
type Limits struct {
	Processes      int    // at once; threads do not count
	Memory         uint64 // bytes that are really used, by all processes together
	OpenFiles      uint64 // descriptors of one process; never raises the caller's limit
	CPU            int    // percent of the time that the command may run, 1 to 100
	Cores          []int  // processors that it runs on
	ShowCPUs       int    // how many processors it sees
	NoCoreDump     bool
	NoHugePages    bool
	FixedAddresses bool // no random layout of the address space
}

const (
	maxCPU = 100
	// maxShownCPUs is the most that a kernel of amd64 can have (CONFIG_NR_CPUS).
	maxShownCPUs = 8192
)

func checkLimits(p *Policy) error {
	l := p.Limits
	var errs []error
	bad := func(wrong bool, format string, args ...any) {
		if wrong {
			errs = append(errs, fmt.Errorf(format, args...))
		}
	}
	bad(l.Processes < 0, "--max-processes: %d is less than one; write a number such as 64", l.Processes)
	bad(l.CPU < 0 || l.CPU > maxCPU, "--cpu: %d is no percentage; write 1 to 100", l.CPU)
	bad(l.ShowCPUs < 0 || l.ShowCPUs > maxShownCPUs, "--num-cpus: %d is no number of processors; write 1 to %d", l.ShowCPUs, maxShownCPUs)
	for _, c := range l.Cores {
		bad(c < 0 || c >= launch.MaxCPUs, "--cpu-cores: there is no processor %d; nproc(1) tells how many there are, from 0 on (this machine: %d)", c, runtime.NumCPU())
	}
	return errors.Join(errs...)
}

// ParseBytes reads a size: a number with K, M or G, which stand for 1024 of the
// one before.
func ParseBytes(text string) (uint64, error) {
	digits, unit := text, uint64(1)
	for i, suffix := range []string{"K", "M", "G"} {
		if rest, ok := strings.CutSuffix(strings.ToUpper(text), suffix); ok {
			digits, unit = rest, 1<<(10*(i+1))
		}
	}
	n, err := strconv.ParseUint(digits, 10, 64)
	if err != nil || n == 0 || n > math.MaxUint64/unit {
		return 0, fmt.Errorf("%q is no size; write a number with K, M or G, such as 512M", text)
	}
	return n * unit, nil
}

// groups are names for system calls that belong together.
var groups = map[string][]string{
	"sysv_ipc": {"shmget", "shmat", "shmdt", "shmctl", "msgget", "msgsnd", "msgrcv", "msgctl", "semget", "semop", "semctl", "semtimedop"},
}

// compileSyscalls turns names of calls and groups into numbers. Only a group that
// `run` denies by itself can be allowed.
func (c *Compiled) compileSyscalls(p *Policy) error {
	var errs []error
	allowed := map[string]bool{}
	for _, name := range p.AllowSyscalls {
		members, ok := groups[name]
		if !ok {
			errs = append(errs, fmt.Errorf("--extra-allow-syscall: %q is no group that may be allowed; known is sysv_ipc", name))
		}
		for _, m := range members {
			allowed[m] = true
		}
	}
	names := p.DenySyscalls
	for _, name := range names {
		members, ok := groups[name]
		if !ok {
			members = []string{name}
		}
		for _, m := range members {
			nr, known := sys.SyscallNumber(m)
			switch {
			case !known:
				errs = append(errs, fmt.Errorf("--extra-deny-syscall: %q is no system call of this machine; syscalls(2) lists them", m))
			case allowed[m]:
				errs = append(errs, fmt.Errorf("--extra-deny-syscall: %q is allowed by --extra-allow-syscall; remove one of the two", m))
			default:
				c.DenySyscalls = append(c.DenySyscalls, nr)
			}
		}
	}
	if p.Files == nil {
		return errors.Join(errs...)
	}
	for _, members := range groups {
		for _, m := range members {
			if nr, known := sys.SyscallNumber(m); known && !allowed[m] {
				c.DenySyscalls = append(c.DenySyscalls, nr)
			}
		}
	}
	return errors.Join(errs...)
}

// openLimits makes what counts processes and memory.
func openLimits(p *parts, c *Compiled, _ Options) error {
	l := c.Policy.Limits
	if l.Processes > 0 {
		p.processes = limits.NewProcesses(l.Processes, p.thread.Members, p.emit)
	}
	if l.Memory > 0 {
		p.memory = limits.NewMemory(l.Memory, p.thread.Members, p.emit)
	}
	return nil
}

// watch starts what goes on beside the running command, until close.
func (r *run) watch(l Limits) {
	ctx, cancel := context.WithCancel(context.Background())
	r.onClose(cancel)
	if r.memory != nil {
		go r.memory.Run(ctx)
	}
	if l.CPU > 0 && l.CPU < maxCPU {
		go limits.Throttle(ctx, l.CPU, func(s unix.Signal) error { return r.thread.SignalAll(s) })
	}
}

// launchLimits are those that the command is started with.
func launchLimits(l Limits) launch.Limits {
	return launch.Limits{OpenFiles: l.OpenFiles, CPUs: l.Cores, NoCoreDump: l.NoCoreDump, NoHugePages: l.NoHugePages, FixedAddresses: l.FixedAddresses}
}
