package netfilter

import (
	"context"
	"errors"
	"net/netip"
	"os"
	"strconv"
	"sync"

	"github.com/sandlock/sandlock/dispatch"
	"github.com/sandlock/sandlock/internal/event"
	"github.com/sandlock/sandlock/internal/sockdiag"
	"github.com/sandlock/sandlock/internal/sys"
	"golang.org/x/sys/unix"
)

const (
	tidyReserved = 64   // from so many on, reservations that are of no use any more are given up
	maxReserved  = 1024 // of one sandbox
)

var errReserved = errors.New("too many UDP servers with connected clients")

// reservations are UDP ports of the sandbox's own servers that others of it are
// connected to. A connected socket sends without being asked about, also when the
// server is gone: nobody else may then have the port. So a socket of ours, which is
// connected to itself and takes nothing, is bound there too.
type reservations struct {
	making sync.Mutex // held while one is made, off the loop
	mu     sync.Mutex // never held for long
	set    map[netip.AddrPort]reservation
}

type reservation struct {
	fd     int
	cookie uint64
}

// connectInside owns fd. It connects a UDP socket to a server of the sandbox.
func (f *Filter) connectInside(c *dispatch.Call, fd int, cookie uint64, at, to netip.AddrPort) dispatch.Action {
	return dispatch.Defer(func(context.Context) dispatch.Action {
		defer unix.Close(fd)
		if err := f.reserve(c, at); err != nil {
			f.Emit(event.Event{Kind: event.Fault, PID: int32(c.TGID()), Reason: "connect to " + at.String() + ": " + err.Error()})
			return dispatch.Errno(unix.ECONNREFUSED)
		}
		err := sys.Connect(fd, sys.EncodeInet(reachable(to), to.Addr().Is6()))
		if err == nil {
			f.receivers.put(cookie, struct{}{}) // the answer comes to it
		}
		return dispatch.Result(0, err)
	})
}

// reserve takes the address of one of the sandbox's servers. It looks through the
// descriptors of the sandbox for the server.
func (f *Filter) reserve(c *dispatch.Call, at netip.AddrPort) error {
	r := &f.reserved
	r.making.Lock()
	defer r.making.Unlock()
	if there, n := r.has(at); !there {
		if n >= tidyReserved {
			n = r.tidy()
		}
		if n >= maxReserved {
			return errReserved
		}
		one, err := f.takePort(c, at)
		if err != nil {
			return err
		}
		f.receivers.put(one.cookie, struct{}{})
		r.add(at, one)
	}
	if !f.ownReceiver(at) {
		return errors.New("another program has the port")
	}
	return nil
}

func (r *reservations) has(at netip.AddrPort) (there bool, n int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	_, there = r.set[at]
	return there, len(r.set)
}

func (r *reservations) add(at netip.AddrPort, one reservation) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.set == nil {
		r.set = map[netip.AddrPort]reservation{}
	}
	r.set[at] = one
}

// takePort binds a socket of ours beside the server's.
func (f *Filter) takePort(c *dispatch.Call, at netip.AddrPort) (reservation, error) {
	all, err := sockdiag.UDP(at.Port())
	if err != nil {
		return reservation{}, err
	}
	for _, s := range all {
		if !s.Covers(at) || !f.isReceiver(s.Cookie) {
			continue
		}
		server, err := f.findSocket(c, s)
		if err != nil {
			continue
		}
		defer unix.Close(server)
		v6 := !at.Addr().Is4()
		family := unix.AF_INET
		if v6 {
			family = unix.AF_INET6
		}
		fd, err := unix.Socket(family, unix.SOCK_DGRAM|cloexecFlags, 0)
		if err != nil {
			return reservation{}, err
		}
		err = sharing(func() error { return sys.Bind(fd, sys.EncodeInet(at, v6)) }, fd, server)
		if err == nil {
			err = sys.Connect(fd, sys.EncodeInet(at, v6))
		}
		var cookie uint64
		if err == nil {
			cookie, err = sys.Cookie(fd)
		}
		if err != nil {
			unix.Close(fd)
			return reservation{}, err
		}
		return reservation{fd, cookie}, nil
	}
	return reservation{}, errors.New("the server is not found")
}

// sharing performs a bind(2) while the sockets let each other share a port.
func sharing(bind func() error, fds ...int) error {
	for _, fd := range fds {
		old, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR)
		if err == nil && old == 0 {
			unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1)
			defer unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 0)
		}
	}
	return bind()
}

// bindBeside performs bind(2) of a socket of the sandbox to a port which we may
// have reserved.
func (f *Filter) bindBeside(fd int, sa []byte, port uint16) error {
	r := &f.reserved
	r.mu.Lock()
	defer r.mu.Unlock()
	fds := []int{fd}
	for at, one := range r.set {
		if at.Port() == port {
			fds = append(fds, one.fd)
		}
	}
	bind := func() error { return sys.Bind(fd, sa) }
	if len(fds) == 1 {
		return bind()
	}
	return sharing(bind, fds...)
}

// tidy gives up the ports which no socket is connected to any more, and returns
// how many are left.
func (r *reservations) tidy() int {
	all, err := sockdiag.UDP(0)
	r.mu.Lock()
	defer r.mu.Unlock()
	if err != nil {
		return len(r.set)
	}
	used := map[netip.AddrPort]bool{}
	for _, s := range all {
		if s.Peer.IsValid() && s.Addr != s.Peer {
			used[netip.AddrPortFrom(s.Peer.Addr().Unmap(), s.Peer.Port())] = true
		}
	}
	for at, one := range r.set {
		if !used[at] {
			unix.Close(one.fd)
			delete(r.set, at)
		}
	}
	return len(r.set)
}

func (r *reservations) close() {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, one := range r.set {
		unix.Close(one.fd)
	}
	r.set = nil
}

// findSocket returns a copy, owned by the caller, of a socket that some process of
// the sandbox has.
func (f *Filter) findSocket(c *dispatch.Call, s sockdiag.Listener) (int, error) {
	pids, err := f.Thread.Members()
	if err != nil {
		return -1, err
	}
	want := "socket:[" + strconv.FormatUint(uint64(s.Inode), 10) + "]"
	for _, pid := range pids {
		dir := "/proc/" + strconv.Itoa(pid) + "/fd"
		entries, _ := os.ReadDir(dir)
		for _, e := range entries {
			if name, err := os.Readlink(dir + "/" + e.Name()); err != nil || name != want {
				continue
			}
			n, _ := strconv.Atoi(e.Name())
			fd, err := c.FDOf(pid, n)
			if err != nil {
				continue
			}
			if cookie, err := sys.Cookie(fd); err == nil && cookie == s.Cookie {
				return fd, nil
			}
			unix.Close(fd)
		}
	}
	return -1, os.ErrNotExist
}
