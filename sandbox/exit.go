package sandbox

import (
	"errors"
	"fmt"
	"syscall"
	"time"

	"github.com/sandlock/sandlock/internal/launch"
)

// ExitState is how a command ended.
type ExitState struct {
	Status   syscall.WaitStatus
	Usage    syscall.Rusage // of the command and the children that it waited for
	TimedOut bool           // Policy.Timeout ended it
}

// Success tells whether the command ended by itself with 0.
func (e ExitState) Success() bool { return e.ExitCode() == 0 && !e.TimedOut }

// ExitCode returns the command's own code, -1 where a signal ended it.
func (e ExitState) ExitCode() int { return e.Status.ExitStatus() }

// ShellCode returns the code that a shell would show: the command's own, 128+n
// for signal n, 124 after the time-out as timeout(1) has it.
func (e ExitState) ShellCode() int {
	switch {
	case e.TimedOut:
		return launch.ExitTimeout
	case e.Status.Signaled():
		return 128 + int(e.Status.Signal())
	}
	return e.Status.ExitStatus()
}

// UserTime and SystemTime return the CPU time of the command and of the children
// that it waited for.
func (e ExitState) UserTime() time.Duration { return time.Duration(e.Usage.Utime.Nano()) }

// SystemTime is UserTime within the kernel.
func (e ExitState) SystemTime() time.Duration { return time.Duration(e.Usage.Stime.Nano()) }

func (e ExitState) String() string {
	switch {
	case e.TimedOut:
		return "timed out"
	case e.Status.Signaled():
		s := "signal: " + e.Status.Signal().String()
		if e.Status.CoreDump() {
			s += " (core dumped)"
		}
		return s
	}
	return fmt.Sprintf("exit status %d", e.Status.ExitStatus())
}

// ExitError is a command that ran and did not end with 0.
type ExitError struct {
	ExitState
	Stderr []byte // the last of its standard error, from Output only
}

func (e *ExitError) Error() string { return e.ExitState.String() }

// codeOf is the exit code of sandlock for a run that could not be started.
func codeOf(err error) int {
	var le *launch.Error
	switch {
	case errors.As(err, &le):
		return le.Code
	case errors.Is(err, ErrUsage):
		return exitUsage
	}
	return launch.ExitFailure
}

const exitUsage = 2 // as the shells' builtins have it
