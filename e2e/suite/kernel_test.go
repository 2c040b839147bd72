package suite

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/sandlock/sandlock/internal/lab"
	"golang.org/x/sys/unix"
)

// Nothing of the supervisor can be read, limited, signalled or traced.
func TestSupervisorIsClosed(t *testing.T) {
	p := lab.Probe(t)
	nr := func(n int, args ...string) []string { return append([]string{"syscall", strconv.Itoa(n)}, args...) }
	for _, c := range [][]string{
		{"prlimit"}, {"kill", "9"}, {"kill", "19"}, {"kill", "18"}, {"signals"},
		{"open-parent", "mem"}, {"open-parent", "environ"}, {"open-parent", "maps"}, {"open-parent", "fd/0"}, {"open-parent", "auxv"},
		{"open-parent", "stack"}, {"open-parent", "syscall"}, {"open-parent", "cwd/."}, {"open-parent", "root/etc/passwd"}, {"open-parent", "ns/net"},
		{"write-parent", "mem", "x"}, {"write-parent", "fd/1", "x"},
		nr(unix.SYS_PTRACE, "16", "P"), nr(unix.SYS_PTRACE, "0x4206", "P"), // PTRACE_ATTACH, PTRACE_SEIZE
		nr(unix.SYS_PROCESS_VM_READV, "P", "B", "1", "B", "1", "0"), nr(unix.SYS_PROCESS_VM_WRITEV, "P", "B", "1", "B", "1", "0"),
		nr(unix.SYS_PROCESS_MADVISE, "3", "B", "1", "4", "0"), nr(unix.SYS_PIDFD_GETFD, "3", "0", "0"), nr(unix.SYS_KCMP, "P", "P", "0", "0", "0"),
		nr(unix.SYS_MIGRATE_PAGES, "P", "64", "B", "B"), nr(unix.SYS_MOVE_PAGES, "P", "1", "B", "0", "B", "0"), nr(unix.SYS_PERF_EVENT_OPEN, "B", "P", "-1", "-1", "0"),
		nr(unix.SYS_IO_URING_SETUP, "1", "B"), nr(unix.SYS_IO_URING_ENTER, "3"), nr(unix.SYS_IO_URING_REGISTER, "3"), nr(unix.SYS_USERFAULTFD, "1"), nr(unix.SYS_BPF, "0", "B", "64"),
		nr(unix.SYS_SECCOMP, "1", "8", "B"), nr(unix.SYS_SETNS, "3", "0"), nr(unix.SYS_UNSHARE, "0x10000000"), nr(unix.SYS_UNSHARE, "0x40000000"),
		nr(unix.SYS_UNSHARE, "0x50000000"), nr(unix.SYS_CLONE3), nr(unix.SYS_CLONE3, "B", "88"), nr(unix.SYS_CLONE, "0x10000011"), nr(unix.SYS_CLONE, "0x40000011"),
	} {
		t.Run(strings.Join(c, " "), func(t *testing.T) {
			asUsers(t, func(t *testing.T, u lab.User) {
				lab.Denied(t, lab.Denial{User: u, Flags: []string{"--allow", "*"}, Command: append([]string{p}, c...)})
			})
		})
	}
	// root owns these files of the supervisor; an ordinary user must not.
	for _, file := range []string{"clear_refs", "oom_score_adj", "coredump_filter"} {
		lab.Denied(t, lab.Denial{User: lab.Ordinary, Command: []string{p, "write-parent", file, "1"}, Answer: "EACCES"})
	}
	for _, c := range [][]string{{"open-parent", "environ"}, {"write-parent", "oom_score_adj", "500"}, {"kill", "0"}} {
		if r := lab.Run(t, lab.Ordinary, append([]string{"sh", "-c", `"$@"; echo code $?`, "sh", p}, c...)...); !strings.Contains(r.Stdout, "code 0") {
			t.Errorf("control: %q: %s", c, r.Stdout)
		}
	}
}

