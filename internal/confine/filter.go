package confine

import (
	"runtime"

	"github.com/sandlock/sandlock/internal/sys"
	"golang.org/x/sys/unix"
)

// allowed are the system calls that Go's runtime, its network poller and its
// files need, the frequent ones first. A name that a machine lacks is skipped.
var allowed = []string{
	"read", "write", "futex", "epoll_pwait", "epoll_wait", "nanosleep", "clock_nanosleep", "sched_yield", "writev",
	"recvmsg", "recvfrom", "close", "shutdown", "splice", "readv", "pread64", "pwrite64", "clock_gettime", "gettimeofday",
	"epoll_ctl", "epoll_create1", "eventfd2", "pipe2", "fcntl", "fstat", "lseek", "getsockopt", "getsockname", "getpeername",
	"munmap", "madvise", "mincore", "exit", "exit_group", "rt_sigaction", "rt_sigprocmask", "rt_sigreturn", "sigaltstack",
	"getpid", "gettid", "sched_getaffinity", "getrandom", "restart_syscall", "rseq", "set_robust_list", "membarrier",
	"poll", "ppoll", "timer_create", "timer_settime", "timer_delete", "getrusage", "uname",
}

// vmaName is PR_SET_VMA of linux/prctl.h: Go names its mappings.
const vmaName = 0x53564d41

// condition is a test on the low half of an argument; all the tests of a call
// must hold. The arguments tested are of type int, or their high half is
// tested too.
type condition struct {
	arg         int
	mask, value uint32
	not         bool
}

// conditional are calls that are allowed with some arguments only.
func conditional(pid int) []struct {
	name string
	all  []condition
} {
	const fastOpen = unix.MSG_FASTOPEN // connects a closed socket elsewhere
	null := func(arg int) []condition {
		return []condition{{arg: arg, mask: ^uint32(0)}, {arg: arg + high, mask: ^uint32(0)}}
	}
	return []struct {
		name string
		all  []condition
	}{
		{"sendto", append(null(4), condition{arg: 3, mask: fastOpen})},
		{"sendmsg", []condition{{arg: 2, mask: fastOpen}}},
		{"mmap", []condition{{arg: 2, mask: unix.PROT_EXEC}}},
		{"mprotect", []condition{{arg: 2, mask: unix.PROT_EXEC}}},
		{"clone", []condition{{arg: 0, mask: unix.CLONE_THREAD, value: unix.CLONE_THREAD}}},
		{"tgkill", []condition{{arg: 0, mask: ^uint32(0), value: uint32(pid)}}},
		{"prctl", []condition{{arg: 0, mask: ^uint32(0), value: vmaName}}},
		// Source routes and the like lie on other levels.
		{"setsockopt", []condition{{arg: 1, mask: ^uint32(0), value: unix.SOL_SOCKET}, {arg: 2, mask: ^uint32(0), value: unix.SO_MARK, not: true},
			{arg: 2, mask: ^uint32(0), value: unix.SO_BINDTODEVICE, not: true}}},
		{"setsockopt", []condition{{arg: 1, mask: ^uint32(0), value: unix.SOL_TCP}, {arg: 2, mask: ^uint32(0), value: unix.TCP_ULP, not: true},
			{arg: 2, mask: ^uint32(0), value: unix.TCP_REPAIR, not: true}}},
	}
}

// high is added to an argument's number for its upper half.
const high = 8

const (
	load   = unix.BPF_LD | unix.BPF_W | unix.BPF_ABS
	and    = unix.BPF_ALU | unix.BPF_AND | unix.BPF_K
	equal  = unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K
	result = unix.BPF_RET | unix.BPF_K

	offNr, offArch, offArgs = 0, 4, 16 // struct seccomp_data
)

// program is the filter: what is not allowed fails with EPERM.
func program(pid int) []unix.SockFilter {
	arch := map[string]uint32{"amd64": unix.AUDIT_ARCH_X86_64, "arm64": unix.AUDIT_ARCH_AARCH64}[runtime.GOARCH]
	p := []unix.SockFilter{
		{Code: load, K: offArch},
		{Code: equal, K: arch, Jt: 1},
		{Code: result, K: sys.RetKillProcess},
		{Code: load, K: offNr},
	}
	for _, name := range allowed {
		if nr, ok := sys.SyscallNumber(name); ok {
			p = append(p, unix.SockFilter{Code: equal, K: uint32(nr), Jf: 1}, unix.SockFilter{Code: result, K: sys.RetAllow})
		}
	}
	for _, c := range conditional(pid) {
		nr, ok := sys.SyscallNumber(c.name)
		if !ok {
			continue
		}
		var tests []unix.SockFilter
		for _, t := range c.all {
			off := uint32(offArgs + 8*t.arg)
			if t.arg >= high {
				off = uint32(offArgs + 8*(t.arg-high) + 4)
			}
			tests = append(tests, unix.SockFilter{Code: load, K: off}, unix.SockFilter{Code: and, K: t.mask}, unix.SockFilter{Code: equal, K: t.value})
		}
		end := len(tests) // of the tests, where the number is loaded again
		for i := 2; i < end; i += 3 {
			fail := uint8(end - i) // over the rest and the allowing return
			if c.all[i/3].not {
				tests[i].Jt = fail
			} else {
				tests[i].Jf = fail
			}
		}
		p = append(p, unix.SockFilter{Code: equal, K: uint32(nr), Jf: uint8(end + 2)})
		p = append(append(p, tests...), unix.SockFilter{Code: result, K: sys.RetAllow}, unix.SockFilter{Code: load, K: offNr})
	}
	return append(p, unix.SockFilter{Code: result, K: sys.RetErrno | uint32(unix.EPERM)})
}
