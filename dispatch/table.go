package dispatch

import (
	"errors"
	"fmt"
	"io"
	"sort"
	"strings"
	"text/tabwriter"

	"github.com/sandlock/sandlock/internal/sys"
	"golang.org/x/sys/unix"
)

// ErrDeniedSyscall reports a handler for a system call that the policy denies.
var ErrDeniedSyscall = errors.New("system call is denied by the policy")

// ErrInvalidSyscall reports a number that names no system call of this machine.
var ErrInvalidSyscall = errors.New("no such system call")

// ErrNoHandler reports a registration that could never be asked.
var ErrNoHandler = errors.New("no system call, or no handler for it")

// Registration puts a handler into the chain of each of its system calls. Where
// the guard does not hold, the call does not concern the handler.
type Registration struct {
	Name     string
	Syscalls []int
	Guard    Guard
	Handler  Handler
}

// Denial is a static refusal: the filter itself answers Errno where the guard
// holds. An Errno of 0 makes the call return 0 without effect.
type Denial struct {
	Syscall int
	Guard   Guard
	Errno   unix.Errno
}

// Table holds the chains and the denials. Everything else (the filter, the
// listing, the counters) is derived from it. It is filled by one goroutine and
// not changed after Program was called.
type Table struct {
	builtin []Registration
	user    []Registration
	denials []Denial
	members func() ([]int, error) // set by KeepSockets
}

// KeepSockets is for where pidfd_getfd(2) is refused: Call.FD then returns only
// sockets that a handler injected, of which the loop keeps copies. members lists
// the processes of the sandbox; it may block.
func (t *Table) KeepSockets(members func() ([]int, error)) { t.members = members }

// Builtin appends a registration to the chains. The order of calls is the order
// in which handlers are asked.
func (t *Table) Builtin(r Registration) { t.builtin = append(t.builtin, r) }

// Deny adds denials. A denial is tested before any guard.
func (t *Table) Deny(d ...Denial) { t.denials = append(t.denials, d...) }

// Handle appends a handler behind all builtins. It fails with ErrDeniedSyscall
// when a call is wholly denied and with ErrInvalidSyscall when a number is
// unknown, and then registers nothing.
func (t *Table) Handle(r Registration) error {
	if r.Handler == nil || len(r.Syscalls) == 0 {
		return fmt.Errorf("handler %q: %w", r.Name, ErrNoHandler)
	}
	for _, nr := range r.Syscalls {
		if sys.SyscallName(nr) == "" {
			return fmt.Errorf("handler %q: %w: %d", r.Name, ErrInvalidSyscall, nr)
		}
		for _, d := range t.denials {
			if d.Syscall == nr && len(d.Guard) == 0 {
				return fmt.Errorf("handler %q: %w: %s", r.Name, ErrDeniedSyscall, sys.SyscallName(nr))
			}
		}
	}
	t.user = append(t.user, r)
	return nil
}

type link struct {
	name    string
	guard   Guard
	handler Handler
	builtin bool
	count   *counter
}

func (t *Table) chains() map[int][]link {
	chains := map[int][]link{}
	add := func(rs []Registration, builtin bool) {
		for _, r := range rs {
			c := &counter{name: r.Name}
			for _, nr := range r.Syscalls {
				chains[nr] = append(chains[nr], link{r.Name, r.Guard, r.Handler, builtin, c})
			}
		}
	}
	add(t.builtin, true)
	add(t.user, false)
	return chains
}

// Trapped returns the numbers of the system calls that can raise a notification,
// in ascending order.
func (t *Table) Trapped() []int {
	var nrs []int
	for nr := range t.chains() {
		nrs = append(nrs, nr)
	}
	sort.Ints(nrs)
	return nrs
}

// WriteTo lists the chains and the denials as text, for people.
func (t *Table) WriteTo(w io.Writer) (int64, error) {
	var b strings.Builder
	tw := tabwriter.NewWriter(&b, 0, 8, 2, ' ', 0)
	fmt.Fprintln(tw, "SYSCALL\tWHEN\tHANDLERS IN ORDER")
	chains := t.chains()
	for _, nr := range t.Trapped() {
		var names []string
		when := Guard{}
		always := false
		for _, l := range chains[nr] {
			names = append(names, l.name)
			if len(l.guard) == 0 {
				always = true
			}
			when = append(when, l.guard...)
		}
		cond := when.String()
		if always {
			cond = "always"
		}
		fmt.Fprintf(tw, "%s\t%s\t%s\n", sys.SyscallName(nr), cond, strings.Join(names, " > "))
	}
	fmt.Fprintln(tw, "\nDENIED\tWHEN\tANSWER")
	ds := append([]Denial{}, t.denials...)
	sort.SliceStable(ds, func(i, j int) bool {
		return sys.SyscallName(ds[i].Syscall) < sys.SyscallName(ds[j].Syscall)
	})
	for _, d := range ds {
		answer := "0"
		if d.Errno != 0 {
			answer = unix.ErrnoName(d.Errno)
		}
		fmt.Fprintf(tw, "%s\t%s\t%s\n", sys.SyscallName(d.Syscall), d.Guard, answer)
	}
	tw.Flush()
	n, err := io.WriteString(w, b.String())
	return int64(n), err
}

// String renders the guard for people.
func (g Guard) String() string {
	if len(g) == 0 {
		return "always"
	}
	var ors []string
	for _, all := range g {
		var ands []string
		for _, t := range all {
			op, lhs := "==", fmt.Sprintf("arg%d", t.Arg)
			if t.Not {
				op = "!="
			}
			if t.Mask != 0 {
				lhs = fmt.Sprintf("arg%d&%#x", t.Arg, t.Mask)
			}
			ands = append(ands, fmt.Sprintf("%s%s%#x", lhs, op, t.Value))
		}
		ors = append(ors, strings.Join(ands, " & "))
	}
	return strings.Join(ors, " | ")
}
