package sandbox

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// The test program itself, run with these variables, is the first process of a
// PID namespace, where no signal that gets out of a sandbox can do harm; below it
// one that is sandlock's own and runs its arguments under an older Landlock.
const (
	envInit = "SANDBOX_TEST_INIT"
	envABI  = "SANDBOX_TEST_ABI"
	envPID  = "SANDBOX_TEST_OUTSIDER"
)

func TestMain(m *testing.M) {
	switch {
	case os.Getenv(envInit) != "":
		os.Exit(namespaceInit())
	case os.Getenv(envABI) != "":
		os.Exit(ownProcess())
	}
	os.Exit(m.Run())
}

// namespaceInit starts an outsider and the sandbox, and tells what became of the
// outsider.
func namespaceInit() int {
	os.Unsetenv(envInit)
	if err := syscall.Mount("none", "/", "", syscall.MS_REC|syscall.MS_PRIVATE, ""); err != nil {
		fmt.Println("mount:", err)
	}
	if err := syscall.Mount("proc", "/proc", "proc", 0, ""); err != nil {
		fmt.Println("proc:", err)
	}
	outsider := exec.Command("sleep", "1000")
	outsider.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := outsider.Start(); err != nil {
		fmt.Println(err)
		return 1
	}
	c := exec.Command("/proc/self/exe", os.Args[1:]...)
	c.Env = append(os.Environ(), envPID+"="+strconv.Itoa(outsider.Process.Pid))
	c.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	c.Stdout, c.Stderr = os.Stdout, os.Stderr
	err := c.Run()
	fmt.Printf("outsider %c\n", state(outsider.Process.Pid))
	left, _ := filepath.Glob("/proc/[0-9]*")
	fmt.Println("processes", len(left))
	if err != nil {
		fmt.Println(err)
		return 1
	}
	return 0
}

func ownProcess() int {
	abi, err := strconv.Atoi(os.Getenv(envABI))
	os.Unsetenv(envABI)
	var c *Compiled
	if err == nil {
		c, err = (&Policy{Command: os.Args[1:]}).Compile()
	}
	code := 0
	if err == nil {
		code, err = Run(context.Background(), c, Options{Stdin: os.Stdin, Stdout: os.Stdout, Stderr: os.Stderr, OwnProcess: true, abi: abi})
	}
	if err != nil {
		fmt.Println(err)
	}
	return code
}

// underABI runs a command under a Landlock ABI and returns what it says, and then
// what is left in its namespace: the first process and the outsider.
func underABI(t *testing.T, abi int, args ...string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	c := exec.CommandContext(ctx, "/proc/self/exe", args...)
	c.WaitDelay = time.Second
	c.Env = append(os.Environ(), envInit+"=1", envABI+"="+strconv.Itoa(abi))
	c.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWPID | syscall.CLONE_NEWNS, Pdeathsig: syscall.SIGKILL}
	if os.Geteuid() != 0 {
		c.SysProcAttr.Cloneflags |= syscall.CLONE_NEWUSER
		c.SysProcAttr.UidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getuid(), Size: 1}}
		c.SysProcAttr.GidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getgid(), Size: 1}}
	}
	out, err := c.CombinedOutput()
	if err != nil {
		t.Errorf("ABI %d: %v", abi, err)
	}
	text, ok := strings.CutSuffix(string(out), "outsider S\nprocesses 2\n")
	if !ok {
		t.Errorf("ABI %d: the outsider or the end: %s", abi, out)
	}
	return text
}

