package dispatch

import (
	"context"

	"golang.org/x/sys/unix"
)

type actionKind uint8

const (
	actContinue actionKind = iota
	actErrno
	actReturn
	actInject
	actDefer
	actKill
)

// Action is what a handler answers. The zero Action is Continue.
type Action struct {
	kind    actionKind
	errno   unix.Errno
	val     int64
	fd      int
	cloexec bool
	fn      func(context.Context) Action
	own     bool // fn answers interruptions itself
	done    func(target int, err error)
}

// Continue means that the handler has no interest in the call. It is never an
// approval: the next handler is asked, and after the last one the kernel
// performs the call under its own layers.
func Continue() Action { return Action{} }

// Errno makes the call fail with e.
func Errno(e unix.Errno) Action { return Action{kind: actErrno, errno: e} }

// Return makes the call succeed with the value v, without being performed.
func Return(v int64) Action { return Action{kind: actReturn, val: v} }

// Result turns the outcome of a call that was performed on the caller's behalf
// into an action: v when err is nil, else the errno in err (EIO if it has none).
func Result(v int64, err error) Action {
	if err == nil {
		return Return(v)
	}
	if e, ok := err.(unix.Errno); ok {
		return Errno(e)
	}
	return Errno(unix.EIO)
}

// InjectFD installs fd in the caller and answers the call with its number, in
// one step. The engine owns fd from then on and closes it.
func InjectFD(fd int, cloexec bool) Action {
	return Action{kind: actInject, fd: fd, cloexec: cloexec}
}

// InjectFDThen is InjectFD that calls done with the number in the caller, or
// with the error. The caller may already be running by then.
func InjectFDThen(fd int, cloexec bool, done func(target int, err error)) Action {
	return Action{kind: actInject, fd: fd, cloexec: cloexec, done: done}
}

// Defer lets f answer from a goroutine of its own, which may block. The context
// ends when the caller is gone or interrupted; f should then return at once, with
// its result or with EINTR, which restarts the call where the program wants that
// of its signals. Otherwise the call is interrupted without it, and its answer is
// dropped. When f answers Continue the handlers behind are asked. An f that
// defers again is answered with EIO.
func Defer(f func(ctx context.Context) Action) Action { return Action{kind: actDefer, fn: f} }

// DeferWhole is Defer for a call that may have done part of its work when its
// caller is interrupted: then nothing but the context ends, and f answers at once
// with what was done.
func DeferWhole(f func(ctx context.Context) Action) Action {
	return Action{kind: actDefer, fn: f, own: true}
}

// Kill ends the calling process with SIGKILL.
func Kill() Action { return Action{kind: actKill} }

// IsReturn tells whether the action makes the call succeed with a value.
func (a Action) IsReturn() bool { return a.kind == actReturn }

// IsContinue tells whether the action is Continue.
func (a Action) IsContinue() bool { return a.kind == actContinue }
