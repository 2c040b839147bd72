package sandbox

import (
	"strings"

	"github.com/sandlock/sandlock/dispatch"
	"github.com/sandlock/sandlock/fsvirt/clock"
	"github.com/sandlock/sandlock/fsvirt/dirs"
	"github.com/sandlock/sandlock/fsvirt/entropy"
	"github.com/sandlock/sandlock/fsvirt/etc"
	"github.com/sandlock/sandlock/fsvirt/files"
	"github.com/sandlock/sandlock/fsvirt/image"
	"github.com/sandlock/sandlock/fsvirt/proc"
	"github.com/sandlock/sandlock/fsvirt/trust"
	"github.com/sandlock/sandlock/internal/limits"
	"github.com/sandlock/sandlock/internal/signals"
	"github.com/sandlock/sandlock/internal/sys"
	"github.com/sandlock/sandlock/netfilter"
	"golang.org/x/sys/unix"
)

// builtins are the rooms that put handlers into the table of a run.
type builtins struct {
	trust   *trust.Views // nil when no TLS is ended
	net     *netfilter.Filter
	files   *files.Filter   // nil without rules on files
	proc    *proc.View      // likewise
	signals signals.Sandbox // nil where the kernel keeps signals inside
	etc     *etc.Views      // nil without rules on files
	dirs    *dirs.Sorted    // nil unless asked for

	processes *limits.Processes // nil without a limit
	determinism
}

// tableOf is the table of a run, in the contract's order. extra are calls that
// the policy denies beside ours.
func tableOf(b builtins, extra []int) *dispatch.Table {
	t := &dispatch.Table{}
	for _, nr := range extra {
		t.Deny(dispatch.Denial{Syscall: nr, Errno: unix.EPERM})
	}
	t.Deny(staticDenials()...)
	if b.processes != nil {
		b.processes.Register(t)
	}
	if b.image != nil {
		b.image.Register(t)
	}
	if b.random != nil {
		b.random.Register(t)
	}
	if b.clock != nil {
		b.clock.Register(t)
	}
	if b.etc != nil {
		b.etc.Register(t)
	}
	if b.trust != nil {
		b.trust.Register(t)
	}
	if b.files != nil {
		b.files.Register(t)
		b.proc.Register(t)
	}
	if b.dirs != nil {
		b.dirs.Register(t)
	}
	if b.signals != nil {
		signals.Register(t, b.signals)
	}
	b.net.Register(t)
	return t
}

// Chains lists the handler chains and the static denials that a run of the
// policy has, as text for people. It starts nothing.
func Chains(c *Compiled) (string, error) {
	mode, _ := c.datagrams()
	filter, err := netfilter.New(netfilter.Config{Policy: c.Endpoints, Binds: c.Binds, Unix: c.Unix, Datagrams: mode, Audit: c.Policy.Audit})
	if err != nil {
		return "", err
	}
	defer filter.Close()
	all := builtins{net: filter}
	if c.HTTP != nil {
		all.trust = trust.New(trust.Config{Bundles: c.Policy.InjectCA})
	}
	if c.Policy.RandomSeed != nil {
		all.random, all.image = entropy.New(entropy.Config{}), &image.Watcher{}
	}
	if !c.Policy.TimeStart.IsZero() {
		all.clock, all.image = clock.New(clock.Config{}), &image.Watcher{}
	}
	if c.Files != nil {
		rules, err := fileRules(opened{}, c.Files.Deny)
		if err != nil {
			return "", err
		}
		defer rules.Close()
		all.files, all.etc = files.New(files.Config{Rules: rules}), etc.New(nil)
		all.proc = &proc.View{Config: proc.Config{CPUs: c.Policy.Limits.ShowCPUs, Hostname: hostname(c)}}
	}
	if c.Policy.SortedDirs {
		all.dirs = dirs.New()
	}
	if n := c.Policy.Limits.Processes; n > 0 {
		all.processes = limits.NewProcesses(n, nil, nil)
	}
	var b strings.Builder
	_, err = tableOf(all, c.DenySyscalls).WriteTo(&b)
	return b.String(), err
}

// denied are system calls that undo a sandbox or reach other processes.
var denied = []string{
	"mount", "umount2", "pivot_root", "swapon", "swapoff", "reboot", "sethostname", "setdomainname", "kexec_load",
	"kexec_file_load", "init_module", "finit_module", "delete_module", "unshare", "setns", "perf_event_open", "bpf",
	"userfaultfd", "keyctl", "add_key", "request_key", "ptrace", "process_vm_readv", "process_vm_writev",
	"open_by_handle_at", "name_to_handle_at", "ioperm", "iopl", "quotactl", "quotactl_fd", "acct", "lookup_dcookie",
	"nfsservctl", "personality", "chroot", "fsopen", "fsmount", "fsconfig", "fspick", "open_tree", "open_tree_attr", "move_mount",
	"mount_setattr", "pidfd_getfd", "kcmp", "process_madvise", "syslog", "vhangup", "uselib",
}

// staticDenials are the refusals that concern no network call.
func staticDenials() []dispatch.Denial {
	var out []dispatch.Denial
	for _, name := range denied {
		if nr, ok := sys.SyscallNumber(name); ok {
			out = append(out, dispatch.Denial{Syscall: nr, Errno: unix.EPERM})
		}
	}
	for _, nr := range []int{unix.SYS_IO_URING_SETUP, unix.SYS_IO_URING_ENTER, unix.SYS_IO_URING_REGISTER, unix.SYS_CLONE3} {
		out = append(out, dispatch.Denial{Syscall: nr, Errno: unix.ENOSYS})
	}
	const namespaces = unix.CLONE_NEWNS | unix.CLONE_NEWCGROUP | unix.CLONE_NEWUTS | unix.CLONE_NEWIPC |
		unix.CLONE_NEWUSER | unix.CLONE_NEWPID | unix.CLONE_NEWNET
	out = append(out,
		dispatch.Denial{Syscall: unix.SYS_CLONE, Guard: dispatch.When(dispatch.AnyBit(0, namespaces)), Errno: unix.EPERM},
		dispatch.Denial{Syscall: unix.SYS_PRLIMIT64, Guard: dispatch.When(dispatch.Ne(0, 0), dispatch.NonNull(2)), Errno: unix.EPERM},
		dispatch.Denial{Syscall: unix.SYS_PRCTL, Guard: dispatch.When(dispatch.Eq(0, unix.PR_SET_DUMPABLE))})
	for _, cmd := range []uint32{unix.TIOCSTI, 0x541c /* TIOCLINUX */, unix.TUNSETIFF, 0xaa00 /* USERFAULTFD_IOC_NEW */, 0x894c /* SIOCGSKNS */} {
		out = append(out, dispatch.Denial{Syscall: unix.SYS_IOCTL, Guard: dispatch.When(dispatch.Eq(1, cmd)), Errno: unix.EPERM})
	}
	return out
}
