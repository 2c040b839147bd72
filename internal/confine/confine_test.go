package confine

import (
	"os"
	"runtime"
	"syscall"
	"testing"
	"unsafe"

	"github.com/sandlock/sandlock/internal/sys"
	"golang.org/x/sys/unix"
)

// TestLockedIn tries from a thread that is locked in what the interceptor must not be
// able to do, and what it needs.
func TestLockedIn(t *testing.T) {
	pipe := make([]int, 2)
	if err := unix.Pipe(pipe); err != nil {
		t.Fatal(err)
	}
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM, 0)
	if err != nil {
		t.Fatal(err)
	}
	path, _ := unix.BytePtrFromString("/etc/passwd")
	shell, _ := unix.BytePtrFromString("/bin/sh")
	argv := []*byte{shell, nil}
	addr := unix.RawSockaddrInet4{Family: unix.AF_INET, Port: 0x5000, Addr: [4]byte{127, 0, 0, 1}}
	at := uintptr(unsafe.Pointer(&addr))
	var rlimit unix.Rlimit
	const execPage = unix.PROT_READ | unix.PROT_EXEC
	denied := []struct {
		name string
		nr   uintptr
		args [6]uintptr
	}{
		{"socket inet", unix.SYS_SOCKET, [6]uintptr{unix.AF_INET, unix.SOCK_STREAM}},
		{"socket unix", unix.SYS_SOCKET, [6]uintptr{unix.AF_UNIX, unix.SOCK_STREAM}},
		{"socket netlink", unix.SYS_SOCKET, [6]uintptr{unix.AF_NETLINK, unix.SOCK_RAW}},
		{"socketpair", unix.SYS_SOCKETPAIR, [6]uintptr{unix.AF_UNIX, unix.SOCK_STREAM}},
		{"connect", unix.SYS_CONNECT, [6]uintptr{uintptr(pair[0]), at, 16}},
		{"bind", unix.SYS_BIND, [6]uintptr{uintptr(pair[0]), at, 16}},
		{"listen", unix.SYS_LISTEN, [6]uintptr{uintptr(pair[0]), 1}},
		{"accept4", unix.SYS_ACCEPT4, [6]uintptr{uintptr(pair[0])}},
		{"sendto an address", unix.SYS_SENDTO, [6]uintptr{uintptr(pair[0]), at, 1, 0, at, 16}},
		{"sendto, fast open", unix.SYS_SENDTO, [6]uintptr{uintptr(pair[0]), at, 1, unix.MSG_FASTOPEN}},
		{"sendmsg, fast open", unix.SYS_SENDMSG, [6]uintptr{uintptr(pair[0]), 0, unix.MSG_FASTOPEN}},
		{"sendmmsg", unix.SYS_SENDMMSG, [6]uintptr{uintptr(pair[0])}},
		{"source route", unix.SYS_SETSOCKOPT, [6]uintptr{uintptr(pair[0]), unix.SOL_IP, unix.IP_OPTIONS}},
		{"openat", unix.SYS_OPENAT, [6]uintptr{^uintptr(99), uintptr(unsafe.Pointer(path))}},
		{"openat2", unix.SYS_OPENAT2, [6]uintptr{^uintptr(99), uintptr(unsafe.Pointer(path))}},
		{"unlinkat", unix.SYS_UNLINKAT, [6]uintptr{^uintptr(99), uintptr(unsafe.Pointer(path))}},
		{"memfd_create", unix.SYS_MEMFD_CREATE, [6]uintptr{uintptr(unsafe.Pointer(path))}},
		{"execve", unix.SYS_EXECVE, [6]uintptr{uintptr(unsafe.Pointer(shell)), uintptr(unsafe.Pointer(&argv[0]))}},
		{"execveat", unix.SYS_EXECVEAT, [6]uintptr{^uintptr(99), uintptr(unsafe.Pointer(shell)), uintptr(unsafe.Pointer(&argv[0]))}},
		{"a new process", unix.SYS_CLONE, [6]uintptr{uintptr(unix.SIGCHLD)}},
		{"clone3", unix.SYS_CLONE3, [6]uintptr{}},
		{"kill", unix.SYS_KILL, [6]uintptr{1, 0}},
		{"tgkill of another", unix.SYS_TGKILL, [6]uintptr{1, 1, 0}},
		{"ptrace", unix.SYS_PTRACE, [6]uintptr{16, 1}},
		{"process_vm_readv", unix.SYS_PROCESS_VM_READV, [6]uintptr{1}},
		{"pidfd_open", unix.SYS_PIDFD_OPEN, [6]uintptr{1}},
		{"pidfd_getfd", unix.SYS_PIDFD_GETFD, [6]uintptr{0, 0}},
		{"prlimit64", unix.SYS_PRLIMIT64, [6]uintptr{0, unix.RLIMIT_NOFILE, 0, uintptr(unsafe.Pointer(&rlimit))}},
		{"prctl", unix.SYS_PRCTL, [6]uintptr{unix.PR_SET_DUMPABLE, 1}},
		{"io_uring_setup", unix.SYS_IO_URING_SETUP, [6]uintptr{1}},
		{"bpf", unix.SYS_BPF, [6]uintptr{}},
		{"unshare", unix.SYS_UNSHARE, [6]uintptr{unix.CLONE_NEWUSER}},
		{"executable memory", unix.SYS_MMAP, [6]uintptr{0, 4096, execPage, unix.MAP_PRIVATE | unix.MAP_ANONYMOUS, ^uintptr(0), 0}},
		{"ioctl", unix.SYS_IOCTL, [6]uintptr{uintptr(pipe[0]), unix.TIOCINQ}},
	}
	results := make([]syscall.Errno, len(denied))
	var wrote, read int
	done := make(chan error)
	var run func()
	run = func() {
		runtime.LockOSThread() // never unlocked: the thread ends with the goroutine
		if unix.Gettid() == unix.Getpid() {
			go run()
			select {} // the main thread must not be locked in
		}
		each := func(nr, a, b uintptr) error {
			if _, _, e := unix.RawSyscall6(nr, a, b, 0, 0, 0, 0); e != 0 {
				return e
			}
			return nil
		}
		install := func(program []unix.SockFilter) error {
			prog := unix.SockFprog{Len: uint16(len(program)), Filter: &program[0]}
			return each3(unix.SYS_SECCOMP, sys.SetModeFilter, 0, uintptr(unsafe.Pointer(&prog)))
		}
		if err := lockIn(each, install); err != nil {
			done <- err
			return
		}
		for i, c := range denied {
			_, _, results[i] = unix.RawSyscall6(c.nr, c.args[0], c.args[1], c.args[2], c.args[3], c.args[4], c.args[5])
		}
		wrote, _ = unix.Write(pipe[1], []byte("x"))
		read, _ = unix.Read(pipe[0], make([]byte, 1))
		done <- nil
	}
	go run()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	for i, c := range denied {
		if results[i] != unix.EPERM {
			t.Errorf("%s: %v", c.name, results[i])
		}
	}
	if wrote != 1 || read != 1 {
		t.Error("a pipe cannot be used any more")
	}
	runtime.KeepAlive([]any{path, shell, argv, &addr, &rlimit})
	if _, err := os.Stat("/etc/passwd"); err != nil {
		t.Errorf("control: other threads are locked in too: %v", err)
	}
}

func each3(nr, a, b, c uintptr) error {
	if _, _, e := unix.RawSyscall(nr, a, b, c); e != 0 {
		return e
	}
	return nil
}

// The other architecture's filter must have its calls: a name that is missing there
// would make the interceptor fail on that machine only.
func TestFilterKnowsWhatGoNeeds(t *testing.T) {
	for _, name := range []string{"read", "write", "futex", "epoll_pwait", "recvmsg", "sendmsg", "clone", "mmap", "tgkill", "setsockopt", "rt_sigreturn"} {
		if _, ok := sys.SyscallNumber(name); !ok {
			t.Errorf("no number for %s", name)
		}
	}
	if n := len(program(1)); n > 4096 {
		t.Errorf("%d instructions", n)
	}
}
