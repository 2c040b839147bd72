package launch

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"unsafe"

	"github.com/sandlock/sandlock/internal/sys"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// NetHelper is a process in an empty network namespace that makes sockets there.
// It shares the supervisor's memory and descriptor table, so that they are at
// once the supervisor's, and has all signals blocked: the terminal's keys are not
// for it. It gave up its capabilities once it had made two raw sockets, so that a netlink socket of its making
// changes nothing for a sender that names no address (netlink(7) judges the
// socket's opener then, not the sender alone).
type NetHelper struct {
	mu       sync.Mutex
	pid      int
	pidfd    int
	ask, get [2]int // pipes to and from the helper
	shared   *helperShared
	page     []byte
	errors   [2]int // raw sockets, see Errors; -1 for none
}

// helperShared is what the supervisor and the helper both write. It lies in a
// mapping of its own: it must live as long as the helper, whatever the collector
// thinks.
type helperShared struct {
	steps  [8]step
	failed failure
	pidfd  int32
	result int64    // descriptor or -errno
	errors [2]int64 // the same, of the raw sockets
	header unix.CapUserHeader
	none   [2]unix.CapUserData
}

// exitSignal 0 keeps the helper out of a wait4(-1): only __WALL sees it.
const exitSignal = 0

// UserNamespaces returns nil when an ordinary user may make a user namespace
// and act in it, else why not.
func UserNamespaces() error {
	// Ubuntu 23.10 and later let it be made but give no capability in it.
	if os.Geteuid() != 0 {
		text, err := sys.ReadFile("/proc/sys/kernel/apparmor_restrict_unprivileged_userns", 16)
		if err == nil && strings.TrimSpace(string(text)) == "1" {
			return errors.New("kernel.apparmor_restrict_unprivileged_userns is 1")
		}
	}
	// The kernel makes the namespace and then cannot store the descriptor of the
	// child, which so is never born: an eighth of the cost of one that is.
	const nowhere = ^uintptr(4095)
	exit := &step{nr: unix.SYS_EXIT_GROUP}
	pid, errno := rawClone(unix.CLONE_VM|unix.CLONE_FILES|unix.CLONE_SIGHAND|unix.CLONE_VFORK|unix.CLONE_NEWUSER|unix.CLONE_PIDFD|exitSignal, nowhere, exit, new(failure))
	runtime.KeepAlive(exit)
	switch e := syscall.Errno(errno); e {
	case syscall.EFAULT:
		return nil
	case 0:
		reap(int(pid))
		return nil
	default:
		return fmt.Errorf("clone(CLONE_NEWUSER): %w", e)
	}
}

// reap waits for a child that has ended or is about to.
func reap(pid int) {
	for {
		if _, err := unix.Wait4(pid, nil, unix.WALL, nil); err != unix.EINTR {
			return
		}
	}
}

// NewNetHelper starts the helper from thread t, whose end it does not survive.
// lo is up in its namespace; with everywhere, every address is local there. It
// blocks while the kernel makes the namespace.
func NewNetHelper(t *Thread, everywhere bool) (*NetHelper, error) {
	h := &NetHelper{pidfd: -1, ask: [2]int{-1, -1}, get: [2]int{-1, -1}, errors: [2]int{-1, -1}}
	err := h.start(t, everywhere)
	if err == nil {
		err = h.setup(everywhere)
	}
	if err != nil {
		h.Close()
		return nil, err
	}
	return h, nil
}

