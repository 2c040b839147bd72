// Package signals keeps signals inside the sandbox where Landlock has no scope for
// them (before Linux 6.12): the calls that send one are trapped, and what goes to
// another process of the sandbox is sent by the supervisor.
package signals

import (
	"bytes"
	"context"
	"encoding/binary"
	"os"
	"strconv"

	"github.com/sandlock/sandlock/dispatch"
	"github.com/sandlock/sandlock/internal/sys"
	"golang.org/x/sys/unix"
)

// Sandbox knows the processes of a sandbox.
type Sandbox interface {
	Contains(pid int) bool
	Members() ([]int, error)
}

// Register puts the handlers into the table. It also denies the calls that let
// the kernel send a signal to a process of choice later, on input.
func Register(t *dispatch.Table, s Sandbox) {
	for _, cmd := range []uint32{unix.F_SETOWN, unix.F_SETOWN_EX} {
		t.Deny(dispatch.Denial{Syscall: unix.SYS_FCNTL, Guard: dispatch.When(dispatch.Eq(1, cmd)), Errno: unix.EPERM})
	}
	const fioSetOwn, siocSPGRP = 0x8901, 0x8902 // asm-generic/sockios.h
	for _, cmd := range []uint32{fioSetOwn, siocSPGRP} {
		t.Deny(dispatch.Denial{Syscall: unix.SYS_IOCTL, Guard: dispatch.When(dispatch.Eq(1, cmd)), Errno: unix.EPERM})
	}
	h := handlers{s}
	for _, r := range []struct {
		nr int
		f  dispatch.HandlerFunc
	}{
		{unix.SYS_KILL, h.kill}, {unix.SYS_TKILL, h.tkill}, {unix.SYS_TGKILL, h.tgkill}, {unix.SYS_RT_SIGQUEUEINFO, h.queue},
		{unix.SYS_RT_TGSIGQUEUEINFO, h.queueThread}, {unix.SYS_PIDFD_SEND_SIGNAL, h.pidfd},
	} {
		t.Builtin(dispatch.Registration{Name: "signals", Syscalls: []int{r.nr}, Handler: r.f})
	}
}

type handlers struct{ Sandbox }

// target is a thread that a signal is for. tid 0 is any thread of the process.
type target struct{ tgid, tid int }

// send answers a call that sends sig to one process. Within the caller's own
// process the kernel does it: the registers name nothing but the caller itself,
// whose number cannot pass to another.
func (h handlers) send(c *dispatch.Call, to target, sig unix.Signal, info []byte) dispatch.Action {
	if dispatch.TGID(c.PID()) == to.tgid {
		return dispatch.Continue()
	}
	return dispatch.Result(0, h.deliver(c, to, sig, info))
}

// deliver holds the process by a descriptor while it is judged and signalled.
func (h handlers) deliver(c *dispatch.Call, to target, sig unix.Signal, info []byte) error {
	p, err := sys.PidfdOpen(to.tgid, 0)
	if err != nil {
		return unix.ESRCH
	}
	defer unix.Close(p)
	if !h.Contains(to.tgid) || !mayKill(c.PID(), to.tgid) {
		return unix.EPERM
	}
	if to.tid != 0 && to.tid != to.tgid {
		// The kernel checks that the thread belongs to the process. A payload is
		// lost: it can only be given to the process.
		return unix.Tgkill(to.tgid, to.tid, sig)
	}
	return sys.PidfdSignal(p, sig, info)
}

func (h handlers) kill(c *dispatch.Call) dispatch.Action {
	pid, sig := c.Int(0), unix.Signal(c.Int(1))
	if pid > 0 {
		return h.send(c, target{tgid: dispatch.TGID(pid)}, sig, nil)
	}
	return dispatch.Defer(func(context.Context) dispatch.Action { return h.killGroup(c, pid, sig) })
}

// killGroup serves kill(2) for a process group, or for everybody with -1.
func (h handlers) killGroup(c *dispatch.Call, pid int, sig unix.Signal) dispatch.Action {
	self := dispatch.TGID(c.PID())
	group := -pid
	if pid == 0 {
		group, _ = unix.Getpgid(self)
	}
	members, err := h.Members()
	if err != nil {
		return dispatch.Fail(err)
	}
	answer := error(unix.ESRCH)
	for _, m := range members {
		if pid == -1 && m == self {
			continue
		}
		if g, err := unix.Getpgid(m); pid != -1 && (err != nil || g != group) {
			continue
		}
		if err := h.deliver(c, target{tgid: m}, sig, nil); answer != nil {
			answer = err
		}
	}
	return dispatch.Result(0, answer)
}

func (h handlers) tkill(c *dispatch.Call) dispatch.Action {
	return h.send(c, target{dispatch.TGID(c.Int(0)), c.Int(0)}, unix.Signal(c.Int(1)), nil)
}

func (h handlers) tgkill(c *dispatch.Call) dispatch.Action {
	return h.send(c, target{c.Int(0), c.Int(1)}, unix.Signal(c.Int(2)), nil)
}

func (h handlers) queue(c *dispatch.Call) dispatch.Action {
	to := target{tgid: dispatch.TGID(c.Int(0))}
	return h.withInfo(c, to, c.Int(1), c.Arg(2))
}

func (h handlers) queueThread(c *dispatch.Call) dispatch.Action {
	return h.withInfo(c, target{c.Int(0), c.Int(1)}, c.Int(2), c.Arg(3))
}

// pidfd serves pidfd_send_signal(2): the process is the one that the caller's
// descriptor names when it is looked at, and no other is signalled.
func (h handlers) pidfd(c *dispatch.Call) dispatch.Action {
	text, err := os.ReadFile("/proc/" + strconv.Itoa(c.PID()) + "/fdinfo/" + strconv.Itoa(c.Int(0)))
	if err != nil {
		return dispatch.Errno(unix.EBADF)
	}
	if c.Int(3) != 0 {
		return dispatch.Errno(unix.EINVAL)
	}
	_, rest, found := bytes.Cut(text, []byte("\nPid:"))
	line, _, _ := bytes.Cut(rest, []byte("\n"))
	pid, err := strconv.Atoi(string(bytes.TrimSpace(line)))
	switch {
	case !found || err != nil:
		return dispatch.Errno(unix.EBADF)
	case pid <= 0:
		return dispatch.Errno(unix.ESRCH)
	}
	to := target{tgid: dispatch.TGID(pid)}
	if to.tgid == dispatch.TGID(c.PID()) {
		// Not Continue: the descriptor may mean another process by then.
		return dispatch.Result(0, h.deliver(c, to, unix.Signal(c.Int(1)), nil))
	}
	return h.withInfo(c, to, c.Int(1), c.Arg(2))
}

// withInfo is send with the caller's siginfo_t at addr, if there is one.
func (h handlers) withInfo(c *dispatch.Call, to target, sig int, addr uint64) dispatch.Action {
	if addr == 0 || dispatch.TGID(c.PID()) == to.tgid {
		return h.send(c, to, unix.Signal(sig), nil)
	}
	info := make([]byte, sys.SiginfoSize)
	if err := c.Read(addr, info); err != nil {
		return dispatch.Fail(err)
	}
	binary.NativeEndian.PutUint32(info, uint32(sig)) // si_signo, as rt_sigqueueinfo(2) sets it
	return h.send(c, to, unix.Signal(sig), info)
}
