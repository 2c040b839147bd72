package launch

import (
	"fmt"
	"runtime"
	"slices"
	"syscall"
	"unsafe"

	"github.com/sandlock/sandlock/internal/sys"
	"golang.org/x/sys/unix"
)

// Exit codes of failures, as env(1) and timeout(1) have them.
const (
	ExitTimeout       = 124
	ExitFailure       = 125
	ExitNotExecutable = 126
	ExitNotFound      = 127
)

// Spec is a command and its confinement, complete before the clone.
type Spec struct {
	Path        string // from LookPath
	Argv, Env   []string
	Dir         string // "" is the supervisor's
	Filter      []unix.SockFilter
	FilterFlags uint
	Stdio       [3]int // descriptors of the supervisor that become 0, 1 and 2; below 3 only as themselves
	PassFDs     []int  // descriptors that stay open under their numbers; 0 to 2 only permits a socket there
	// Files, unless nil, are all that the command may open, by itself; the program
	// must be among them. They are opened and judged when Start is called.
	Files  []FileRule
	Limits Limits
	// OnListener, if not nil, gets the listener and with it its ownership as soon
	// as it exists, on a goroutine of its own: for filters that trap a call of the
	// start itself (execve, dup3, fcntl, close_range). Start waits for the answers.
	OnListener func(listener int)
}

// startCalls are what the child calls once the filter is in place.
var startCalls = []int{unix.SYS_WRITE, unix.SYS_CLOSE_RANGE, unix.SYS_DUP3, unix.SYS_FCNTL, unix.SYS_EXECVE}

// TrapsStart tells whether a filter that traps these calls needs OnListener.
func TrapsStart(trapped []int) bool {
	return slices.ContainsFunc(trapped, func(nr int) bool { return slices.Contains(startCalls, nr) })
}

// Process is a started command. The caller owns both descriptors.
type Process struct {
	PID      int
	PIDFD    int
	Listener int // of the seccomp filter; OnListener's where that is set
}

// Error is a launch that failed: nothing runs. Code is the exit code for it.
type Error struct {
	Step string
	Code int
	Err  error
}

func (e *Error) Error() string { return e.Step + ": " + e.Err.Error() }
func (e *Error) Unwrap() error { return e.Err }

// Start clones the command from the sandbox's thread and returns when it was
// executed, or with an *Error. The clone shares the descriptor table until the
// filter is in place, so that its listener is at once the supervisor's.
func Start(t *Thread, s Spec) (*Process, error) {
	var p *Process
	err := t.Do(func() (err error) {
		p, err = start(t.layers, s)
		return err
	})
	return p, err
}

// usualSteps is room for a plan: it then grows only with many passed descriptors.
const usualSteps = 160

type plan struct {
	steps []step
	names []string
}

func (p *plan) add(name string, nr uintptr, args ...uintptr) *step {
	s := step{nr: nr, next: stepSize}
	copy(s.args[:], args)
	p.steps = append(p.steps, s)
	p.names = append(p.names, name)
	return &p.steps[len(p.steps)-1]
}

// name of the step that a child gave up at.
func (p *plan) name(f *failure) string {
	return p.names[(f.step-uintptr(unsafe.Pointer(&p.steps[0])))/stepSize]
}