// signalsScript tries every way to signal a process outside, and then its own.
const signalsScript = `
import ctypes, errno, fcntl, os, signal, socket, struct, sys, time
signal.alarm(20)
libc = ctypes.CDLL(None, use_errno=True)
outside = int(os.environ["SANDBOX_TEST_OUTSIDER"])
NR = dict(zip(["tkill", "tgkill", "rt_sigqueueinfo", "rt_tgsigqueueinfo", "pidfd_send_signal", "pidfd_open"],
    [200, 234, 129, 297, 424, 434] if os.uname().machine == "x86_64" else [130, 131, 138, 240, 424, 434]))
def call(name, *args):
    r = libc.syscall(NR[name], *args)
    return ctypes.get_errno() if r < 0 else 0
def kill(pid, sig):
    try: os.kill(pid, sig); return 0
    except OSError as e: return e.errno
info = ctypes.create_string_buffer(struct.pack("iii", 0, 0, -1) + bytes(116))
def report(what, got, want):
    print(what, "ok" if got in want else "WRONG: errno %s" % errno.errorcode.get(got, got), flush=True)
denied = (errno.EPERM,)
supervisor = os.getppid()
for name, pid in (("outsider", outside), ("supervisor", supervisor)):
    report("kill " + name, kill(pid, signal.SIGCONT), denied)
    report("tkill " + name, call("tkill", pid, signal.SIGCONT), denied)
    report("tgkill " + name, call("tgkill", pid, pid, signal.SIGCONT), denied)
    report("sigqueue " + name, call("rt_sigqueueinfo", pid, signal.SIGCONT, info), denied)
    report("tgsigqueue " + name, call("rt_tgsigqueueinfo", pid, pid, signal.SIGCONT, info), denied)
    fd = libc.syscall(NR["pidfd_open"], pid, 0)
    report("pidfd " + name, call("pidfd_send_signal", fd, signal.SIGCONT, 0, 0), denied)
    report("group of " + name, kill(-os.getpgid(pid), 0) if os.getpgid(pid) != os.getpgid(0) else errno.EPERM, denied + (errno.ESRCH,))
a, b = socket.socketpair()
try:
    # With a scope the signal is dropped when it is due; without, the call is refused.
    fcntl.fcntl(a, 10, signal.SIGTERM); fcntl.fcntl(a, fcntl.F_SETOWN, outside)
    fcntl.fcntl(a, fcntl.F_SETFL, fcntl.fcntl(a, fcntl.F_GETFL) | os.O_ASYNC)
    b.send(b"x")
except OSError as e: report("F_SETOWN", e.errno, denied)
a.close(); b.close()
# Its own processes get what is sent.
def child(how):
    r, w = os.pipe()
    pid = os.fork()
    if pid == 0:
        signal.alarm(20)
        # Blocked and waited for: a handler could be due just before a pause(2).
        signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1]); os.setpgid(0, 0); os.write(w, b"up ")
        signal.sigwait([signal.SIGUSR1]); os.write(w, b"got"); os._exit(0)
    os.read(r, 3)
    report("own child by " + how.__name__, how(pid), (0,))
    os.close(w)
    print("delivered" if os.read(r, 3) == b"got" else "LOST", os.waitpid(pid, 0)[1], flush=True)
    os.close(r)
def by_kill(p): return kill(p, signal.SIGUSR1)
def by_group(p): return kill(-p, signal.SIGUSR1)
def by_tkill(p): return call("tkill", p, signal.SIGUSR1)
def by_tgkill(p): return call("tgkill", p, p, signal.SIGUSR1)
def by_queue(p): return call("rt_sigqueueinfo", p, signal.SIGUSR1, info)
def by_pidfd(p): return call("pidfd_send_signal", libc.syscall(NR["pidfd_open"], p, 0), signal.SIGUSR1, 0, 0)
for how in by_kill, by_group, by_tkill, by_tgkill, by_queue, by_pidfd: child(how)
report("nobody", kill(2**22 - 3, 0), (errno.ESRCH,))
seen = []
signal.signal(signal.SIGUSR2, lambda *a: seen.append(1))
kill(os.getpid(), signal.SIGUSR2); signal.raise_signal(signal.SIGUSR2); kill(0, signal.SIGUSR2)
print("self", len(seen), flush=True)
# To everybody, with a signal that is ignored by default.
r, w = os.pipe()
pid = os.fork()
if pid == 0:
    signal.alarm(20)
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGURG])
    os.write(w, b"up")
    signal.sigwait([signal.SIGURG]); os._exit(9)
os.read(r, 2)
report("everybody", kill(-1, signal.SIGURG), (0,))
print("child of everybody", os.waitpid(pid, 0)[1] >> 8, flush=True)
`

func TestSignalsStayInside(t *testing.T) {
	for _, abi := range []int{7, 5, 3} {
		out := underABI(t, abi, "setsid", "--wait", "python3", "-c", signalsScript)
		if strings.Contains(out, "WRONG") || strings.Contains(out, "LOST") || strings.Count(out, "delivered 0") != 6 ||
			!strings.Contains(out, "self 3") || !strings.HasSuffix(out, "child of everybody 9\n") {
			t.Errorf("ABI %d: %s", abi, out)
		}
	}
}

func TestAbstractSocketsStayInside(t *testing.T) {
	name := fmt.Sprintf("@sandbox-test-%d", os.Getpid())
	l, err := net.Listen("unix", name)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	script := `
import socket, sys
def connect(name):
    try: socket.socket(socket.AF_UNIX).connect("\0" + name); return "connected"
    except OSError as e: return e.strerror
print("outside:", connect(sys.argv[1][1:]))
own = socket.socket(socket.AF_UNIX); own.bind("\0own" + sys.argv[1]); own.listen()
print("own:", connect("own" + sys.argv[1]))
print("nobody:", connect("none" + sys.argv[1]))`
	for _, abi := range []int{7, 5, 3} {
		out := underABI(t, abi, "python3", "-c", script, name)
		for _, want := range []string{"outside: Operation not permitted\n", "own: connected\n", "nobody: Connection refused\n"} {
			if !strings.Contains(out, want) {
				t.Errorf("ABI %d: no %q in %q", abi, want, out)
			}
		}
	}
}

// What the command leaves behind ends with it, in whatever session: underABI
// looks.
func TestDescendantsEndUnderOlderKernels(t *testing.T) {
	for _, abi := range []int{7, 5, 3} {
		out := underABI(t, abi, "sh", "-c", `(for i in 1 2 3; do setsid sh -c 'trap "" TERM; echo up; exec sleep 1000' & done; setsid sleep 1000 & echo up) | head -n 4`)
		if out != "up\nup\nup\nup\n" {
			t.Errorf("ABI %d: %q", abi, out)
		}
	}
}

// Renames across directories and mounts of files work as without a sandbox.
func TestOlderKernelsLeaveFilesAlone(t *testing.T) {
	dir := t.TempDir()
	for _, abi := range []int{5, 3} {
		out := underABI(t, abi, "sh", "-ec", "cd "+dir+"; mkdir a b; echo x >a/f; mv a/f b/f; ln b/f a/g; rm -r a b; echo fine")
		if out != "fine\n" {
			t.Errorf("ABI %d: %q", abi, out)
		}
	}
}

func TestOlderKernelsNeedAnOwnProcess(t *testing.T) {
	err := New(compiled(t, "true"), Options{abi: 5}).Run(t.Context())
	if err == nil || !strings.Contains(err.Error(), "OwnProcess") {
		t.Errorf("%v", err)
	}
	err = New(compiled(t, "true"), Options{abi: 1}).Run(t.Context())
	if err == nil || !strings.Contains(err.Error(), "landlock ABI 1") {
		t.Errorf("%v", err)
	}
}
