// Package sandbox runs a command that reaches exactly the endpoints of a policy.
package sandbox

import (
	"context"
	"errors"
	"io"
	"os"
	"slices"
	"sync"
	"time"

	"github.com/sandlock/sandlock/dispatch"
	"github.com/sandlock/sandlock/internal/event"
	"github.com/sandlock/sandlock/internal/launch"
	"github.com/sandlock/sandlock/netfilter"
	"golang.org/x/sys/unix"
)

// Options are what a run borrows from its caller. As in os/exec, a nil stream is
// the null device, an *os.File is the command's own, and anything else is joined
// to the command by a pipe and a goroutine.
type Options struct {
	Stdin          io.Reader
	Stdout, Stderr io.Writer
	// Messages gets one line for each new denial, and a summary at the end. Nil
	// is nowhere, and so is a policy that is Quiet.
	Messages io.Writer
	// Handlers are asked after all builtins, in this order. One for a call that is
	// denied or unknown fails the start with dispatch.ErrDeniedSyscall or
	// dispatch.ErrInvalidSyscall.
	Handlers []dispatch.Registration
	// Control lets the owner of the process list, inspect and kill the run while it
	// lasts, with Running and its kin or the sandlock command. A second run of
	// the policy's Name then cannot be started.
	Control bool
	// Exited, if not nil, is called by the function Run when the command has ended.
	Exited func(ExitState)
	// OwnProcess says that the calling process is sandlock's own: it then becomes
	// the reaper of the command's orphans and cannot be read by others, waits for
	// every child, ignores the keys of its terminal, hands signals on, and stops
	// and continues with the command. Without it the process is left alone: many
	// sandboxes may run in it, beside children of its own.
	OwnProcess bool

	abi int // Landlock ABI to use, for tests; 0 is the kernel's
}

func (o Options) landlockABI() int {
	if o.abi != 0 {
		return o.abi
	}
	return launch.KernelABI()
}

// LaunchError is a command that could not be started; Code is the exit code for it.
type LaunchError = launch.Error

// Errors of a Sandbox that is used out of turn.
var (
	ErrNotStarted = errors.New("the sandbox was not started")
	ErrStarted    = errors.New("the sandbox was started already")
)

// Sandbox is one run of a command under a policy. It is made by New, started
// once, and may be used from any goroutine.
type Sandbox struct {
	compiled *Compiled
	opts     Options

	mu      sync.Mutex
	started bool
	ended   bool // the command was waited for: its number may name another process
	paused  bool
	cause   error // why the run was ended from here, nil if it was not

	began  time.Time
	events *eventSink
	pipes  pipes
	run    *run
	done   chan struct{} // closed when nothing of the run is left
	state  ExitState
	err    error // what went wrong beside the command's own status
}

// run is what exists while the command runs.
type run struct {
	*parts
	proc *launch.Process
	loop *dispatch.Loop
}

// New returns a sandbox for the policy's command. It starts and opens nothing.
func New(c *Compiled, o Options) *Sandbox {
	return &Sandbox{compiled: c, opts: o, done: make(chan struct{})}
}

// Start starts the command and returns when it was executed. With an error
// nothing runs: it is ErrUsage for a policy that cannot be carried out, or a
// *LaunchError. When ctx ends, so does everything in the sandbox. After a start
// Wait must be called.
func (s *Sandbox) Start(ctx context.Context) error {
	err := s.begin(ctx)
	if err == nil {
		go s.reap(ctx)
	}
	return err
}

// begin is Start; reap must follow.
func (s *Sandbox) begin(ctx context.Context) (err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.started {
		return ErrStarted
	}
	defer func() {
		if err != nil && s.events != nil {
			s.events.Close()
		}
	}()
	if err := ctx.Err(); err != nil {
		return err
	}
	p, err := assemble(s.compiled, s.opts, s.events)
	if err != nil {
		s.pipes.closeAll()
		return err
	}
	if err := s.pipes.open(s.opts); err != nil {
		p.close()
		return err
	}
	r := &run{parts: p}
	if err := r.launch(s.compiled, s.opts, s.pipes.child); err != nil {
		s.pipes.closeAll()
		p.close()
		return err
	}
	s.run, s.started, s.began = r, true, time.Now()
	if r.control != nil {
		r.control.Serve(s.answer)
	}
	s.pipes.start()
	return nil
}

// launch starts the command and the loop that answers it.
func (r *run) launch(c *Compiled, o Options, stdio [3]int) error {
	spec := launch.Spec{
		Path: r.path, Argv: c.Policy.Command, Env: r.env, Dir: c.Policy.Dir, Filter: r.program,
		FilterFlags: filterFlags, Stdio: stdio, PassFDs: c.Policy.PassFDs, Files: r.opened, Limits: launchLimits(c.Policy.Limits),
	}
	fault := func(err error) { r.events.Emit(event.Event{Kind: event.Fault, Reason: err.Error()}) }
	serve := func(listener int) {
		r.loop = r.table.NewLoop(listener, fault)
		if r.datagrams == netfilter.Mediated {
			r.loop.Keep(append(stdio[:], c.Policy.PassFDs...)...)
		}
		r.loop.Start()
	}
	early := launch.TrapsStart(r.table.Trapped())
	if early {
		spec.OnListener = serve
	}
	if o.OwnProcess {
		// Before the start: a command that ends at once leaves its orphans to the
		// reaper of that moment, and can look at us from its first moment on.
		if err := launch.HardenSelf(); err != nil {
			return err
		}
	}
	proc, err := launch.Start(r.thread, spec)
	if err != nil {
		if r.loop != nil {
			r.loop.Close()
		}
		return err
	}
	r.proc = proc
	undo := func() {}
	if o.OwnProcess {
		undo = launch.TakeSignals(proc.PIDFD)
	}
	// The last to be undone: a key must not cut off what is left to say.
	r.closers = slices.Insert(r.closers, 0, func() { undo(); unix.Close(proc.PIDFD) })
	if !early {
		serve(proc.Listener)
	}
	r.watch(c.Policy.Limits)
	return nil
}

// Kill ends every process of the sandbox at once. It returns os.ErrProcessDone
// when they have ended before.
func (s *Sandbox) Kill() error { return s.end(nil) }

// Pause stops every process of the sandbox, and Resume lets them go on.
func (s *Sandbox) Pause() error { return s.pause(true) }

// Resume undoes Pause.
func (s *Sandbox) Resume() error { return s.pause(false) }

func (s *Sandbox) pause(on bool) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.alive(); err != nil {
		return err
	}
	s.paused = on
	if on {
		return s.run.thread.SignalAll(unix.SIGSTOP)
	}
	return s.run.thread.SignalAll(unix.SIGCONT)
}

// Signal sends a signal to the command's own process.
func (s *Sandbox) Signal(sig unix.Signal) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.alive(); err != nil {
		return err
	}
	return unix.PidfdSendSignal(s.run.proc.PIDFD, sig, nil, 0)
}

// PID returns the number of the command's process, 0 before the start. The
// number may be used again after the command has ended.
func (s *Sandbox) PID() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.started {
		return 0
	}
	return s.run.proc.PID
}

// alive is to be called with mu held.
func (s *Sandbox) alive() error {
	switch {
	case !s.started:
		return ErrNotStarted
	case s.ended:
		return os.ErrProcessDone
	}
	return nil
}

// end kills everything, for a reason that Wait shall return.
func (s *Sandbox) end(cause error) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.alive(); err != nil {
		return err
	}
	if s.cause == nil {
		s.cause = cause
	}
	return s.run.thread.SignalAll(unix.SIGKILL)
}
