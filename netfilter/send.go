package netfilter

import (
	"context"
	"encoding/binary"
	"time"

	"github.com/sandlock/sandlock/dispatch"
	"github.com/sandlock/sandlock/internal/sys"
	"github.com/sandlock/sandlock/netfilter/message"
	"golang.org/x/sys/unix"
)

const (
	maxBatch    = 256       // messages of one sendmmsg(2); a caller sends the rest again
	streamChunk = 256 << 10 // bytes of a stream that are copied at once
)

// sending is one send call that is performed in the caller's name, on a pinned
// copy of its socket.
type sending struct {
	f                  *Filter
	c                  *dispatch.Call
	fd                 int // owned
	domain, typ, proto int
	flags              int             // for each try, which never waits
	block              bool            // the caller would wait
	signal             bool            // a closed stream raises SIGPIPE
	ctx                context.Context // of the deferred call; nil on the loop, where nothing waits
}

func (f *Filter) newSending(c *dispatch.Call, flags int) (*sending, error) {
	fd, err := c.FD(c.Int(0))
	if err != nil {
		return nil, err
	}
	s := &sending{f: f, c: c, fd: fd}
	for _, o := range []struct {
		name int
		to   *int
	}{{unix.SO_DOMAIN, &s.domain}, {unix.SO_TYPE, &s.typ}, {unix.SO_PROTOCOL, &s.proto}} {
		if *o.to, err = unix.GetsockoptInt(fd, unix.SOL_SOCKET, o.name); err != nil {
			unix.Close(fd)
			return nil, err
		}
	}
	s.flags = flags | unix.MSG_DONTWAIT | unix.MSG_NOSIGNAL
	s.block = flags&unix.MSG_DONTWAIT == 0 && !nonblocking(fd)
	s.signal = flags&unix.MSG_NOSIGNAL == 0 && s.stream()
	return s, nil
}

func (s *sending) stream() bool { return s.typ == unix.SOCK_STREAM }

func (s *sending) close() { unix.Close(s.fd) }

// sendto performs sendto(2) with an address.
func (f *Filter) sendto(c *dispatch.Call) dispatch.Action {
	n := c.Int(5)
	if n < 0 || n > sys.SockaddrMax {
		return dispatch.Errno(unix.EINVAL)
	}
	name := make([]byte, n)
	if err := c.Read(c.Arg(4), name); err != nil {
		return dispatch.Fail(err)
	}
	s, err := f.newSending(c, c.Int(3))
	if err != nil {
		return dispatch.Fail(err)
	}
	if n == 0 && !s.stream() && s.domain != unix.AF_UNIX {
		s.close()
		return dispatch.Errno(unix.EINVAL) // as udp(7) does
	}
	p, err := s.load(name, []sys.Range{{Addr: c.Arg(1), Len: c.Arg(2)}}, nil)
	if err != nil {
		s.close()
		return dispatch.Fail(err)
	}
	return s.deliver(p, func(n int) dispatch.Action { return dispatch.Return(int64(n)) })
}

// sendmsg performs sendmsg(2), connected or not: the filter cannot see whether
// there is an address.
func (f *Filter) sendmsg(c *dispatch.Call) dispatch.Action {
	s, err := f.newSending(c, c.Int(2))
	if err != nil {
		return dispatch.Fail(err)
	}
	p, err := s.read(c.Arg(1))
	if err != nil {
		s.close()
		return dispatch.Fail(err)
	}
	return s.deliver(p, func(n int) dispatch.Action { return dispatch.Return(int64(n)) })
}

// sendmmsg performs sendmmsg(2). It ends at the first message that fails or would
// wait; a first one that would wait is finished, and is then the only one.
func (f *Filter) sendmmsg(c *dispatch.Call) dispatch.Action {
	s, err := f.newSending(c, c.Int(3))
	if err != nil {
		return dispatch.Fail(err)
	}
	if s.domain == unix.AF_UNIX { // a path may have to be connected on the thread
		return dispatch.DeferWhole(func(ctx context.Context) dispatch.Action {
			s.ctx = ctx
			return s.batch()
		})
	}
	return s.batch()
}

