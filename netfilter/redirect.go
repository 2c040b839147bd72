package netfilter

import (
	"context"
	"errors"
	"net/netip"
	"os"
	"time"

	"github.com/sandlock/sandlock/dispatch"
	"github.com/sandlock/sandlock/internal/event"
	"github.com/sandlock/sandlock/internal/sys"
	"github.com/sandlock/sandlock/netfilter/endpoint"
	"golang.org/x/sys/unix"
)

// inspection is what a redirected connection must say before it is passed on;
// without one the embedded resolver serves the connection.
type inspection struct {
	names  []endpoint.Name
	divert []endpoint.Name // of names: for these the interceptor takes over
	open   bool            // the interceptor takes over at once
	wary   bool            // any name will do but those that the interceptor would have to see
}

// redirect owns fd. It dials the address that the caller chose and lets the
// caller's socket meet a socket of ours, so that the first bytes can be read.
func (f *Filter) redirect(c *dispatch.Call, fd int, to netip.AddrPort, look *inspection) dispatch.Action {
	cookie, err := sys.Cookie(fd)
	if err != nil {
		unix.Close(fd)
		return dispatch.Fail(err)
	}
	if !unconnected(fd) {
		// A second connect tells how the first one went, or that there was one. Its
		// address leads nowhere: the first one may be undone meanwhile.
		nowhere := netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), 0)
		if !to.Addr().Unmap().Is4() {
			nowhere = netip.AddrPortFrom(netip.IPv6Loopback(), 0)
		}
		return connectSocket(fd, sys.EncodeInet(nowhere, to.Addr().Is6()))
	}
	m, err := f.start()
	if err != nil {
		unix.Close(fd)
		f.Emit(event.Event{Kind: event.Fault, Reason: err.Error()})
		return dispatch.Errno(unix.ECONNREFUSED)
	}
	r := &redirection{f: f, m: m, fd: fd, upstream: -1, to: to, look: look, cookie: cookie,
		v6: domainV6(fd), pid: int32(c.PID()), chained: look != nil && f.chained(to)}
	if err := r.dial(); err != nil {
		r.noProxy(err)
		unix.Close(fd)
		return dispatch.Fail(err)
	}
	if nonblocking(fd) {
		return r.start()
	}
	return dispatch.Defer(r.blocking)
}

type redirection struct {
	f            *Filter
	m            *meeting
	fd, upstream int
	to           netip.AddrPort
	look         *inspection
	cookie       uint64
	v6           bool
	pid          int32
	chained      bool // the upstream is the proxy
}

// dial begins to connect to where the connection is passed on.
func (r *redirection) dial() (err error) {
	to := r.to
	switch {
	case r.look == nil, r.chained && r.look.open: // the interceptor asks for its tunnels
		return nil
	case r.chained:
		to = r.f.Proxy.Addr()
	}
	r.upstream, err = dial(to)
	return err
}

// start answers a non-blocking connect: the caller's socket waits in SYN_SENT
// until the upstream answered.
func (r *redirection) start() dispatch.Action {
	if err := r.connected(); err == nil || err != unix.EAGAIN {
		if err != nil {
			r.noProxy(err)
			r.drop()
			return dispatch.Fail(err)
		}
	}
	if err := sys.Connect(r.fd, r.m.hold(r.v6, r.to)); err != unix.EINPROGRESS {
		r.drop()
		if err == nil {
			err = unix.ECONNREFUSED
		}
		return dispatch.Fail(err)
	}
	r.f.peers.put(r.cookie, r.to)
	if r.connected() == nil {
		r.meetNow()
		return dispatch.Errno(unix.EINPROGRESS)
	}
	r.f.wg.Add(1)
	go func() {
		defer r.f.wg.Done()
		if err := r.await(r.f.ctx); err != nil {
			r.noProxy(err)
			r.fail(err)
			return
		}
		r.meetNow()
	}()
	return dispatch.Errno(unix.EINPROGRESS)
}

// meetNow completes the caller's pending connect from our side.
func (r *redirection) meetNow() {
	client, err := r.m.meet(r.fd, r.v6, r.to)
	if err != nil {
		r.fail(err)
		return
	}
	unix.Close(r.fd)
	r.hand(client)
}

