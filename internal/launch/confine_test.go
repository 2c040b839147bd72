package launch_test

import (
	"errors"
	"fmt"
	"os"
	"sync/atomic"
	"testing"

	"github.com/sandlock/sandlock/dispatch"
	"github.com/sandlock/sandlock/internal/launch"
	"github.com/sandlock/sandlock/internal/sys"
	"golang.org/x/sys/unix"
)

func newThread(t *testing.T) *launch.Thread {
	t.Helper()
	thread := launch.NewThread(launch.KernelABI())
	t.Cleanup(thread.Close)
	return thread
}

func script(t *testing.T, table *dispatch.Table, text string) launch.Spec {
	t.Helper()
	filter, err := table.Program()
	if err != nil {
		t.Fatal(err)
	}
	return launch.Spec{Path: "/bin/sh", Argv: []string{"sh", "-c", text}, Env: os.Environ(), Filter: filter,
		FilterFlags: sys.FilterFlagNewListener | sys.FilterFlagWaitKill, Stdio: [3]int{0, 1, 2}}
}

func openDescriptors(t *testing.T) int {
	t.Helper()
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(entries)
}

func exitCode(t *testing.T, p *launch.Process) int {
	t.Helper()
	var ws unix.WaitStatus
	if _, err := unix.Wait4(p.PID, &ws, 0, nil); err != nil {
		t.Fatal(err)
	}
	unix.Close(p.PIDFD)
	return ws.ExitStatus()
}

func TestATrappedExecIsServedDuringTheStart(t *testing.T) {
	table := &dispatch.Table{}
	var asked atomic.Int32
	table.Builtin(dispatch.Registration{Name: "exec", Syscalls: []int{unix.SYS_EXECVE}, Handler: dispatch.HandlerFunc(
		func(c *dispatch.Call) dispatch.Action { asked.Add(1); return dispatch.Continue() })})
	loops := make(chan *dispatch.Loop, 1)
	s := script(t, table, "exit 4")
	s.OnListener = func(listener int) {
		loop := table.NewLoop(listener, func(err error) { t.Error(err) })
		loop.Start()
		loops <- loop
	}
	p, err := launch.Start(newThread(t), s)
	if err != nil {
		t.Fatal(err)
	}
	code := exitCode(t, p)
	(<-loops).Close()
	if code != 4 || asked.Load() == 0 {
		t.Fatalf("exit code %d, handler asked %d times", code, asked.Load())
	}
}

func TestStartsAndFailedStartsLeakNoDescriptor(t *testing.T) {
	thread := newThread(t)
	openDescriptors(t) // opens what the runtime keeps for itself
	before := openDescriptors(t)
	good, bad := script(t, &dispatch.Table{}, "exit 0"), script(t, &dispatch.Table{}, "")
	bad.Path = "/nonexistent"
	for range 100 {
		p, err := launch.Start(thread, good)
		if err != nil {
			t.Fatal(err)
		}
		exitCode(t, p)
		unix.Close(p.Listener)
		if _, err := launch.Start(thread, bad); err == nil {
			t.Fatal("a missing file was started")
		}
		h, err := launch.NewNetHelper(thread, true)
		if err == nil {
			h.Close()
		}
	}
	if after := openDescriptors(t); after > before { // fewer: what an earlier test left was collected
		t.Fatalf("%d descriptors before, %d after", before, after)
	}
}

func TestNetHelperOutlivesTheTerminalsKeysAndReportsItsDeath(t *testing.T) {
	h, err := launch.NewNetHelper(newThread(t), true)
	if err != nil {
		t.Skip("needs user namespaces:", err)
	}
	defer h.Close()
	for _, sig := range []unix.Signal{unix.SIGINT, unix.SIGQUIT, unix.SIGTSTP, unix.SIGTERM, unix.SIGHUP} {
		if err := unix.Kill(h.PID(), sig); err != nil {
			t.Fatal(err)
		}
		fd, err := h.Socket(unix.AF_INET, unix.SOCK_DGRAM, 0)
		if err != nil {
			t.Fatalf("after %v: %v", sig, err)
		}
		unix.Close(fd)
	}
	unix.Kill(h.PID(), unix.SIGKILL)
	if err := unix.Waitid(unix.P_PID, h.PID(), nil, unix.WEXITED|unix.WNOWAIT|unix.WALL, nil); err != nil {
		t.Fatal(err)
	}
	if _, err := h.Socket(unix.AF_INET, unix.SOCK_DGRAM, 0); err == nil {
		t.Fatal("a dead helper made a socket")
	}
}

func TestSocketsAreNoStandardDescriptors(t *testing.T) {
	udp, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(udp)
	stream, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(stream[0])
	defer unix.Close(stream[1])
	thread := newThread(t)
	for _, c := range []struct {
		name   string
		fd     int
		pass   []int
		starts bool
	}{{"udp", udp, nil, false}, {"udp, passed", udp, []int{1}, true}, {"unix stream", stream[0], nil, true}} {
		s := script(t, &dispatch.Table{}, "[ -e /proc/$$/fd/2 ]") // what is passed below 3 takes no other away
		s.Stdio[1], s.PassFDs = c.fd, c.pass
		p, err := launch.Start(thread, s)
		var le *launch.Error
		switch {
		case c.starts && err != nil:
			t.Errorf("%s: %v", c.name, err)
		case !c.starts && (!errors.As(err, &le) || le.Code != launch.ExitFailure):
			t.Errorf("%s: %v", c.name, err)
		}
		if err == nil {
			if code := exitCode(t, p); code != 0 {
				t.Errorf("%s: exit code %d", c.name, code)
			}
			unix.Close(p.Listener)
		}
	}
}

// An exec by root gains the inheritable set, whatever the bounding set says.
func TestInheritableCapabilitiesEnd(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs capabilities")
	}
	thread := newThread(t)
	err := thread.Do(func() error {
		header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
		var data [2]unix.CapUserData
		if err := unix.Capget(&header, &data[0]); err != nil {
			return err
		}
		if data[0].Permitted&(1<<unix.CAP_SYS_ADMIN) == 0 {
			return fmt.Errorf("CAP_SYS_ADMIN is missing")
		}
		data[0].Inheritable |= 1 << unix.CAP_SYS_ADMIN
		return unix.Capset(&header, &data[0])
	})
	if err != nil {
		t.Skip(err)
	}
	// CAP_SYS_ADMIN is bit 21: digit 6 from the right, value 2.
	p, err := launch.Start(thread, script(t, &dispatch.Table{}, `while read -r k v; do case $k:$v in
		CapInh::*[!0]*) exit 1;; CapPrm::*[2367abefABEF]?????) exit 2;; esac; done < /proc/$$/status`))
	if err != nil {
		t.Fatal(err)
	}
	if code := exitCode(t, p); code != 0 {
		t.Fatalf("exit code %d", code)
	}
	unix.Close(p.Listener)
}
