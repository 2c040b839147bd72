package sandbox

import (
	"encoding/json"
	"fmt"
	"io"
	"text/tabwriter"

	"github.com/sandlock/sandlock/netfilter"
)

// Need says what a run loses without a feature.
type Need string

// The needs of a Feature.
const (
	Required Need = "required" // without it nothing is started
	Optional Need = "optional" // without it a run is slower, or has one layer less
	Note     Need = "note"     // nothing is missing; a fact about this host
)

// Feature is one thing that a run of `net` uses.
type Feature struct {
	Name   string
	Kernel string // first Linux version that has it, "" where it is no matter of version
	Need   Need
	Why    string
	Remedy string
	probe  func(*host) (found string, ok bool)
}

// Finding is a feature and what the probe found on this host.
type Finding struct {
	Feature
	OK    bool
	Found string
}

// listenerFeature is what a process under another supervisor lacks.
const listenerFeature = "seccomp-listener"

// userNamespaces is what the contained mode of datagrams needs.
const userNamespaces = "user-namespaces"

// features are in the order in which a person would mend them.
var features = [...]Feature{
	{"seccomp-notify", "5.0", Required, "the supervisor is asked about calls",
		"use Linux 5.0 or later, built with CONFIG_SECCOMP_FILTER", probeNotify},
	{listenerFeature, "5.0", Required, "a process has at most one supervisor",
		"do not start sandlock inside a sandbox that listens itself, such as another sandlock; give its rules to the outer one", probeListener},
	{"seccomp-addfd-send", "5.14", Required, "descriptors are handed over together with the answer",
		"use Linux 5.14 or later", probeAddFD},
	{"seccomp-wait-killable", "5.19", Required, "a call that was performed is not repeated after a signal",
		"use Linux 5.19 or later", probeWaitKillable},
	{"seccomp-sync-wake-up", "6.6", Optional, "an answer costs less",
		"use Linux 6.6 or later", probeSyncWakeUp},
	{"pidfd-getfd", "5.6", Optional, "a socket needs no copy while it is open, and one that was inherited can be used",
		"in a container, add CAP_SYS_PTRACE (docker run --cap-add SYS_PTRACE) or a seccomp profile that allows pidfd_getfd", probePidfd},
	{"process-vm-readv", "3.2", Required, "the arguments of a call are read",
		"in a container, add CAP_SYS_PTRACE or a seccomp profile that allows process_vm_readv", probeMemory},
	{"yama", "", Required, "the supervisor looks at its own descendants",
		"sysctl kernel.yama.ptrace_scope=1 (or 0)", probeYama},
	{"landlock", "5.19", Required, "the kernel keeps the supervisor's memory and descriptors from the command (Landlock ABI 2)",
		"put landlock into the kernel's lsm= list", landlockProbe(2)},
	{"landlock-net", "6.7", Optional, "the kernel denies TCP below the filter, too (Landlock ABI 4)",
		"use Linux 6.7 or later", landlockProbe(4)},
	{"landlock-scopes", "6.12", Optional, "the kernel itself keeps signals and abstract sockets inside (Landlock ABI 6); else they are trapped",
		"use Linux 6.12 or later", landlockProbe(6)},
	{userNamespaces, "3.8", Optional, "datagram sockets are born in an empty network namespace, and no send is trapped",
		"sysctl user.max_user_namespaces=15000 kernel.unprivileged_userns_clone=1 kernel.apparmor_restrict_unprivileged_userns=0, those of them that this host has; in a container, a seccomp profile that allows clone(CLONE_NEWUSER)", probeUserns},
	{"sock-diag-tcp", "3.3", Required, "the servers of the sandbox are told from those of the host",
		"load the module tcp_diag (modprobe tcp_diag)", probeDiagTCP},
	{"sock-diag-unix", "3.3", Required, "unix sockets of the sandbox are told from those of the host",
		"load the module unix_diag (modprobe unix_diag)", probeDiagUnix},
	{"seccomp-filters", "", Note, "an outer filter may refuse what a run needs", "", probeFilters},
	{"container", "", Note, "containers refuse some calls by default", "", probeContainer},
	{"user", "", Note, "root can write what the host runs later", "run sandlock as an ordinary user", probeUser},
}