// fail makes the caller's pending connect fail with err.
func (r *redirection) fail(err error) {
	var e unix.Errno
	if !errors.As(err, &e) {
		e = unix.ECONNREFUSED
	}
	r.f.failures.put(r.cookie, e)
	r.f.peers.drop(r.cookie)
	sys.Connect(r.fd, make([]byte, unix.SizeofSockaddrInet4)) // AF_UNSPEC ends SYN_SENT
	r.drop()
}

func (r *redirection) drop() {
	unix.Close(r.fd)
	if r.upstream >= 0 {
		unix.Close(r.upstream)
	}
}

// blocking answers a blocking connect.
func (r *redirection) blocking(ctx context.Context) dispatch.Action {
	if err := r.await(ctx); err != nil {
		r.noProxy(err)
		r.drop()
		return dispatch.Fail(err)
	}
	r.f.peers.put(r.cookie, r.to)
	client, err := r.m.accept(r.fd, r.v6, r.to)
	if err != nil {
		r.f.peers.drop(r.cookie)
		r.drop()
		return dispatch.Fail(err)
	}
	unix.Close(r.fd)
	r.hand(client)
	return dispatch.Return(0)
}

// hand gives our two sockets to who serves the connection from now on.
func (r *redirection) hand(client int) {
	if r.look == nil {
		r.f.wg.Add(1)
		go func() {
			defer r.f.wg.Done()
			r.f.serveDNSStream(client)
			r.f.peers.drop(r.cookie)
		}()
		return
	}
	if r.look.open {
		r.intercept(client, r.upstream, nil)
		return
	}
	r.passThrough(client)
}

// connected returns nil once the upstream answered, EAGAIN before, or why not.
func (r *redirection) connected() error {
	if r.upstream < 0 {
		return nil
	}
	return connected(r.upstream)
}

func connected(fd int) error {
	p := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLOUT}}
	if n, err := unix.Poll(p, 0); err != nil || n == 0 {
		return unix.EAGAIN
	}
	e, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_ERROR)
	if err != nil {
		return err
	}
	if e != 0 {
		return unix.Errno(e)
	}
	return nil
}

func (r *redirection) await(ctx context.Context) error {
	if r.upstream < 0 {
		return nil
	}
	return await(ctx, r.upstream)
}

// await blocks until a connection that was begun with dial was made or refused,
// or ctx ended (EINTR), without a thread of its own.
func await(ctx context.Context, fd int) error {
	dup, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return err
	}
	file := os.NewFile(uintptr(dup), "upstream")
	defer file.Close()
	rc, err := file.SyscallConn()
	if err != nil {
		return err
	}
	stop := context.AfterFunc(ctx, func() { file.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	result := error(unix.EINTR)
	if err := rc.Write(func(uintptr) bool {
		result = connected(fd)
		return result != unix.EAGAIN
	}); err != nil {
		return unix.EINTR
	}
	return result
}

// dial starts a connection to a, without waiting for it.
func dial(a netip.AddrPort) (int, error) {
	family := unix.AF_INET
	if !a.Addr().Unmap().Is4() {
		family = unix.AF_INET6
	}
	fd, err := unix.Socket(family, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, unix.IPPROTO_TCP)
	if err != nil {
		return -1, err
	}
	unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1)
	if err := sys.Connect(fd, sys.EncodeInet(a, family == unix.AF_INET6)); err != nil && err != unix.EINPROGRESS {
		unix.Close(fd)
		return -1, err
	}
	return fd, nil
}

// unconnected tells whether a TCP socket may still begin to connect.
func unconnected(fd int) bool {
	info, err := unix.GetsockoptTCPInfo(fd, unix.IPPROTO_TCP, unix.TCP_INFO)
	const tcpClose = 7 // TCP_CLOSE of net/tcp_states.h
	return err == nil && info.State == tcpClose
}

func domainV6(fd int) bool {
	d, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_DOMAIN)
	return err == nil && d == unix.AF_INET6
}
