package dispatch

import (
	"bytes"
	"os"
	"strconv"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// Where pidfd_getfd(2) is refused, the only sockets of a process that we can hold
// are those that we made: the loop then keeps a copy of every socket that it
// injects and finds it again by the inode that the caller's descriptor shows
// (proc(5), /proc/pid/fd). A copy must go soon after the last descriptor of the
// sandbox: it holds back the end of a connection, and a port.

// keptTick is how often the kept sockets are looked through, keptCost what one
// adds to that pause: a look at one takes some microseconds.
const (
	keptTick = 25 * time.Millisecond
	keptCost = 50 * time.Microsecond
)

type keptSockets struct {
	members func() ([]int, error)
	mu      sync.Mutex
	set     map[uint64]*keptSocket // by inode
	running bool
}

type keptSocket struct {
	fd      int
	at      string // where the sandbox had it last, in /proc
	settled bool   // it was there in an earlier look: it is no longer on its way
}

func fdPath(pid, fd int) string {
	return "/proc/" + strconv.Itoa(pid) + "/fd/" + strconv.Itoa(fd)
}

// socketInode returns the inode of the socket that a link in /proc/pid/fd names.
func socketInode(path string) (uint64, bool) {
	var buf [64]byte
	n, err := unix.Readlink(path, buf[:])
	if err != nil {
		return 0, false
	}
	text, ok := bytes.CutPrefix(buf[:n], []byte("socket:["))
	text, end := bytes.CutSuffix(text, []byte("]"))
	ino, err := strconv.ParseUint(string(text), 10, 64)
	return ino, ok && end && err == nil
}

// keep takes a copy of fd if it is a socket; fd stays the caller's.
func (k *keptSockets) keep(l *Loop, fd int) {
	ino, ok := socketInode(fdPath(os.Getpid(), fd))
	if !ok {
		return
	}
	dup, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		l.fault(err)
		return
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.set == nil {
		k.set = map[uint64]*keptSocket{}
	}
	if old := k.set[ino]; old != nil {
		unix.Close(old.fd) // fd is another one
	}
	k.set[ino] = &keptSocket{fd: dup}
	if !k.running {
		k.running = true
		l.users.run(func() { k.sweepAll(l) })
	}
}

// get returns a copy, owned by the caller, of a kept socket: EPERM for any other
// descriptor.
func (k *keptSockets) get(pid, fd int) (int, error) {
	path := fdPath(pid, fd)
	ino, ok := socketInode(path)
	if !ok {
		if _, err := os.Lstat(path); err != nil {
			return -1, unix.EBADF
		}
		return -1, unix.ENOTSOCK
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	s := k.set[ino]
	if s == nil {
		return -1, unix.EPERM
	}
	s.at, s.settled = path, true
	return unix.FcntlInt(uintptr(s.fd), unix.F_DUPFD_CLOEXEC, 0)
}

// release closes the copy of the socket that fd is one of.
func (k *keptSockets) release(fd int) {
	ino, ok := socketInode(fdPath(os.Getpid(), fd))
	if !ok {
		return
	}
	k.mu.Lock()
	s := k.set[ino]
	delete(k.set, ino)
	k.mu.Unlock()
	if s != nil {
		unix.Close(s.fd) // the caller's copy is still open: this is not the last
	}
}

// closeLast closes what may be the last descriptor of a socket. The time for which
// its program wants to linger is nothing that we could wait for.
func closeLast(fd int) {
	if l, err := unix.GetsockoptLinger(fd, unix.SOL_SOCKET, unix.SO_LINGER); err == nil && l.Onoff != 0 && l.Linger > 0 {
		unix.SetsockoptLinger(fd, unix.SOL_SOCKET, unix.SO_LINGER, &unix.Linger{})
	}
	unix.Close(fd)
}

// sweepAll closes copies whose socket the sandbox has closed, until there is
// none or the loop ends.
func (k *keptSockets) sweepAll(l *Loop) {
	pause := keptTick
	for {
		select {
		case <-l.done:
			k.close()
			return
		case <-time.After(pause):
		}
		k.sweep()
		k.mu.Lock()
		n := len(k.set)
		k.running = n > 0
		k.mu.Unlock()
		if n == 0 {
			return
		}
		pause = keptTick + time.Duration(n)*keptCost
	}
}

func (k *keptSockets) sweep() {
	missing := map[uint64]string{} // and where it was last
	k.mu.Lock()
	for ino, s := range k.set {
		if s.at != "" {
			if got, ok := socketInode(s.at); ok && got == ino {
				continue
			}
		}
		missing[ino] = s.at
	}
	k.mu.Unlock()
	if len(missing) == 0 {
		return
	}
	found, err := k.scan(missing)
	if err != nil {
		return
	}
	var gone []int
	defer func() {
		for _, fd := range gone {
			closeLast(fd)
		}
	}()
	k.mu.Lock()
	defer k.mu.Unlock()
	for ino, was := range missing {
		s, at := k.set[ino], found[ino]
		switch {
		case s == nil || s.at != was: // closed or used meanwhile
		case at != "":
			s.at, s.settled = at, true
		case !s.settled:
			s.settled = true
		default:
			gone = append(gone, s.fd)
			delete(k.set, ino)
		}
	}
}

// scan looks for sockets in every process of the sandbox.
func (k *keptSockets) scan(wanted map[uint64]string) (map[uint64]string, error) {
	pids, err := k.members()
	if err != nil {
		return nil, err
	}
	found := map[uint64]string{}
	for _, pid := range pids {
		dir := "/proc/" + strconv.Itoa(pid) + "/fd"
		f, err := os.Open(dir)
		if err != nil {
			continue
		}
		names, _ := f.Readdirnames(-1)
		f.Close()
		for _, name := range names {
			if ino, ok := socketInode(dir + "/" + name); ok {
				if _, want := wanted[ino]; want {
					found[ino] = dir + "/" + name
				}
			}
		}
	}
	return found, nil
}

func (k *keptSockets) close() {
	k.mu.Lock()
	defer k.mu.Unlock()
	for ino, s := range k.set {
		closeLast(s.fd)
		delete(k.set, ino)
	}
	k.running = false
}