// Check probes every feature on this host. It changes nothing, takes some
// milliseconds and opens nothing that stays open.
func Check() []Finding {
	h := readHost()
	out := make([]Finding, 0, len(features))
	for _, f := range features {
		found, ok := f.probe(h)
		if !ok && nested(h) && f.Name != listenerFeature && f.Need != Note {
			// The supervisor above is the cause: no sysctl would help.
			f.Remedy = "follows from " + listenerFeature
		}
		out = append(out, Finding{f, ok, found})
	}
	return out
}

// Diagnose adds to the error of a run that could not be started the first
// required feature that is missing, with its remedy. Without one it returns err
// as it is. It probes as Check does.
func Diagnose(err error) error {
	for _, f := range Check() {
		if f.Need == Required && !f.OK {
			return fmt.Errorf("%w; missing here: %s (%s): %s", err, f.Name, f.Found, f.Remedy)
		}
	}
	return err
}

// CanRun tells whether nothing that is required is missing.
func CanRun(fs []Finding) bool {
	for _, f := range fs {
		if f.Need == Required && !f.OK {
			return false
		}
	}
	return true
}

// DatagramMode says in which of the two modes datagram sockets would work, and
// why or until when.
func DatagramMode(fs []Finding) (mode, why string) {
	for _, f := range fs {
		if f.Name == userNamespaces && f.OK {
			return netfilter.Contained.String(), "mediated with a udp:// or icmp:// rule, --audit, or a datagram socket in --allow-unix"
		}
	}
	return netfilter.Mediated.String(), "there are no user namespaces"
}

func (f Finding) state() string {
	switch {
	case f.Need == Note && f.OK:
		return "-"
	case f.Need == Note:
		return "note"
	case f.OK:
		return "ok"
	case f.Need == Optional:
		return "absent"
	}
	return "MISSING"
}

// WriteFindings writes a table for people: the findings, then a line for each
// remedy, then the conclusion.
func WriteFindings(w io.Writer, fs []Finding) error {
	tw := tabwriter.NewWriter(w, 0, 8, 2, ' ', 0)
	fmt.Fprintln(tw, "FEATURE\tLINUX\tSTATE\tFOUND\tWHY")
	for _, f := range fs {
		fmt.Fprintf(tw, "%s\t%s\t%s\t%s\t%s\n", f.Name, f.Kernel, f.state(), f.Found, f.Why)
	}
	if err := tw.Flush(); err != nil {
		return err
	}
	for _, f := range fs {
		if !f.OK && f.Remedy != "" {
			fmt.Fprintf(w, "%s: %s\n", f.Name, f.Remedy)
		}
	}
	mode, why := DatagramMode(fs)
	conclusion := "sandlock net can run here; datagrams: " + mode + " (" + why + ")"
	if !CanRun(fs) {
		conclusion = "sandlock net cannot run here"
	}
	_, err := fmt.Fprintln(w, conclusion)
	return err
}

type jsonFinding struct {
	Name   string `json:"name"`
	Kernel string `json:"kernel,omitempty"`
	Need   Need   `json:"need"`
	OK     bool   `json:"ok"`
	Found  string `json:"found"`
	Why    string `json:"why"`
	Remedy string `json:"remedy,omitempty"` // only for what is not ok
}

// WriteFindingsJSON writes one object: can_run, datagrams with the reason in
// datagrams_why, and the findings as features.
func WriteFindingsJSON(w io.Writer, fs []Finding) error {
	mode, why := DatagramMode(fs)
	out := struct {
		CanRun    bool          `json:"can_run"`
		Datagrams string        `json:"datagrams"`
		Why       string        `json:"datagrams_why"`
		Features  []jsonFinding `json:"features"`
	}{CanRun(fs), mode, why, nil}
	for _, f := range fs {
		j := jsonFinding{f.Name, f.Kernel, f.Need, f.OK, f.Found, f.Why, ""}
		if !f.OK {
			j.Remedy = f.Remedy
		}
		out.Features = append(out.Features, j)
	}
	enc := json.NewEncoder(w)
	enc.SetIndent("", "  ")
	return enc.Encode(out)
}