func start(layers Layers, s Spec) (*Process, error) {
	if err := checkStdio(s); err != nil {
		return nil, err
	}
	path, err := unix.BytePtrFromString(s.Path)
	if err != nil {
		return nil, &Error{"exec " + s.Path, ExitNotFound, err}
	}
	argv, err := syscall.SlicePtrFromStrings(s.Argv)
	if err != nil {
		return nil, &Error{"arguments", ExitFailure, err}
	}
	env, err := syscall.SlicePtrFromStrings(s.Env)
	if err != nil {
		return nil, &Error{"environment", ExitFailure, err}
	}
	shell, _ := unix.BytePtrFromString("/bin/sh")
	script := append([]*byte{shell, path}, argv[min(1, len(argv)-1):]...)
	prog := &unix.SockFprog{Len: uint16(len(s.Filter)), Filter: &s.Filter[0]}
	// A domain of its own below the thread's: else the command could signal the
	// thread, and through it end the supervisor.
	own, err := layers.ruleset(s.Files)
	if err != nil {
		return nil, &Error{"landlock", ExitFailure, err}
	}
	defer unix.Close(own)
	limit := new(unix.Rlimit)
	*limit = originalNoFile
	var dir *byte
	p := plan{steps: make([]step, 0, usualSteps), names: make([]string, 0, usualSteps)}

	if limit.Max != 0 {
		p.add("file limit", unix.SYS_PRLIMIT64, 0, unix.RLIMIT_NOFILE, uintptr(unsafe.Pointer(limit)))
	}
	if s.Dir != "" {
		if dir, err = unix.BytePtrFromString(s.Dir); err != nil {
			return nil, &Error{"chdir " + s.Dir, ExitFailure, err}
		}
		p.add("chdir "+s.Dir, unix.SYS_CHDIR, uintptr(unsafe.Pointer(dir)))
	}
	capHeader, capData, err := p.capabilities()
	if err != nil {
		return nil, err
	}
	// After the capabilities: a change of credentials may clear it (prctl(2)).
	p.add("parent death signal", unix.SYS_PRCTL, unix.PR_SET_PDEATHSIG, uintptr(unix.SIGKILL))
	parent := p.add("parent", unix.SYS_GETPPID)
	parent.mode, parent.arg = exact, uintptr(unix.Getpid())
	mask, dfl := new(sigset), new(sigaction)
	for n := 1; n <= lastSignal; n++ {
		if handled(n) {
			p.add("signals", unix.SYS_RT_SIGACTION, uintptr(n), uintptr(unsafe.Pointer(dfl)), 0, sigsetSize)
		}
	}
	p.add("signals", unix.SYS_RT_SIGPROCMASK, unix.SIG_SETMASK, uintptr(unsafe.Pointer(mask)), 0, sigsetSize)
	bounds := p.bound(s.Limits)
	p.add("landlock", unix.SYS_LANDLOCK_RESTRICT_SELF, uintptr(own), 0)
	listener := new(int64)
	*listener = -1
	p.add("seccomp filter", unix.SYS_SECCOMP, sys.SetModeFilter, uintptr(s.FilterFlags), uintptr(unsafe.Pointer(prog))).out = uintptr(unsafe.Pointer(listener))
	var wake *waker
	if s.OnListener != nil {
		if wake, err = newWaker(); err != nil {
			return nil, &Error{"eventfd", ExitFailure, err}
		}
		p.add("wake", unix.SYS_WRITE, uintptr(wake.fd), uintptr(unsafe.Pointer(&wake.one)), 8)
		go wake.wait(listener, s.OnListener)
	}
	p.add("unshare descriptors", unix.SYS_CLOSE_RANGE, ^uintptr(0)>>32, ^uintptr(0)>>32, unix.CLOSE_RANGE_UNSHARE)
	p.descriptors(s)
	if s.Limits.OpenFiles > 0 {
		p.add("open files", unix.SYS_PRLIMIT64, 0, unix.RLIMIT_NOFILE, uintptr(unsafe.Pointer(&bounds.files)))
	}
	exec := "exec " + s.Path
	p.add(exec, unix.SYS_EXECVE, uintptr(unsafe.Pointer(path)), uintptr(unsafe.Pointer(&argv[0])), uintptr(unsafe.Pointer(&env[0])))
	// As execvp(3) does with a script that lacks "#!".
	first := &p.steps[len(p.steps)-1]
	first.mode, first.arg = except, uintptr(syscall.ENOEXEC)
	p.add(exec, unix.SYS_EXECVE, uintptr(unsafe.Pointer(shell)), uintptr(unsafe.Pointer(&script[0])), uintptr(unsafe.Pointer(&env[0])))

	failed := new(failure)
	pidfd := new(int32)
	*mask = blockSignals()
	pid, errno := clone(unix.CLONE_VM|unix.CLONE_VFORK|unix.CLONE_FILES|unix.CLONE_PIDFD|uintptr(unix.SIGCHLD),
		uintptr(unsafe.Pointer(pidfd)), &p.steps[0], failed)
	setSignals(*mask)
	runtime.KeepAlive([]any{path, argv, env, shell, script, prog, s.Filter, dir, limit, p.steps, mask, dfl, capHeader, capData, listener, wake, bounds})
	if wake != nil {
		wake.end()
	}
	if errno != 0 {
		return nil, &Error{"clone", ExitFailure, errno}
	}
	if failed.step != 0 {
		reap(pid)
		unix.Close(int(*pidfd))
		if *listener >= 0 && wake == nil {
			unix.Close(int(*listener))
		}
		return nil, stepError(p.name(failed), exec, syscall.Errno(failed.errno))
	}
	return &Process{PID: pid, PIDFD: int(*pidfd), Listener: int(*listener)}, nil
}

func stepError(step, exec string, e syscall.Errno) error {
	code := ExitFailure
	var err error = e
	switch {
	case step == exec && (e == syscall.ENOENT || e == syscall.ENOTDIR):
		code = ExitNotFound
	case step == exec:
		code = ExitNotExecutable
	case step == "seccomp filter" && e == syscall.EBUSY:
		err = fmt.Errorf("%w: an outer sandbox already has a seccomp listener; only one can exist", e)
	}
	return &Error{step, code, err}
}

// descriptors adds the steps that leave exactly 0 to 2 and the passed ones open.
func (p *plan) descriptors(s Spec) {
	for i, fd := range s.Stdio {
		switch flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0); {
		case fd != i:
			p.add("standard descriptors", unix.SYS_DUP3, uintptr(fd), uintptr(i), 0)
		case err == nil && flags&unix.FD_CLOEXEC != 0:
			p.add("standard descriptors", unix.SYS_FCNTL, uintptr(fd), unix.F_SETFD, 0)
		}
	}
	keep := slices.Clone(s.PassFDs)
	slices.Sort(keep)
	first := 3
	for _, fd := range keep {
		if fd < first {
			continue
		}
		if fd > first {
			p.add("close descriptors", unix.SYS_CLOSE_RANGE, uintptr(first), uintptr(fd-1), 0)
		}
		p.add("pass descriptor", unix.SYS_FCNTL, uintptr(fd), unix.F_SETFD, 0)
		first = fd + 1
	}
	p.add("close descriptors", unix.SYS_CLOSE_RANGE, uintptr(first), ^uintptr(0)>>32, 0)
}