// The kernel drops the high half of an int argument, so setting it changes
// nothing: each call is answered as without.
func TestHighHalves(t *testing.T) {
	p := lab.Probe(t)
	type call struct {
		want string
		nr   int
		args []string
	}
	calls := []call{
		{"EPROTONOSUPPORT", unix.SYS_SOCKET, []string{"H16", "H3", "H4"}}, {"EAFNOSUPPORT", unix.SYS_SOCKET, []string{"H40", "H1", "H0"}},
		{"EAFNOSUPPORT", unix.SYS_SOCKET, []string{"H17", "H3", "H768"}}, {"EPERM", unix.SYS_SOCKET, []string{"H2", "H3", "H255"}},
		{"EPERM", unix.SYS_SOCKET, []string{"H10", "H3", "H58"}}, {"EPROTONOSUPPORT", unix.SYS_SOCKET, []string{"H2", "H1", "H262"}},
		{"EPROTONOSUPPORT", unix.SYS_SOCKET, []string{"H10", "H1", "H132"}}, {"EPERM", unix.SYS_SOCKET, []string{"H2", "H2", "H1"}},
		{"EPERM", unix.SYS_SOCKET, []string{"H1", "H2", "H0"}}, {"EOPNOTSUPP", unix.SYS_SOCKETPAIR, []string{"H2", "H1", "H0", "B"}},
		{"EOPNOTSUPP", unix.SYS_SENDTO, []string{"H-1", "B", "1", "H0x20000000", "B", "H16"}}, {"EOPNOTSUPP", unix.SYS_SENDMSG, []string{"H-1", "B", "H0x20000000"}},
		{"EOPNOTSUPP", unix.SYS_SENDMMSG, []string{"H-1", "B", "H1", "H0x20000000"}},
		{"EPERM", unix.SYS_CLONE, []string{"H0x10000011"}}, {"EPERM", unix.SYS_CLONE, []string{"H0x40000011"}},
		{"EPERM", unix.SYS_PRLIMIT64, []string{"HP", "H0", "B"}},
		{"EPERM", unix.SYS_IOCTL, []string{"H-1", "H0x5412", "B"}}, {"EPERM", unix.SYS_IOCTL, []string{"H-1", "H0x541c", "B"}},
		{"EPERM", unix.SYS_IOCTL, []string{"H-1", "H0x400454ca", "B"}}, {"EPERM", unix.SYS_IOCTL, []string{"H-1", "H0xaa00", "B"}},
		{"EPERM", unix.SYS_IOCTL, []string{"H-1", "H0x894c", "B"}},
		{"EPERM", unix.SYS_UNSHARE, []string{"H0x10000000"}}, {"EPERM", unix.SYS_PTRACE, []string{"16", "HP"}}, {"ENOSYS", unix.SYS_IO_URING_SETUP, []string{"H1", "B"}},
	}
	for _, o := range deniedOptions {
		calls = append(calls, call{"EPERM", unix.SYS_SETSOCKOPT, []string{"H-1", "H" + o.level, "H" + o.option, "B", "H" + o.size}})
	}
	for _, c := range calls {
		args := append([]string{p, "syscall", strconv.Itoa(c.nr)}, c.args...)
		t.Run(strings.Join(args[2:], " "), func(t *testing.T) {
			lab.Denied(t, lab.Denial{User: lab.Ordinary, Flags: []string{"--allow", "*"}, Command: args, Answer: "fail " + c.want + " syscall"})
		})
	}
}

// A set-user-ID program runs with its caller's rights.
func TestSetuid(t *testing.T) {
	if lab.Nested() {
		t.Skip("only root's files can be set-user-ID for another user, and in this lab there is but one")
	}
	data, err := os.ReadFile(lab.Probe(t))
	if err != nil {
		t.Fatal(err)
	}
	p := filepath.Join(lab.Scratch(t, lab.Root), "suid")
	if err := os.WriteFile(p, data, 0o755); err != nil {
		t.Fatal(err)
	}
	for _, err := range []error{os.Chmod(filepath.Dir(p), 0o755), os.Chmod(p, 0o755|os.ModeSetuid)} {
		if err != nil {
			t.Fatal(err)
		}
	}
	if r := lab.Run(t, lab.Ordinary, p, "whoami"); !strings.Contains(r.Stdout, "uid 0 nnp 0") {
		t.Fatalf("control: a set-user-ID program gains nothing here: %s%s", r.Stdout, r.Stderr)
	}
	if r := lab.Net(t, lab.Ordinary, nil, p, "whoami"); !strings.Contains(r.Stdout, "uid 1000 nnp 1") {
		t.Errorf("in the sandbox: %s%s", r.Stdout, r.Stderr)
	}
}
