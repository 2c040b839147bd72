package sandbox

import (
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/sandlock/sandlock/internal/launch"
	"github.com/sandlock/sandlock/internal/sockdiag"
	"github.com/sandlock/sandlock/internal/sys"
	"golang.org/x/sys/unix"
)

// host is what several probes look at, gathered once.
type host struct {
	seccomp sys.Seccomp
	abi     int
	euid    int
	env     func(string) string
	// read returns a file of the kernel's, trimmed; ok is false where there is none.
	read   func(path string) (text string, ok bool)
	exists func(path string) bool
}

func readHost() *host {
	return &host{
		seccomp: sys.ProbeSeccomp(),
		abi:     sys.LandlockABI(),
		euid:    os.Geteuid(),
		env:     os.Getenv,
		read: func(path string) (string, bool) {
			b, err := os.ReadFile(path)
			return strings.TrimSpace(string(b)), err == nil
		},
		exists: func(path string) bool { _, err := os.Lstat(path); return err == nil },
	}
}

func verdict(err error) (string, bool) {
	if err != nil {
		return err.Error(), false
	}
	return "works", true
}

func probeNotify(h *host) (string, bool)       { return verdict(h.seccomp.Notify) }
func probeAddFD(h *host) (string, bool)        { return onListener(h, h.seccomp.AddFDSend) }
func probeWaitKillable(h *host) (string, bool) { return verdict(h.seccomp.WaitKillable) }
func probeSyncWakeUp(h *host) (string, bool)   { return onListener(h, h.seccomp.SyncWakeUp) }

// onListener is for what could be tried only on a listener.
func onListener(h *host, err error) (string, bool) {
	if h.seccomp.Listener != nil {
		return "not tried without a listener", false
	}
	return verdict(err)
}

// nested tells whether another supervisor has its listener above this process
// (seccomp(2), EBUSY).
func nested(h *host) bool { return errors.Is(h.seccomp.Listener, unix.EBUSY) }

func probeListener(h *host) (string, bool) {
	if nested(h) {
		return "this process is supervised already", false
	}
	return verdict(h.seccomp.Listener)
}

func probePidfd(*host) (string, bool) {
	if err := sys.ProbePidfdGetfd(); err != nil {
		return "refused: " + err.Error() + "; the supervisor makes the sockets", false
	}
	return "works", true
}

func probeMemory(*host) (string, bool) {
	if err := sys.ProbeMemory(); err != nil {
		return "refused: " + err.Error(), false
	}
	return "works", true
}

// probeYama reads kernel.yama.ptrace_scope: 0 and 1 let a process look at its
// descendants, 2 needs CAP_SYS_PTRACE, 3 forbids it (Documentation/admin-guide/LSM/Yama.rst).
func probeYama(h *host) (string, bool) {
	scope, there := h.read("/proc/sys/kernel/yama/ptrace_scope")
	switch {
	case !there:
		return "no Yama", true
	case scope == "0", scope == "1", scope == "2" && h.euid == 0:
		return "ptrace_scope " + scope, true
	}
	return "ptrace_scope " + scope, false
}

func landlockProbe(abi int) func(*host) (string, bool) {
	return func(h *host) (string, bool) {
		if h.abi == 0 {
			return "no Landlock", false
		}
		return fmt.Sprintf("ABI %d", h.abi), h.abi >= abi
	}
}

// usernsLimits are files that forbid user namespaces when they hold that value.
var usernsLimits = [...]struct{ path, forbids string }{
	{"/proc/sys/user/max_user_namespaces", "0"},
	{"/proc/sys/kernel/unprivileged_userns_clone", "0"},
	{"/proc/sys/kernel/apparmor_restrict_unprivileged_userns", "1"},
}

func probeUserns(h *host) (string, bool) {
	for _, l := range usernsLimits {
		if v, there := h.read(l.path); there && v == l.forbids && h.euid != 0 {
			return strings.ReplaceAll(strings.TrimPrefix(l.path, "/proc/sys/"), "/", ".") + " is " + v, false
		}
	}
	return verdict(launch.UserNamespaces())
}

func probeDiagTCP(*host) (string, bool) {
	_, err := sockdiag.TCP(1) // any port: whether the dump itself is answered
	return verdict(err)
}

func probeDiagUnix(*host) (string, bool) {
	_, err := sockdiag.Unix(0) // any inode
	return verdict(err)
}

func probeFilters(h *host) (string, bool) {
	status, _ := h.read("/proc/self/status")
	filters := "0"
	for line := range strings.Lines(status) {
		if v, ok := strings.CutPrefix(line, "Seccomp_filters:"); ok {
			filters = strings.TrimSpace(v)
		}
	}
	if filters == "0" {
		return "none", true
	}
	return filters + " outer filters", false
}

func probeContainer(h *host) (string, bool) {
	for _, m := range []struct{ path, kind string }{
		{"/.dockerenv", "Docker"}, {"/run/.containerenv", "Podman"}, {"/run/systemd/container", "systemd"},
	} {
		if h.exists(m.path) {
			return m.kind, false
		}
	}
	if h.env("KUBERNETES_SERVICE_HOST") != "" {
		return "Kubernetes", false
	}
	return "none seen", true
}

func probeUser(h *host) (string, bool) {
	if h.euid == 0 {
		return "root", false
	}
	return fmt.Sprintf("uid %d", h.euid), true
}
