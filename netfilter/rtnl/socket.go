package rtnl

import (
	"errors"
	"io"
	"math/rand/v2"
	"os"
	"sync"

	"github.com/sandlock/sandlock/internal/sys"
	"golang.org/x/sys/unix"
)

// maxMessage is the room for a datagram either way. The kernel makes no larger
// part of a dump than the largest room it was ever given, at most 32 KiB
// (netlink_dump of net/netlink/af_netlink.c).
const maxMessage = 16 << 10

// autobindTries bounds the search for a free port.
const autobindTries = 64

// Socket is a netlink socket as the program sees it.
type Socket struct {
	conn    *os.File // our end of the pair
	program int      // the program's end, until it is handed out
	cookie  uint64   // of the program's end
	pid     int      // the process that made it
	typ     int

	order  sync.Mutex // held during an exchange with the kernel, guards the next two
	answer []byte     // room for an answer
	rest   []byte     // the part of it that the program has not yet got

	mu     sync.Mutex // never held while something blocks
	kernel int        // netlink socket in the empty namespace, -1 when closed
}

// pump carries messages until the program has closed its last descriptor.
func (k *Socket) pump() {
	buf := make([]byte, maxMessage)
	for {
		n, err := k.conn.Read(buf)
		if err == io.EOF && !k.hungUp() {
			continue // an empty message
		}
		if err != nil {
			return
		}
		k.Send(buf[:n])
	}
}

// Send gives a message to the kernel and its answers to the program. It blocks
// while the program does not take them.
func (k *Socket) Send(msg []byte) error {
	k.order.Lock()
	defer k.order.Unlock()
	full, err := k.exchange(msg)
	if err != nil || !full {
		return err
	}
	return k.deliver(k.conn.Write)
}

// TrySend is Send as far as it does not block: the rest is done by finish, which
// blocks, if it is not nil.
func (k *Socket) TrySend(msg []byte) (finish func() error, err error) {
	if !k.order.TryLock() {
		return func() error { return k.Send(msg) }, nil
	}
	defer k.order.Unlock()
	full, err := k.exchange(msg)
	if !full {
		return nil, err
	}
	return func() error {
		k.order.Lock()
		defer k.order.Unlock()
		return k.deliver(k.conn.Write)
	}, nil
}

// exchange sends msg and hands on the answers until the program's queue is full.
// The kernel answers while it takes a message, so its side needs no waiting.
func (k *Socket) exchange(msg []byte) (full bool, err error) {
	if err := k.send(msg); err != nil {
		return false, err
	}
	raw, err := k.conn.SyscallConn()
	if err != nil {
		return false, err
	}
	var left error
	err = raw.Control(func(fd uintptr) {
		left = k.deliver(func(b []byte) (int, error) { return unix.Write(int(fd), b) })
	})
	return left == unix.EAGAIN, err
}

// deliver writes the kernel's answers. After an error of write, what it did not
// take is in k.rest.
func (k *Socket) deliver(write func([]byte) (int, error)) error {
	if k.answer == nil {
		k.answer = make([]byte, maxMessage)
	}
	for {
		if len(k.rest) == 0 {
			n, err := k.receive(k.answer)
			if err == unix.EINTR {
				continue
			}
			if err != nil {
				return nil // EAGAIN: that was all
			}
			k.rest = k.answer[:n]
		}
		if _, err := write(k.rest); err == unix.EINTR {
			continue
		} else if err != nil {
			return err
		}
		k.rest = nil
	}
}

func (k *Socket) send(msg []byte) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.autobind()
	_, err := unix.Write(k.kernel, msg)
	return err
}

func (k *Socket) receive(buf []byte) (int, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	return unix.Read(k.kernel, buf)
}

// hungUp tells whether the program's end is closed.
func (k *Socket) hungUp() bool {
	up := false
	raw, err := k.conn.SyscallConn()
	if err == nil {
		err = raw.Control(func(fd uintptr) {
			p := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLRDHUP}}
			n, err := unix.Poll(p, 0)
			up = err == nil && n == 0
		})
	}
	return err != nil || !up
}

func (k *Socket) closeOurs() {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.conn.Close()
	unix.Close(k.kernel)
	k.kernel = -1
}

// close is for a socket that was never handed out.
func (k *Socket) close() {
	k.closeOurs()
	unix.Close(k.program)
}

// Type is SOCK_RAW or SOCK_DGRAM.
func (k *Socket) Type() int { return k.typ }

// Name returns the socket's address.
func (k *Socket) Name() *unix.SockaddrNetlink {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.name()
}

func (k *Socket) name() *unix.SockaddrNetlink {
	sa, err := unix.Getsockname(k.kernel)
	if nl, ok := sa.(*unix.SockaddrNetlink); err == nil && ok {
		return nl
	}
	return &unix.SockaddrNetlink{Family: unix.AF_NETLINK}
}

// Bind is bind(2) with the address as bytes.
func (k *Socket) Bind(sa []byte) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	if nl, ok := parse(sa); ok && nl.Pid == 0 && k.name().Pid == 0 {
		return k.bindFree(nl.Groups)
	}
	return sys.Bind(k.kernel, sa)
}

// Connect is connect(2) with the address as bytes. Only the kernel can be
// connected to (netlink_connect of net/netlink/af_netlink.c).
func (k *Socket) Connect(sa []byte) error {
	if sys.Family(sa) == unix.AF_UNSPEC {
		return nil
	}
	nl, ok := parse(sa)
	if !ok {
		return unix.EINVAL
	}
	if nl.Pid != 0 || nl.Groups != 0 {
		return unix.EPERM
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	k.autobind()
	return nil
}

// SetOption is setsockopt(2) at level SOL_NETLINK. Names that need a capability
// over the namespace are refused as the kernel refuses them.
func (k *Socket) SetOption(name, value int) error {
	if name == unix.NETLINK_LISTEN_ALL_NSID {
		return unix.EPERM
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	return unix.SetsockoptInt(k.kernel, unix.SOL_NETLINK, name, value)
}

// Option is getsockopt(2) of an int at level SOL_NETLINK.
func (k *Socket) Option(name int) (int, error) {
	if name == unix.NETLINK_LIST_MEMBERSHIPS {
		return 0, unix.ENOPROTOOPT // its answer is a list
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	return unix.GetsockoptInt(k.kernel, unix.SOL_NETLINK, name)
}

// autobind gives the socket a port as the kernel does before the first message.
func (k *Socket) autobind() {
	if k.name().Pid == 0 {
		k.bindFree(0)
	}
}

// bindFree binds as netlink_autobind of net/netlink/af_netlink.c: to the
// process's number, or if another socket has it, to a random one that is no
// process's.
func (k *Socket) bindFree(groups uint32) error {
	port := uint32(k.pid)
	for range autobindTries {
		err := unix.Bind(k.kernel, &unix.SockaddrNetlink{Family: unix.AF_NETLINK, Pid: port, Groups: groups})
		if !errors.Is(err, unix.EADDRINUSE) {
			return err
		}
		port = 1<<31 | rand.Uint32N(1<<31-4096)
	}
	return unix.EADDRINUSE
}
