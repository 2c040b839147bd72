package sandbox

import (
	"context"
	"errors"
	"os"
	"syscall"
	"time"

	"github.com/sandlock/sandlock/internal/event"
	"golang.org/x/sys/unix"
)

// endWait is how long processes that were killed may take to go: the kernel ends
// one in an uninterruptible sleep later.
const endWait = 5 * time.Second

// Wait blocks until nothing of the run is left and returns nil when the command
// ended with 0, an *ExitError when it did not, the error of the context that
// ended it, or what went wrong with its streams. It may be called many times;
// Done tells when it will not block.
func (s *Sandbox) Wait() error {
	s.mu.Lock()
	started := s.started
	s.mu.Unlock()
	if !started {
		return ErrNotStarted
	}
	<-s.done
	s.mu.Lock()
	defer s.mu.Unlock()
	closeFiles(&s.pipes.user)
	switch {
	case s.cause != nil && !errors.Is(s.cause, errTimeout):
		return s.cause
	case !s.state.Success():
		return &ExitError{ExitState: s.state}
	}
	return s.err
}

// Done is closed when nothing of the run is left.
func (s *Sandbox) Done() <-chan struct{} { return s.done }

// State returns how the command ended; ok is false before that.
func (s *Sandbox) State() (e ExitState, ok bool) {
	select {
	case <-s.done:
		return s.state, true
	default:
		return ExitState{}, false
	}
}

var errTimeout = errors.New("time-out")

// reap waits for the command, ends what it left behind and closes the run.
func (s *Sandbox) reap(ctx context.Context) {
	stop := context.AfterFunc(ctx, func() { s.end(context.Cause(ctx)) })
	if d := s.compiled.Policy.Timeout; d > 0 {
		t := time.AfterFunc(d, func() { s.end(errTimeout) })
		defer t.Stop()
	}
	wait := s.waitChild
	if s.opts.OwnProcess {
		wait = s.waitOwn
	}
	state, err := wait()
	stop()
	s.mu.Lock()
	s.ended = true
	state.TimedOut = errors.Is(s.cause, errTimeout) && state.Status.Signaled()
	s.mu.Unlock()
	left := s.endOthers()
	err = errors.Join(err, s.pipes.finish(left))
	s.run.loop.Close()
	s.run.close()
	s.state, s.err = state, err
	close(s.done)
}

// waitChild waits for the command alone, without a thread of its own.
func (s *Sandbox) waitChild() (ExitState, error) {
	pidfd, err := unix.FcntlInt(uintptr(s.run.proc.PIDFD), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return ExitState{}, err
	}
	// PIDFD_NONBLOCK (Linux 5.10) is O_NONBLOCK; package os then polls it.
	if err := unix.SetNonblock(pidfd, true); err != nil {
		unix.Close(pidfd)
		return ExitState{}, err
	}
	file := os.NewFile(uintptr(pidfd), "command")
	defer file.Close()
	conn, err := file.SyscallConn()
	if err != nil {
		return ExitState{}, err
	}
	var state ExitState
	var waited error
	err = conn.Read(func(uintptr) bool {
		pid, err := wait4(s.run.proc.PID, unix.WNOHANG, &state)
		waited = err
		return err != nil || pid != 0
	})
	return state, errors.Join(err, waited)
}

// wait4 is wait4(2), repeated while a signal interrupts it.
func wait4(pid, flags int, state *ExitState) (int, error) {
	for {
		got, err := syscall.Wait4(pid, &state.Status, flags, &state.Usage)
		if err != syscall.EINTR {
			return got, os.NewSyscallError("wait4", err)
		}
	}
}

// endOthers ends what the command left behind, and tells whether something
// could not be ended. The listener hangs up when nobody is under its filter any
// more, so there is mostly nothing to do.
func (s *Sandbox) endOthers() (left bool) {
	if !s.run.loop.HungUp() {
		if err := s.run.thread.KillAll(endWait); err != nil {
			s.run.events.Emit(event.Event{Kind: event.Fault, Reason: err.Error()})
			left = true
		}
	}
	if s.opts.OwnProcess {
		reapOrphans()
	}
	return left
}
