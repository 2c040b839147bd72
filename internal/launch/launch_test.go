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

// confined runs a shell script under a filter whose table is given and returns
// its wait status.
func confined(t *testing.T, table *dispatch.Table, script string, pass ...int) unix.WaitStatus {
	t.Helper()
	return confinedWith(t, table, script, func(err error) { t.Error(err) }, pass...)
}

func confinedWith(t *testing.T, table *dispatch.Table, script string, fault func(error), pass ...int) unix.WaitStatus {
	t.Helper()
	thread := launch.NewThread(launch.KernelABI())
	defer thread.Close()
	filter, err := table.Program()
	if err != nil {
		t.Fatal(err)
	}
	p, err := launch.Start(thread, launch.Spec{
		Path: "/bin/sh", Argv: []string{"sh", "-c", script}, Env: os.Environ(), Filter: filter,
		FilterFlags: sys.FilterFlagNewListener | sys.FilterFlagWaitKill, Stdio: [3]int{0, 1, 2}, PassFDs: pass,
	})
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(p.PIDFD)
	loop := table.NewLoop(p.Listener, fault)
	loop.Start()
	var ws unix.WaitStatus
	if _, err := unix.Wait4(p.PID, &ws, 0, nil); err != nil {
		t.Fatal(err)
	}
	loop.Close()
	return ws
}

func TestAnswersReachTheCommand(t *testing.T) {
	table := &dispatch.Table{}
	var asked atomic.Int64
	table.Builtin(dispatch.Registration{Name: "mkdir", Syscalls: []int{unix.SYS_MKDIRAT, sysMkdir}, Handler: dispatch.HandlerFunc(
		func(c *dispatch.Call) dispatch.Action { asked.Add(1); return dispatch.Errno(unix.EROFS) })})
	dir := t.TempDir() + "/d"
	if ws := confined(t, table, "mkdir "+dir+" 2>/dev/null"); ws.ExitStatus() == 0 {
		t.Fatalf("mkdir succeeded: %v", ws)
	}
	if _, err := os.Stat(dir); err == nil || asked.Load() == 0 {
		t.Fatalf("directory made: %v; handler asked %d times", err == nil, asked.Load())
	}
	if ws := confined(t, table, "exit 7"); ws.ExitStatus() != 7 {
		t.Fatalf("exit 7 became %v", ws)
	}
}

func TestAPanicDeniesOneCall(t *testing.T) {
	table := &dispatch.Table{}
	table.Builtin(dispatch.Registration{Name: "panics", Syscalls: []int{unix.SYS_MKDIRAT, sysMkdir}, Handler: dispatch.HandlerFunc(
		func(c *dispatch.Call) dispatch.Action { panic("on purpose") })})
	var faults atomic.Int64
	ws := confinedWith(t, table, "mkdir "+t.TempDir()+"/d 2>/dev/null; exit 3", func(error) { faults.Add(1) })
	if ws.ExitStatus() != 3 || faults.Load() == 0 {
		t.Fatalf("%v after %d faults", ws, faults.Load())
	}
}

func TestOnlyPassedDescriptorsStayOpen(t *testing.T) {
	f, err := os.Open("/dev/null")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	leak, err := unix.Dup(int(f.Fd()))
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(leak)
	table := &dispatch.Table{}
	script := fmt.Sprintf("[ ! -e /proc/$$/fd/%d ] && [ -e /proc/$$/fd/1 ]", leak)
	if ws := confined(t, table, script); ws.ExitStatus() != 0 {
		t.Fatal("a descriptor leaked")
	}
	if ws := confined(t, table, script, leak); ws.ExitStatus() == 0 {
		t.Fatal("the passed descriptor is closed")
	}
}

func TestAFailedStepStartsNothing(t *testing.T) {
	thread := launch.NewThread(launch.KernelABI())
	defer thread.Close()
	filter, _ := (&dispatch.Table{}).Program()
	for _, c := range []struct {
		path, dir string
		code      int
	}{{"/nonexistent", "", launch.ExitNotFound}, {"/etc/passwd", "", launch.ExitNotExecutable}, {"/bin/true", "/nonexistent", launch.ExitFailure}} {
		_, err := launch.Start(thread, launch.Spec{Path: c.path, Argv: []string{c.path}, Dir: c.dir, Filter: filter,
			FilterFlags: sys.FilterFlagNewListener, Stdio: [3]int{0, 1, 2}})
		var le *launch.Error
		if !errors.As(err, &le) || le.Code != c.code {
			t.Errorf("%s in %q: %v, want code %d", c.path, c.dir, err, c.code)
		}
	}
}

func TestEmptyNamespaceKeepsDatagramsInside(t *testing.T) {
	if err := launch.UserNamespaces(); err != nil {
		t.Skip("needs user namespaces:", err)
	}
	thread := launch.NewThread(launch.KernelABI())
	defer thread.Close()
	h, err := launch.NewNetHelper(thread, true)
	if err != nil {
		t.Fatal(err)
	}
	defer h.Close()
	server, err := h.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(server)
	if err := unix.Bind(server, &unix.SockaddrInet4{Port: 53}); err != nil {
		t.Fatal(err)
	}
	client, err := h.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(client)
	// Every address is local in the namespace: nothing leaves it.
	if err := unix.Sendto(client, []byte("nonce"), 0, &unix.SockaddrInet4{Port: 53, Addr: [4]byte{192, 0, 2, 1}}); err != nil {
		t.Fatal(err)
	}
	buf := make([]byte, 16)
	n, _, err := unix.Recvfrom(server, buf, 0)
	if err != nil || string(buf[:n]) != "nonce" {
		t.Fatalf("%q, %v", buf[:n], err)
	}
}
