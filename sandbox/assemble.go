package sandbox

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"strings"

	"github.com/sandlock/sandlock/dispatch"
	"github.com/sandlock/sandlock/fsvirt/dirs"
	"github.com/sandlock/sandlock/fsvirt/etc"
	"github.com/sandlock/sandlock/fsvirt/files"
	"github.com/sandlock/sandlock/fsvirt/proc"
	"github.com/sandlock/sandlock/fsvirt/trust"
	"github.com/sandlock/sandlock/internal/control"
	"github.com/sandlock/sandlock/internal/event"
	"github.com/sandlock/sandlock/internal/launch"
	"github.com/sandlock/sandlock/internal/limits"
	"github.com/sandlock/sandlock/internal/sys"
	"github.com/sandlock/sandlock/netfilter"
	"github.com/sandlock/sandlock/netfilter/resolver"
	"golang.org/x/sys/unix"
)

const maxHostFile = 64 << 20 // bytes of resolv.conf and hosts; block lists are long

const filterFlags = sys.FilterFlagNewListener | sys.FilterFlagWaitKill

// ErrUsage marks a policy that cannot be carried out as it is written.
var ErrUsage = errors.New("usage")

// usage is an error that is ErrUsage, without saying so in its text.
type usage struct{ error }

func (u usage) Is(target error) bool { return target == ErrUsage }
func (u usage) Unwrap() error        { return u.error }

// parts are what a run needs before the command can start. close undoes them in
// the reverse order.
type parts struct {
	name      string // of the run
	path      string // of the program
	create    bool   // pidfd_getfd(2) is refused: we make the command's sockets
	datagrams netfilter.Mode
	events    *event.Stream
	thread    *launch.Thread
	filter    *netfilter.Filter
	files     *files.Filter     // nil without rules on files
	proc      *proc.View        // likewise
	etc       *etc.Views        // likewise
	dirs      *dirs.Sorted      // nil unless asked for
	opened    []launch.FileRule // likewise
	processes *limits.Processes // nil without a limit
	memory    *limits.Memory    // likewise
	env       []string          // of the command
	// netPrefix: network flags are written --net-allow, as in `run`
	netPrefix bool
	http      *intercept   // nil when no connection has to be looked into
	trust     *trust.Views // likewise
	table     *dispatch.Table
	program   []unix.SockFilter
	watcher   *eventSink // nil unless Events was called
	control   *control.Server
	determinism

	closers []func()
}

func (p *parts) onClose(f func()) { p.closers = append(p.closers, f) }

func (p *parts) close() {
	for len(p.closers) > 0 {
		last := len(p.closers) - 1
		p.closers[last]()
		p.closers = p.closers[:last]
	}
}

// assemble makes all that a policy asks for. Everything that is read from files
// is read here and never again: the command may be able to change them.
func assemble(c *Compiled, o Options, watcher *eventSink) (*parts, error) {
	p := &parts{name: c.Policy.Name, watcher: watcher}
	for _, step := range []func(*parts, *Compiled, Options) error{checkRun, openEvents, openThread, openLimits, openInterceptor, openNetwork, openDeterminism, openFiles, openTrust, openTable, openControl} {
		if err := step(p, c, o); err != nil {
			p.close()
			return nil, err
		}
	}
	return p, nil
}

// checkRun refuses what this host or this build cannot enforce.
func checkRun(p *parts, c *Compiled, _ Options) error {
	if len(c.Policy.Command) == 0 {
		return usage{errors.New("no command")}
	}
	if err := sys.ProbeMemory(); err != nil {
		return fmt.Errorf("process_vm_readv(2) or process_vm_writev(2) is refused here: %w; run the container with --cap-add=SYS_PTRACE", err)
	}
	p.datagrams, _ = c.datagrams()
	p.create = sys.ProbePidfdGetfd() != nil
	var err error
	p.path, err = launch.LookPath(c.Policy.Command[0], c.Policy.Dir, c.Env)
	return err
}

