package sandbox

import (
	"runtime"
	"syscall"

	"golang.org/x/sys/unix"
)

// waitOwn waits for the command in a process that is sandlock's own: it reaps
// the command's orphans, and stops and continues with it.
func (s *Sandbox) waitOwn() (ExitState, error) {
	for {
		var state ExitState
		pid, err := wait4(-1, unix.WUNTRACED, &state)
		switch {
		case err != nil:
			return state, err
		case pid != s.run.proc.PID:
		case state.Status.Stopped():
			s.stopToo()
		default:
			return state, nil
		}
	}
}

// stopToo stops this process with the command, unless Pause or a limit did it, and wakes the
// command when it goes on itself.
func (s *Sandbox) stopToo() {
	s.mu.Lock()
	paused := s.paused
	s.mu.Unlock()
	if l := s.compiled.Policy.Limits.CPU; paused || l > 0 && l < maxCPU {
		return
	}
	// Sent to this very thread, the signal takes effect before the next line:
	// otherwise the command would go on, in the background, first.
	runtime.LockOSThread()
	unix.Tgkill(unix.Getpid(), unix.Gettid(), unix.SIGSTOP)
	runtime.UnlockOSThread()
	s.Signal(unix.SIGCONT)
}

// reapOrphans frees what has ended below this process.
func reapOrphans() {
	for {
		pid, err := syscall.Wait4(-1, nil, unix.WNOHANG, nil)
		if pid <= 0 && err != syscall.EINTR {
			return
		}
	}
}
