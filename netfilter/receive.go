package netfilter

import (
	"context"
	"encoding/binary"
	"net/netip"
	"time"

	"github.com/sandlock/sandlock/dispatch"
	"github.com/sandlock/sandlock/internal/sys"
	"github.com/sandlock/sandlock/netfilter/message"
	"golang.org/x/sys/unix"
)

// receiving is a receive call on a socket that asked the resolver. It is performed
// for the caller: what comes from one of our addresses has to seem to come from
// the server that was asked. Nothing is decided here.
type receiving struct {
	f     *Filter
	c     *dispatch.Call
	fd    int // owned
	flags int
	hand  hand
}

// hand receives a datagram into the caller's memory, in the form of its call,
// and returns what the call does.
type hand func(r *receiving, from netip.AddrPort) (int64, error)

func (f *Filter) recvfrom(c *dispatch.Call) dispatch.Action { return f.receive(c, 3, handFrom) }
func (f *Filter) recvmsg(c *dispatch.Call) dispatch.Action  { return f.receive(c, 2, handMessage) }
func (f *Filter) recvmmsg(c *dispatch.Call) dispatch.Action { return f.receive(c, 3, handFirst) }

func (f *Filter) receive(c *dispatch.Call, flags int, hand hand) dispatch.Action {
	if f.askers.n.Load() == 0 || c.Int(flags)&unix.MSG_ERRQUEUE != 0 {
		return dispatch.Continue()
	}
	fd, cookie, err := pin(c)
	if err != nil {
		return dispatch.Continue()
	}
	if _, asked := f.askers.get(cookie); !asked {
		unix.Close(fd)
		return dispatch.Continue()
	}
	r := &receiving{f: f, c: c, fd: fd, flags: c.Int(flags), hand: hand}
	a, wait := r.next()
	if !wait {
		unix.Close(fd)
		return a
	}
	return dispatch.DeferWhole(r.wait) // a datagram that was taken is not lost
}

// next hands over the first datagram. wait means that there is none and that the
// caller would wait for it.
func (r *receiving) next() (a dispatch.Action, wait bool) {
	n, err := r.first()
	// Not Continue: the kernel might find one that has come meanwhile.
	wait = err == unix.EAGAIN && r.flags&unix.MSG_DONTWAIT == 0 && !nonblocking(r.fd)
	if err != nil {
		return dispatch.Fail(err), wait
	}
	return dispatch.Return(n), false
}

func (r *receiving) first() (int64, error) {
	name := make([]byte, sys.SockaddrMax)
	got, err := sys.ReceiveMessage(r.fd, nil, name, nil, unix.MSG_PEEK|unix.MSG_DONTWAIT)
	if err != nil {
		return 0, err // an error of the socket is told once: this is the time
	}
	from, ok := sys.ParseInet(name[:min(got.Name, len(name))])
	if !ok {
		return 0, unix.EAFNOSUPPORT
	}
	if asked, ours := r.f.servers.meant(netip.AddrPortFrom(from.Addr().Unmap(), from.Port())); ours {
		from = asked
	}
	return r.hand(r, from)
}

// wait runs off the loop until something is there.
func (r *receiving) wait(ctx context.Context) dispatch.Action {
	defer unix.Close(r.fd)
	limit, err := unix.GetsockoptTimeval(r.fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO)
	if err != nil {
		return dispatch.Fail(err)
	}
	var deadline time.Time
	if d := timeout(limit); d > 0 {
		deadline = time.Now().Add(d)
	}
	for {
		var left time.Duration
		if !deadline.IsZero() {
			if left = time.Until(deadline); left <= 0 {
				return dispatch.Errno(unix.EAGAIN)
			}
		}
		if err := r.f.ready.wait(ctx, r.fd, unix.EPOLLIN, left); err != nil {
			return dispatch.Fail(err)
		}
		if a, wait := r.next(); !wait {
			return a
		}
	}
}

// receive takes the datagram, of which at most n bytes and control bytes of
// control messages are kept.
func (r *receiving) receive(n uint64, control int) (data, messages []byte, got sys.Received, err error) {
	data, messages = make([]byte, min(n, maxQuery)), make([]byte, control)
	got, err = sys.ReceiveMessage(r.fd, data, nil, messages, r.flags|unix.MSG_DONTWAIT)
	return data[:min(got.Data, len(data))], messages[:got.Control], got, err
}

func handFrom(r *receiving, from netip.AddrPort) (int64, error) {
	data, _, got, err := r.receive(r.c.Arg(2), 0)
	if err == nil {
		err = r.c.Write(r.c.Arg(1), data)
	}
	if err == nil {
		err = writeBytes(r.c, r.c.Arg(4), r.c.Arg(5), sys.EncodeInet(from, domainV6(r.fd)))
	}
	return int64(got.Data), err
}

func handMessage(r *receiving, from netip.AddrPort) (int64, error) {
	n, err := r.intoHeader(r.c.Arg(1), from)
	return int64(n), err
}

// handFirst answers recvmmsg(2) with one message, which it may always do.
func handFirst(r *receiving, from netip.AddrPort) (int64, error) {
	if r.c.Int(2) == 0 {
		return 0, nil
	}
	n, err := r.intoHeader(r.c.Arg(1), from)
	if err != nil {
		return 0, err
	}
	var size [4]byte
	binary.NativeEndian.PutUint32(size[:], uint32(n))
	return 1, r.c.Write(r.c.Arg(1)+message.EntryLen, size[:])
}

// intoHeader receives into the struct msghdr at an address of the caller's and
// returns the length of the datagram.
func (r *receiving) intoHeader(at uint64, from netip.AddrPort) (int, error) {
	var raw [message.HeaderSize]byte
	if err := r.c.Read(at, raw[:]); err != nil {
		return 0, err
	}
	h, err := message.ParseHeader(raw[:])
	if err != nil {
		return 0, err
	}
	vectors := make([]byte, message.VectorSize*h.VectorsLen)
	if err := r.c.Read(h.Vectors, vectors); err != nil && len(vectors) > 0 {
		return 0, err
	}
	pieces, total, err := message.ParseVectors(vectors)
	if err != nil {
		return 0, err
	}
	data, control, got, err := r.receive(uint64(total), min(h.ControlLen, message.MaxControl))
	if err != nil {
		return 0, err
	}
	for rest := data; len(rest) > 0; {
		head := rest[:min(uint64(len(rest)), pieces[0].Len)]
		if err := r.c.Write(pieces[0].Addr, head); err != nil {
			return 0, err
		}
		rest, pieces = rest[len(head):], pieces[1:]
	}
	if len(control) > 0 {
		if err := r.c.Write(h.Control, control); err != nil {
			return 0, err
		}
	}
	if h.Name != 0 {
		if err := writeBytes(r.c, h.Name, at+message.NameLenAt, sys.EncodeInet(from, domainV6(r.fd))); err != nil {
			return 0, err
		}
	}
	// msg_controllen (8 bytes) and, behind it, msg_flags.
	var tail [12]byte
	binary.NativeEndian.PutUint64(tail[:], uint64(got.Control))
	binary.NativeEndian.PutUint32(tail[8:], uint32(got.Flags&^unix.MSG_CMSG_CLOEXEC))
	return got.Data, r.c.Write(at+message.ControlLenAt, tail[:])
}
