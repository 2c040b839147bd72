// Package sandbox runs a command that reaches exactly the endpoints of a policy.
package sandbox

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/sandlock/sandlock/internal/event"
	"github.com/sandlock/sandlock/internal/launch"
	"github.com/sandlock/sandlock/internal/sys"
	"github.com/sandlock/sandlock/netfilter"
	"github.com/sandlock/sandlock/netfilter/resolver"
	"golang.org/x/sys/unix"
)

// Options are what a run borrows from its caller. A nil file is the process's own.
type Options struct {
	Stdin, Stdout, Stderr *os.File
	OwnProcess            bool // the process is sandlock's: its signals and children are ours
	Foreground            bool // the command belongs to the terminal's foreground group
}

// LaunchError is a command that could not be started; Code is the exit code for it.
type LaunchError = launch.Error

// ErrUsage marks a policy that cannot be carried out as it is written.
var ErrUsage = errors.New("usage")

// Run runs the command in a process that is sandlock's own and returns its exit
// code as a shell would: 128+n for signal n, 124 after the time-out. With an
// error nothing was run; the code is then 125, 126, 127, or 2 for ErrUsage.
func Run(ctx context.Context, c *Compiled, o Options) (int, error) {
	p, policy := &c.Policy, c.Endpoints
	if len(p.Command) == 0 {
		return 2, fmt.Errorf("%w: no command", ErrUsage)
	}
	if policy.HasDatagramRules() {
		return 2, fmt.Errorf("%w: udp:// and icmp:// rules are not supported yet; remove them", ErrUsage)
	}
	var text, log io.Writer
	if !p.Quiet {
		text = cmp.Or(o.Stderr, os.Stderr)
	}
	if p.LogFile != "" {
		file, err := os.OpenFile(p.LogFile, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
		if err != nil {
			return 2, fmt.Errorf("--log: %w", err)
		}
		defer file.Close()
		log = file
	}
	if err := launch.UserNamespaces(); err != nil {
		return launch.ExitFailure, fmt.Errorf("datagram sockets need a user namespace: %w; allow unprivileged user namespaces (sysctl kernel.apparmor_restrict_unprivileged_userns=0)", err)
	}
	if err := sys.ProbePidfdGetfd(); err != nil {
		return launch.ExitFailure, errors.New("pidfd_getfd(2) is refused here; run the container with --cap-add=SYS_PTRACE")
	}
	path, err := launch.LookPath(p.Command[0], p.Dir, c.Env)
	if err != nil {
		return codeOf(err), err
	}
	resolv, _ := os.ReadFile("/etc/resolv.conf")
	hosts, _ := os.ReadFile("/etc/hosts")
	upstreams, search, ndots, names := resolver.ReadHost(resolv, hosts)
	if len(p.DNSServers) > 0 {
		upstreams = p.DNSServers
	}
	var sinks []event.Sink
	if text != nil {
		sinks = append(sinks, event.Explain(text))
	}
	if log != nil {
		sinks = append(sinks, event.JSONLines(log))
	}
	events := event.NewNamed(p.Name, sinks...)
	defer events.Close()
	thread, err := launch.NewThread()
	if err != nil {
		return launch.ExitFailure, err
	}
	defer thread.Close()
	dns, err := resolver.New(resolver.Config{Policy: policy, Upstreams: upstreams, Hosts: names, Search: search, NDots: ndots, Audit: p.Audit,
		Report: func(q resolver.Query) {
			e := event.Event{Kind: event.Deny, PID: q.PID, Protocol: "dns", Name: q.Name, Addr: q.Addr, Reason: q.Verdict.Reason.String(), AllowWith: q.Verdict.AllowWith}
			switch {
			case q.Verdict.Allowed:
				e.Kind = event.Allow
			case p.Audit:
				e.Kind = event.Audit
			}
			if r := q.Verdict.Rule; r != nil {
				e.Rule, e.Source = r.Text, r.Source
			}
			events.Emit(e)
		}})
	if err != nil {
		return launch.ExitFailure, err
	}
	defer dns.Close()
	filter, err := netfilter.New(netfilter.Config{
		Policy: policy, Binds: c.Binds, Unix: c.Unix, Audit: p.Audit, Emit: events.Emit, Thread: thread,
		Resolver: dns,
	})
	if err != nil {
		return launch.ExitFailure, err
	}
	defer filter.Close()
	table := tableOf(filter)
	prog, err := table.Program()
	if err != nil {
		return launch.ExitFailure, err
	}
	// Before the start: a command that ends at once leaves its orphans to the
	// reaper of that moment, and can look at us from its first moment on.
	if err := launch.HardenSelf(); err != nil {
		return launch.ExitFailure, err
	}
	started, err := launch.Start(thread, launch.Spec{
		Path: path, Argv: p.Command, Env: c.Env, Dir: p.Dir, Filter: prog,
		FilterFlags: sys.FilterFlagNewListener | sys.FilterFlagWaitKill,
		Stdio:       [3]int{0, 1, 2}, PassFDs: slices.Clone(p.PassFDs),
	})
	if err != nil {
		return codeOf(err), err
	}
	defer unix.Close(started.PIDFD)
	// The command shares our terminal and process group: its keys are for it. Not
	// before the start, for it would inherit that they are ignored.
	signal.Ignore(unix.SIGINT, unix.SIGQUIT, unix.SIGTSTP, unix.SIGTTOU)
	loop := table.NewLoop(started.Listener, func(err error) {
		events.Emit(event.Event{Kind: event.Fault, Reason: err.Error()})
	})
	loop.Start()
	defer loop.Close()
	code := wait(started.PID, p.Timeout)
	launch.KillAll(filter.HelperPID())
	return code, nil
}

// Chains lists the handler chains and the static denials that a run of the
// policy has, as text for people. It starts nothing.
func Chains(c *Compiled) (string, error) {
	filter, err := netfilter.New(netfilter.Config{Policy: c.Endpoints, Binds: c.Binds, Unix: c.Unix})
	if err != nil {
		return "", err
	}
	defer filter.Close()
	var b strings.Builder
	_, err = tableOf(filter).WriteTo(&b)
	return b.String(), err
}

func codeOf(err error) int {
	var le *launch.Error
	if errors.As(err, &le) {
		return le.Code
	}
	return launch.ExitFailure
}

// wait blocks until the command ended, stops with it and passes signals on.
func wait(pid int, timeout time.Duration) int {
	sig := make(chan os.Signal, 16)
	signal.Notify(sig, unix.SIGTERM, unix.SIGHUP, unix.SIGUSR1, unix.SIGUSR2)
	defer signal.Stop(sig)
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	timedOut := make(chan struct{})
	if timeout > 0 {
		t := time.AfterFunc(timeout, func() { close(timedOut); unix.Kill(pid, unix.SIGKILL) })
		defer t.Stop()
	}
	go func() {
		for {
			select {
			case s := <-sig:
				unix.Kill(pid, s.(unix.Signal))
			case <-ctx.Done():
				return
			}
		}
	}()
	for {
		var ws unix.WaitStatus
		got, err := unix.Wait4(-1, &ws, unix.WUNTRACED, nil)
		switch {
		case err == unix.EINTR, err == nil && got != pid:
			continue
		case err != nil:
			return launch.ExitFailure
		case ws.Stopped():
			// Sent to this very thread, the signal takes effect before the next
			// line: otherwise the command would go on, in the background, first.
			runtime.LockOSThread()
			unix.Tgkill(unix.Getpid(), unix.Gettid(), unix.SIGSTOP)
			runtime.UnlockOSThread()
			unix.Kill(pid, unix.SIGCONT)
			continue
		}
		select {
		case <-timedOut:
			return launch.ExitTimeout
		default:
		}
		if ws.Signaled() {
			return 128 + int(ws.Signal())
		}
		return ws.ExitStatus()
	}
}