func (h *NetHelper) start(t *Thread, everywhere bool) (err error) {
	if err = unix.Pipe2(h.ask[:], unix.O_CLOEXEC); err != nil {
		return err
	}
	if err = unix.Pipe2(h.get[:], unix.O_CLOEXEC); err != nil {
		return err
	}
	if h.page, err = unix.Mmap(-1, 0, os.Getpagesize(), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS); err != nil {
		return err
	}
	h.shared = (*helperShared)(unsafe.Pointer(&h.page[0]))
	s := h.shared
	s.header.Version = unix.LINUX_CAPABILITY_VERSION_3
	raw := uintptr(unix.SOCK_RAW | unix.SOCK_CLOEXEC | unix.SOCK_NONBLOCK)
	s.errors = [2]int64{-1, -1}
	s.steps = [8]step{
		{nr: unix.SYS_SOCKET, mode: ignore, out: uintptr(unsafe.Pointer(&s.errors[0])), next: stepSize, args: [6]uintptr{unix.AF_INET, raw, unix.IPPROTO_ICMP}},
		{nr: unix.SYS_SOCKET, mode: ignore, out: uintptr(unsafe.Pointer(&s.errors[1])), next: stepSize, args: [6]uintptr{unix.AF_INET6, raw, unix.IPPROTO_ICMPV6}},
		{nr: unix.SYS_CAPSET, next: stepSize, args: [6]uintptr{uintptr(unsafe.Pointer(&s.header)), uintptr(unsafe.Pointer(&s.none))}},
		{nr: unix.SYS_PRCTL, args: [6]uintptr{unix.PR_SET_PDEATHSIG, uintptr(unix.SIGKILL)}, next: stepSize},
		{nr: unix.SYS_GETPPID, mode: exact, arg: uintptr(unix.Getpid()), next: stepSize},
		// The request goes straight into the arguments of the next step.
		{nr: unix.SYS_READ, mode: exact, arg: requestSize, next: stepSize,
			args: [6]uintptr{uintptr(h.ask[0]), uintptr(unsafe.Pointer(&s.steps[6].args[0])), requestSize}},
		{nr: unix.SYS_SOCKET, mode: ignore, out: uintptr(unsafe.Pointer(&s.result)), next: stepSize},
		{nr: unix.SYS_WRITE, next: ^(2*stepSize - 1), // back to the read
			args: [6]uintptr{uintptr(h.get[1]), uintptr(unsafe.Pointer(&s.result)), 8}},
	}
	first := &s.steps[2]
	if everywhere {
		first = &s.steps[0]
	}
	return t.Do(func() error {
		flags := unix.CLONE_VM | unix.CLONE_FILES | unix.CLONE_PIDFD | unix.CLONE_NEWUSER | unix.CLONE_NEWNET | uintptr(exitSignal)
		mask := blockSignals()
		defer setSignals(mask)
		pid, errno := clone(flags, uintptr(unsafe.Pointer(&s.pidfd)), first, &s.failed)
		if errno != 0 && os.Geteuid() == 0 {
			pid, errno = clone(flags&^unix.CLONE_NEWUSER, uintptr(unsafe.Pointer(&s.pidfd)), first, &s.failed)
		}
		if errno != 0 {
			return fmt.Errorf("clone into a new network namespace: %w", errno)
		}
		h.pid, h.pidfd = pid, int(s.pidfd)
		t.Exclude(pid)
		return nil
	})
}

const requestSize = 3 * unsafe.Sizeof(uintptr(0)) // domain, type, protocol

// errHelperGone reports a helper that somebody killed.
var errHelperGone = errors.New("the network namespace's helper has ended")

// Socket makes a socket in the empty namespace; the caller owns it. typ may hold
// SOCK_NONBLOCK; SOCK_CLOEXEC is added. It blocks for the helper's answer.
func (h *NetHelper) Socket(domain, typ, proto int) (int, error) {
	var fd [1]int
	err := h.Sockets(fd[:], [3]int{domain, typ, proto})
	return fd[0], err
}

// Sockets makes one socket for each (domain, type, protocol), with one wake-up
// of the helper, and puts them into fds. Either all are made or none.
func (h *NetHelper) Sockets(fds []int, specs ...[3]int) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.pid == 0 {
		return os.ErrClosed
	}
	reqs := make([][3]uintptr, len(specs))
	for i, s := range specs {
		reqs[i] = [3]uintptr{uintptr(s[0]), uintptr(s[1] | unix.SOCK_CLOEXEC), uintptr(s[2])}
	}
	if _, err := unix.Write(h.ask[1], unsafe.Slice((*byte)(unsafe.Pointer(&reqs[0])), uintptr(len(reqs))*requestSize)); err != nil {
		return err
	}
	var failed error
	for i := range specs {
		fd, err := h.answer()
		if fds[i] = fd; err != nil && failed == nil {
			failed = err
		}
		if err == errHelperGone {
			fds = fds[:i]
			break
		}
	}
	if failed != nil {
		for _, fd := range fds {
			if fd >= 0 {
				unix.Close(fd)
			}
		}
	}
	return failed
}