func openEvents(p *parts, c *Compiled, o Options) error {
	var sinks []event.Sink
	if o.Messages != nil && !c.Policy.Quiet {
		sinks = append(sinks, event.Explain(o.Messages))
	}
	if c.Policy.LogFile != "" {
		file, err := os.OpenFile(c.Policy.LogFile, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
		if err != nil {
			return usage{fmt.Errorf("--log: %w", err)}
		}
		p.onClose(func() { file.Close() })
		sinks = append(sinks, event.JSONLines(io.Writer(file)))
	}
	if p.watcher != nil {
		sinks = append(sinks, p.watcher)
	}
	p.netPrefix = c.Files != nil
	p.events = event.NewNamed(c.Policy.Name, sinks...)
	p.onClose(func() { p.events.Close() })
	return nil
}

// emit reports an event; the flags in it are those of the command line in use.
func (p *parts) emit(e event.Event) {
	if p.netPrefix {
		for _, word := range []string{"--allow ", "--allow-bind "} {
			if rest, ok := strings.CutPrefix(e.AllowWith, word); ok {
				e.AllowWith = "--net-" + word[2:] + rest
			}
		}
	}
	p.events.Emit(e)
}

func openThread(p *parts, _ *Compiled, o Options) error {
	p.thread = launch.NewThread(o.landlockABI())
	p.onClose(p.thread.Close)
	if err := p.thread.Unsupported(); err != nil {
		return err
	}
	if !p.thread.Layers().Scopes && !o.OwnProcess {
		// Which processes are the sandbox's is then known to their reaper only.
		return errors.New("before Linux 6.12 a sandbox needs a process of its own: set OwnProcess, or run the sandlock command")
	}
	return nil
}

func openNetwork(p *parts, c *Compiled, _ Options) error {
	resolv, _ := sys.ReadFile("/etc/resolv.conf", maxHostFile)
	hosts, _ := sys.ReadFile("/etc/hosts", maxHostFile)
	upstreams, search, ndots, names := resolver.ReadHost(resolv, hosts)
	maps.Copy(names, c.neighbours.hosts)
	if len(c.Policy.DNSServers) > 0 {
		upstreams = c.Policy.DNSServers
	}
	dns, err := resolver.New(resolver.Config{Policy: c.Endpoints, Upstreams: upstreams, Hosts: names, Search: search,
		NDots: ndots, Audit: c.Policy.Audit, Report: p.reportQuery(c.Policy.Audit)})
	if err != nil {
		return err
	}
	p.onClose(func() { dns.Close() })
	proxy, err := c.resolveProxy()
	if err != nil {
		return err
	}
	config := netfilter.Config{
		Policy: c.Endpoints, Binds: c.Binds, Unix: c.Unix, Audit: c.Policy.Audit, Emit: p.emit, Thread: p.thread,
		Resolver: dns, Create: p.create, Datagrams: p.datagrams, PortRemap: c.Policy.PortRemap, Neighbours: c.neighbours.runs, Proxy: proxy,
	}
	if p.http != nil {
		config.Interceptor = p.http
	}
	if p.filter, err = netfilter.New(config); err != nil {
		return err
	}
	p.onClose(func() { p.filter.Close() })
	if p.http != nil {
		p.http.start(p.filter.Dial)
	}
	if c.Policy.PortRemap && c.Policy.Name != "" {
		if err := p.filter.ServeNeighbours(c.Policy.Name); err != nil {
			return fmt.Errorf("--name %s: %w; give another name", c.Policy.Name, err)
		}
	}
	return nil
}

// reportQuery turns the resolver's verdicts into events.
func (p *parts) reportQuery(audit bool) func(resolver.Query) {
	return func(q resolver.Query) {
		e := event.Event{Kind: event.Deny, PID: q.PID, Protocol: "dns", Name: q.Name, Addr: q.Addr, Reason: q.Verdict.Reason.String(), AllowWith: q.Verdict.AllowWith}
		switch {
		case q.Verdict.Allowed:
			e.Kind = event.Allow
		case audit:
			e.Kind = event.Audit
		}
		if r := q.Verdict.Rule; r != nil {
			e.Rule, e.Source = r.Text, r.Source
		}
		p.emit(e)
		if unresolved(q) {
			p.emit(event.Event{Kind: event.Fault, PID: q.PID, Protocol: "dns", Name: q.Name,
				Reason: "the name is allowed, but no name server answers: " + q.Err.Error() + "; --dns-server names another one"})
		}
	}
}

// unresolved tells whether an allowed name has no answer for a reason that lies
// outside: without a word people would blame the policy.
func unresolved(q resolver.Query) bool {
	return q.Verdict.Allowed && q.Err != nil && !errors.Is(q.Err, resolver.ErrType) && !errors.Is(q.Err, context.Canceled)
}

func openTable(p *parts, c *Compiled, o Options) (err error) {
	b := builtins{trust: p.trust, net: p.filter, files: p.files, proc: p.proc, etc: p.etc, dirs: p.dirs, processes: p.processes, determinism: p.determinism}
	if !p.thread.Layers().Scopes {
		b.signals = p.thread
	}
	p.table = tableOf(b, c.DenySyscalls)
	if p.create {
		p.table.KeepSockets(p.thread.Members)
	}
	for _, r := range o.Handlers {
		if err := p.table.Handle(r); err != nil {
			return usage{err}
		}
	}
	p.program, err = p.table.Program()
	return err
}
