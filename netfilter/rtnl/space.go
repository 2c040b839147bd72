// Package rtnl gives a program NETLINK_ROUTE sockets that show an empty network
// namespace: lo, its addresses with a stand-in for those of the host, and nothing
// else.
//
// The program does not get a netlink socket of that namespace itself. Whoever
// owns a user namespace has every capability over what is in it
// (user_namespaces(7)), and rtnetlink asks only the sender for CAP_NET_ADMIN when
// the message names an address. So it gets one end of a pair of unix sockets. What
// it sends there goes, unread, to a netlink socket of the kernel's, without an
// address and from a socket whose opener had no capability: a change is refused
// with EPERM, and everything else is answered by the kernel itself.
package rtnl

import (
	"errors"
	"fmt"
	"os"
	"sync"
	"sync/atomic"

	"github.com/sandlock/sandlock/internal/launch"
	"github.com/sandlock/sandlock/internal/sys"
	"golang.org/x/sys/unix"
)

// Bounds of one sandbox: sockets at once, and sockets made ahead of time. Making
// one costs a wake-up of the helper, so the program should not wait for it.
const (
	maxSockets = 1024
	maxStock   = 16
	batch      = 8 // made with one wake-up
)

// ErrTooMany reports that the program holds maxSockets sockets.
var ErrTooMany = errors.New("too many netlink sockets")

// kernelName is what recvmsg shows as the sender: a unix address of the size of
// struct sockaddr_nl whose bytes behind the family are those of the kernel's
// netlink address, port 0 and no groups. In the empty namespace nobody else
// has this abstract name.
var kernelName = [unix.SizeofSockaddrNetlink]byte{unix.AF_UNIX}

// Space is the empty namespace and the sockets that show it.
type Space struct {
	helper *launch.NetHelper

	live   atomic.Int64
	wg     sync.WaitGroup
	mu     sync.Mutex // guards all below
	listen int        // named kernelName
	info   int        // for ioctls
	all    map[uint64]*Socket
	made   []*Socket // the stock
	busy   bool      // somebody fills the stock
	done   bool
}

// Open makes the namespace, with a helper process that thread t starts. It
// blocks while the kernel works. Close ends it.
func Open(t *launch.Thread) (*Space, error) {
	h, err := launch.NewNetHelper(t, false)
	if err != nil {
		return nil, err
	}
	s := &Space{helper: h, listen: -1, info: -1, all: map[uint64]*Socket{}}
	var fds [2]int
	if err = addStandIns(h); err != nil {
		s.Close()
		return nil, fmt.Errorf("netlink: %w", err)
	}
	err = h.Sockets(fds[:], [3]int{unix.AF_UNIX, unix.SOCK_SEQPACKET}, [3]int{unix.AF_INET, unix.SOCK_DGRAM})
	if err == nil {
		s.listen, s.info = fds[0], fds[1]
		err = sys.Bind(s.listen, kernelName[:])
	}
	if err == nil {
		err = unix.Listen(s.listen, 1)
	}
	if err != nil {
		s.Close()
		return nil, fmt.Errorf("netlink: %w", err)
	}
	return s, nil
}

// Close ends the namespace and all sockets. It blocks until they ended.
func (s *Space) Close() {
	s.mu.Lock()
	if s.done {
		s.mu.Unlock()
		return
	}
	s.done = true
	for _, k := range s.all {
		k.conn.Close()
	}
	for _, k := range s.made {
		k.close()
	}
	s.mu.Unlock()
	s.wg.Wait()
	s.helper.Close()
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, fd := range []*int{&s.listen, &s.info} {
		if *fd >= 0 {
			unix.Close(*fd)
			*fd = -1
		}
	}
}

// Ifreq performs an ioctl of netdevice(7) that takes a struct ifreq, in the
// namespace.
func (s *Space) Ifreq(cmd int, req *[sys.SizeofIfreq]byte) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return sys.Ifreq(s.info, cmd, req)
}

// Ifconf is sys.Ifconf in the namespace.
func (s *Space) Ifconf(buf []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return sys.Ifconf(s.info, buf)
}

