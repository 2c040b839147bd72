package launch

import (
	"fmt"
	"os"
	"runtime"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// CompanionFD is the number under which a companion finds its descriptor.
const CompanionFD = 3

// Companion is a process of sandlock's own beside the command. It is an ordinary
// child: whoever waits for any child reaps it. The caller owns PIDFD.
type Companion struct{ PID, PIDFD int }

// StartCompanion executes a program of sandlock's own from thread t, whose end it
// does not survive. It gets fd, which stays the caller's, as CompanionFD and no
// other descriptor; 0 to 2 are /dev/null. It is in the domain of t, out of reach of
// the terminal's keys, and leaves no core dump. It blocks until the exec.
func StartCompanion(t *Thread, path string, argv, env []string, fd int) (*Companion, error) {
	null, err := unix.Open("/dev/null", unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("/dev/null: %w", err)
	}
	defer unix.Close(null)
	var c *Companion
	err = t.Do(func() (err error) {
		c, err = startCompanion(path, argv, env, null, fd)
		return err
	})
	return c, err
}

func startCompanion(path string, argv, env []string, null, fd int) (*Companion, error) {
	file, err := unix.BytePtrFromString(path)
	if err != nil {
		return nil, err
	}
	args, err := syscall.SlicePtrFromStrings(argv)
	if err != nil {
		return nil, err
	}
	vars, err := syscall.SlicePtrFromStrings(env)
	if err != nil {
		return nil, err
	}
	var p plan
	noCore := new(unix.Rlimit)
	p.add("core limit", unix.SYS_PRLIMIT64, 0, unix.RLIMIT_CORE, uintptr(unsafe.Pointer(noCore)))
	p.add("process group", unix.SYS_SETPGID, 0, 0)
	p.add("parent death signal", unix.SYS_PRCTL, unix.PR_SET_PDEATHSIG, uintptr(unix.SIGKILL))
	parent := p.add("parent", unix.SYS_GETPPID)
	parent.mode, parent.arg = exact, uintptr(os.Getpid())
	mask, dfl := new(sigset), new(sigaction)
	for n := 1; n <= lastSignal; n++ {
		if handled(n) {
			p.add("signals", unix.SYS_RT_SIGACTION, uintptr(n), uintptr(unsafe.Pointer(dfl)), 0, sigsetSize)
		}
	}
	p.add("signals", unix.SYS_RT_SIGPROCMASK, unix.SIG_SETMASK, uintptr(unsafe.Pointer(mask)), 0, sigsetSize)
	for i := range 3 {
		if null != i {
			p.add("standard descriptors", unix.SYS_DUP3, uintptr(null), uintptr(i), 0)
		}
	}
	if fd == CompanionFD {
		p.add("descriptor", unix.SYS_FCNTL, uintptr(fd), unix.F_SETFD, 0)
	} else {
		p.add("descriptor", unix.SYS_DUP3, uintptr(fd), CompanionFD, 0)
	}
	p.add("close descriptors", unix.SYS_CLOSE_RANGE, CompanionFD+1, ^uintptr(0)>>32, 0)
	p.add("exec", unix.SYS_EXECVE, uintptr(unsafe.Pointer(file)), uintptr(unsafe.Pointer(&args[0])), uintptr(unsafe.Pointer(&vars[0])))

	failed, pidfd := new(failure), new(int32)
	*mask = blockSignals()
	pid, errno := clone(unix.CLONE_VM|unix.CLONE_VFORK|unix.CLONE_PIDFD|uintptr(unix.SIGCHLD),
		uintptr(unsafe.Pointer(pidfd)), &p.steps[0], failed)
	setSignals(*mask)
	runtime.KeepAlive([]any{file, args, vars, p.steps, mask, dfl, noCore})
	if errno != 0 {
		return nil, fmt.Errorf("clone: %w", errno)
	}
	if failed.step != 0 {
		reap(pid)
		unix.Close(int(*pidfd))
		return nil, fmt.Errorf("%s %s: %w", p.name(failed), path, syscall.Errno(failed.errno))
	}
	return &Companion{PID: pid, PIDFD: int(*pidfd)}, nil
}

// Alive tells whether the process has not ended yet.
func (c *Companion) Alive() bool {
	poll := []unix.PollFd{{Fd: int32(c.PIDFD), Events: unix.POLLIN}}
	n, err := unix.Poll(poll, 0)
	return err == nil && n == 0
}

// Close ends and reaps the process, if nobody else did, and gives up its
// descriptor.
func (c *Companion) Close() {
	unix.PidfdSendSignal(c.PIDFD, unix.SIGKILL, nil, 0)
	for unix.Waitid(unix.P_PIDFD, c.PIDFD, nil, unix.WEXITED, nil) == unix.EINTR {
	}
	unix.Close(c.PIDFD)
}