// answer waits for the helper's next descriptor.
func (h *NetHelper) answer() (int, error) {
	// Both ends are in our own table, so the helper's end is no end of file.
	poll := []unix.PollFd{{Fd: int32(h.get[0]), Events: unix.POLLIN}, {Fd: int32(h.pidfd), Events: unix.POLLIN}}
	for {
		_, err := unix.Poll(poll, -1)
		if err == unix.EINTR {
			continue
		}
		if err != nil || poll[0].Revents == 0 {
			return -1, errHelperGone
		}
		break
	}
	var res int64
	for {
		n, err := unix.Read(h.get[0], unsafe.Slice((*byte)(unsafe.Pointer(&res)), unsafe.Sizeof(res)))
		if err == unix.EINTR {
			continue
		}
		if err != nil || n != int(unsafe.Sizeof(res)) {
			return -1, errHelperGone
		}
		break
	}
	if res < 0 {
		return -1, unix.Errno(-res)
	}
	return int(res), nil
}

// Close ends the helper, and the namespace with its last socket.
func (h *NetHelper) Close() {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.pid != 0 {
		unix.Kill(h.pid, unix.SIGKILL) // our unreaped child: the number is its own
		reap(h.pid)
		h.pid = 0
	}
	for _, fd := range []*int{&h.errors[0], &h.errors[1], &h.ask[0], &h.ask[1], &h.get[0], &h.get[1], &h.pidfd} {
		if *fd >= 0 {
			unix.Close(*fd)
			*fd = -1
		}
	}
	if h.page != nil {
		h.shared = nil
		unix.Munmap(h.page)
		h.page = nil
	}
}

// Errors returns raw sockets, non-blocking and owned by the caller, that see the
// ICMP and ICMPv6 messages of a namespace where every address is local; -1 for one
// that could not be made. The next call returns none.
func (h *NetHelper) Errors() (v4, v6 int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	v4, v6 = h.errors[0], h.errors[1]
	h.errors = [2]int{-1, -1}
	return v4, v6
}

const loopbackIndex = 1 // LOOPBACK_IFINDEX of net/loopback.h

// setup brings lo up and, with everywhere, makes every address local. The
// supervisor owns the namespace's user namespace and so has every capability over
// it (user_namespaces(7)).
func (h *NetHelper) setup(everywhere bool) error {
	s, err := h.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_ROUTE)
	if err != nil {
		return err
	}
	defer unix.Close(s)
	for i, fd := range h.shared.errors { // made before that socket
		h.errors[i] = int(max(fd, -1))
	}
	up := nl.NewNetlinkRequest(unix.RTM_NEWLINK, unix.NLM_F_ACK)
	info := nl.NewIfInfomsg(unix.AF_UNSPEC)
	info.Index, info.Flags, info.Change = loopbackIndex, unix.IFF_UP, unix.IFF_UP
	up.AddData(info)
	if err := request(s, up); err != nil {
		return fmt.Errorf("bring up lo: %w", err)
	}
	if !everywhere {
		return nil
	}
	for _, family := range []uint8{unix.AF_INET, unix.AF_INET6} {
		r := nl.NewNetlinkRequest(unix.RTM_NEWROUTE, unix.NLM_F_ACK|unix.NLM_F_CREATE)
		m := nl.NewRtMsg()
		m.Family, m.Table, m.Type, m.Scope = family, unix.RT_TABLE_LOCAL, unix.RTN_LOCAL, unix.RT_SCOPE_HOST
		r.AddData(m)
		oif := make([]byte, 4)
		binary.NativeEndian.PutUint32(oif, loopbackIndex)
		r.AddData(nl.NewRtAttr(unix.RTA_OIF, oif))
		if err := request(s, r); err != nil && family == unix.AF_INET {
			return fmt.Errorf("make every address local: %w", err)
		}
	}
	return nil
}

func request(s int, r *nl.NetlinkRequest) error {
	if err := unix.Sendto(s, r.Serialize(), 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		return err
	}
	buf := make([]byte, 4096)
	n, _, err := unix.Recvfrom(s, buf, 0)
	if err != nil {
		return err
	}
	if n < unix.NLMSG_HDRLEN+4 {
		return unix.EBADMSG
	}
	if e := -int32(binary.NativeEndian.Uint32(buf[unix.NLMSG_HDRLEN:])); e != 0 {
		return unix.Errno(e)
	}
	return nil
}

// PID returns the helper's process number, 0 after Close.
func (h *NetHelper) PID() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.pid
}