// Live tells whether the program may hold any socket.
func (s *Space) Live() bool { return s.live.Load() > 0 }

// Find returns the socket whose program's end has this cookie, nil if there is none.
func (s *Space) Find(cookie uint64) *Socket {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.all[cookie]
}

// Stocked is New from the stock: it never blocks, and ok is false when the
// stock is empty.
func (s *Space) Stocked(pid, typ int) (fd int, ok bool, err error) {
	s.mu.Lock()
	if len(s.made) == 0 {
		s.mu.Unlock()
		return -1, false, nil
	}
	k := s.made[0]
	s.made = append(s.made[:0], s.made[1:]...)
	s.mu.Unlock()
	fd, err = s.start(k, pid, typ)
	s.fill()
	return fd, true, err
}

// New makes a socket of type typ (SOCK_RAW or SOCK_DGRAM) for process pid and
// returns the program's end, which the caller owns. It blocks for the helper.
func (s *Space) New(pid, typ int) (int, error) {
	made, err := s.make(1)
	if err != nil {
		return -1, err
	}
	fd, err := s.start(made[0], pid, typ)
	s.fill()
	return fd, err
}

// start puts k to work for the program.
func (s *Space) start(k *Socket, pid, typ int) (int, error) {
	k.pid, k.typ = pid, typ
	s.mu.Lock()
	if s.done || len(s.all) >= maxSockets {
		s.mu.Unlock()
		k.close()
		return -1, ErrTooMany
	}
	s.all[k.cookie] = k
	s.live.Store(int64(len(s.all)))
	s.wg.Add(1)
	s.mu.Unlock()
	go func() {
		defer s.wg.Done()
		k.pump()
		s.mu.Lock()
		delete(s.all, k.cookie)
		s.live.Store(int64(len(s.all)))
		s.mu.Unlock()
		k.closeOurs()
	}()
	return k.program, nil
}

// fill tops up the stock in the background.
func (s *Space) fill() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.done || s.busy || len(s.made) > maxStock/2 {
		return
	}
	s.busy = true
	s.wg.Add(1)
	go func() {
		defer s.wg.Done()
		for {
			made, err := s.make(batch)
			s.mu.Lock()
			if s.done {
				for _, k := range made {
					k.close()
				}
			} else {
				s.made = append(s.made, made...)
			}
			if err != nil || s.done || len(s.made) >= maxStock {
				s.busy = false
				s.mu.Unlock()
				return
			}
			s.mu.Unlock()
		}
	}()
}

// make asks the helper for n netlink sockets and as many unix sockets, and joins
// the latter to the listener. With an error it returns those that it made before.
func (s *Space) make(n int) (made []*Socket, err error) {
	specs, fds := make([][3]int, 0, 2*n), make([]int, 2*n)
	for range n {
		specs = append(specs, [3]int{unix.AF_NETLINK, unix.SOCK_RAW | unix.SOCK_NONBLOCK, unix.NETLINK_ROUTE},
			[3]int{unix.AF_UNIX, unix.SOCK_SEQPACKET})
	}
	if err := s.helper.Sockets(fds, specs...); err != nil {
		return nil, err
	}
	for ; len(fds) > 0; fds = fds[2:] {
		k := &Socket{kernel: fds[0], program: fds[1]}
		if k.cookie, err = sys.Cookie(k.program); err == nil {
			err = s.join(k)
		}
		if err != nil {
			for _, fd := range fds {
				unix.Close(fd)
			}
			return made, err
		}
		made = append(made, k)
	}
	return made, nil
}

func (s *Space) join(k *Socket) error {
	s.mu.Lock() // one at a time: what is accepted must be what was connected
	defer s.mu.Unlock()
	if err := sys.Connect(k.program, kernelName[:]); err != nil {
		return err
	}
	fd, _, err := unix.Accept4(s.listen, unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK)
	if err != nil {
		return err
	}
	k.conn = os.NewFile(uintptr(fd), "netlink")
	return nil
}