// batch owns s.
func (s *sending) batch() dispatch.Action {
	count := min(uint32(s.c.Arg(2)), maxBatch)
	for i := range uint64(count) {
		at := s.c.Arg(1) + i*message.EntrySize
		p, err := s.read(at)
		if err != nil {
			s.close()
			return sentOr(i, err)
		}
		done := func(n int) dispatch.Action {
			var size [4]byte
			binary.NativeEndian.PutUint32(size[:], uint32(n))
			if err := s.c.Write(at+message.EntryLen, size[:]); err != nil {
				return sentOr(i, err)
			}
			return dispatch.Return(int64(i) + 1)
		}
		n, err := s.try(p)
		part := err == nil && !p.whole()
		if s.block && (part || i == 0 && err == unix.EAGAIN) {
			return s.complete(p, n, done)
		}
		p.close()
		if err != nil {
			s.close()
			return sentOr(i, err)
		}
		if a := done(n); part || i+1 == uint64(count) || !a.IsReturn() {
			s.close()
			return a
		}
	}
	s.close()
	return dispatch.Return(0)
}

// sentOr is the answer after n messages, when the next one failed.
func sentOr(n uint64, err error) dispatch.Action {
	if n > 0 {
		return dispatch.Return(int64(n))
	}
	return dispatch.Fail(err)
}

// deliver owns s and p.
func (s *sending) deliver(p *parcel, done func(n int) dispatch.Action) dispatch.Action {
	if p.pinned {
		return s.complete(p, 0, done)
	}
	n, err := s.try(p)
	if s.block && (err == unix.EAGAIN || err == nil && !p.whole()) {
		return s.complete(p, n, done)
	}
	p.close()
	s.close()
	if err != nil {
		return dispatch.Fail(err)
	}
	return done(n)
}

// complete owns s and p, of which n bytes were sent. It finishes the message off
// the loop.
func (s *sending) complete(p *parcel, n int, done func(n int) dispatch.Action) dispatch.Action {
	run := func(ctx context.Context) dispatch.Action {
		defer s.close()
		defer p.close()
		more, err := s.finish(ctx, p)
		if n+more == 0 && err != nil {
			return dispatch.Fail(err)
		}
		return done(n + more)
	}
	if s.ctx != nil {
		return run(s.ctx)
	}
	return dispatch.DeferWhole(run)
}

// try sends the next part, without waiting.
func (s *sending) try(p *parcel) (n int, err error) {
	data, err := s.data(p)
	if err != nil {
		return 0, err
	}
	send := func() error {
		n, err = sys.SendMessage(s.fd, data, p.to, p.control, s.flags)
		return err
	}
	if p.pinned {
		err = s.f.reachUnix(p.who, p.pin >= 0, send)
	} else {
		send()
	}
	if err == unix.EPIPE && s.signal {
		unix.Tgkill(dispatch.TGID(s.c.PID()), s.c.PID(), unix.SIGPIPE)
	}
	if err == nil {
		p.sent(n)
	}
	return n, err
}

// finish sends all of a message that a blocking caller waits for, or as much as
// it can: an error counts only when nothing was sent (send(2)).
func (s *sending) finish(ctx context.Context, p *parcel) (sent int, err error) {
	limit, err := unix.GetsockoptTimeval(s.fd, unix.SOL_SOCKET, unix.SO_SNDTIMEO)
	if err != nil {
		return 0, err
	}
	var deadline time.Time
	if d := timeout(limit); d > 0 {
		deadline = time.Now().Add(d)
	}
	for {
		n, err := s.try(p)
		if err == unix.EAGAIN && s.block {
			if err = s.await(ctx, p, deadline); err == nil {
				continue
			}
		}
		if err != nil {
			return sent, err
		}
		if sent += n; p.whole() || !s.block {
			return sent, nil
		}
	}
}

// await blocks until the socket may take more.
func (s *sending) await(ctx context.Context, p *parcel, deadline time.Time) error {
	var left time.Duration
	if !deadline.IsZero() {
		if left = time.Until(deadline); left <= 0 {
			return unix.EAGAIN
		}
	}
	if !p.pinned {
		return s.f.ready.wait(ctx, s.fd, unix.EPOLLOUT, left)
	}
	// The kernel tells of a full receiver only to sockets that are connected to it.
	pause := unixRetry
	if left > 0 {
		pause = min(pause, left)
	}
	select {
	case <-ctx.Done():
		return unix.EINTR
	case <-time.After(pause):
		return nil
	}
}
