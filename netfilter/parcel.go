package netfilter

import (
	"bytes"
	"errors"
	"strconv"

	"github.com/sandlock/sandlock/internal/event"
	"github.com/sandlock/sandlock/internal/sys"
	"github.com/sandlock/sandlock/netfilter/endpoint"
	"github.com/sandlock/sandlock/netfilter/message"
	"golang.org/x/sys/unix"
)

// parcel is a message as it is sent: an address and control messages that were
// judged, as copies that the caller cannot change. Its data is nobody's business:
// it is copied for each try, so that a call that waits holds no memory of ours.
type parcel struct {
	to      []byte
	left    []sys.Range // what is not sent yet, in the caller's memory
	control []byte
	files   []int                // copies of the descriptors in control, owned
	pin     int                  // the file that to leads to, owned; -1 for none
	pinned  bool                 // to is a unix address: to be used by Filter.reachUnix
	who     *sys.FileCredentials // of a caller who is not us, with pinned
}

func (p *parcel) close() {
	for _, fd := range p.files {
		unix.Close(fd)
	}
	if p.pin >= 0 {
		unix.Close(p.pin)
	}
	p.files, p.pin = nil, -1
}

// whole tells whether nothing is left to send.
func (p *parcel) whole() bool { return len(p.left) == 0 }

// sent takes off the first n bytes. What came with them is gone too.
func (p *parcel) sent(n int) {
	_, p.left = message.Cut(p.left, n)
	if n > 0 {
		p.control = nil
	}
}

// read copies the message whose header is at an address of the caller's memory.
func (s *sending) read(at uint64) (*parcel, error) {
	var raw [message.HeaderSize]byte
	if err := s.c.Read(at, raw[:]); err != nil {
		return nil, err
	}
	h, err := message.ParseHeader(raw[:])
	if err != nil {
		return nil, err
	}
	if h.ControlLen > message.MaxControl {
		return nil, message.ErrTooLong
	}
	name, control := make([]byte, h.NameLen), make([]byte, h.ControlLen)
	vectors := make([]byte, message.VectorSize*h.VectorsLen)
	for _, part := range []struct {
		at  uint64
		buf []byte
	}{{h.Name, name}, {h.Control, control}, {h.Vectors, vectors}} {
		if len(part.buf) == 0 {
			continue
		}
		if err := s.c.Read(part.at, part.buf); err != nil {
			return nil, err
		}
	}
	pieces, _, err := message.ParseVectors(vectors)
	if err != nil {
		return nil, err
	}
	return s.load(name, pieces, control)
}

// load makes a parcel: it judges the address and the control messages. The caller
// closes the parcel.
func (s *sending) load(name []byte, pieces []sys.Range, control []byte) (*parcel, error) {
	p := &parcel{pin: -1, left: pieces}
	total := uint64(0)
	for _, r := range pieces {
		total += min(r.Len, message.MaxDatagram+1)
	}
	if total > message.MaxDatagram && !s.stream() {
		return nil, message.ErrTooLong
	}
	var err error
	if len(control) > 0 {
		err = s.control(p, control)
	}
	if err == nil && len(name) > 0 {
		err = s.address(p, name)
	}
	if err != nil {
		p.close()
		return nil, err
	}
	return p, nil
}

// data copies the next part of the data, which for all but streams is everything.
func (s *sending) data(p *parcel) ([]byte, error) {
	size := message.MaxDatagram
	if s.stream() {
		size = streamChunk
	}
	head, _ := message.Cut(p.left, size)
	n := 0
	for _, r := range head {
		n += int(r.Len)
	}
	data := make([]byte, n)
	return data, s.c.ReadRanges(head, data)
}

// address judges where a message is to go.
func (s *sending) address(p *parcel, name []byte) error {
	switch s.domain {
	case unix.AF_INET, unix.AF_INET6:
		if s.stream() {
			return nil // it goes to the peer: tcp_sendmsg looks at no address
		}
		return s.inetAddress(p, name)
	case unix.AF_UNIX:
		if s.typ == unix.SOCK_DGRAM {
			return s.unixAddress(p, name)
		}
		p.to = name // refused or ignored by the kernel, unix(7)
		return nil
	}
	return unix.EAFNOSUPPORT
}

// inetAddress judges the destination of an IP datagram.
func (s *sending) inetAddress(p *parcel, name []byte) error {
	if len(name) < 2 {
		return unix.EINVAL
	}
	if sys.Family(name) == unix.AF_UNSPEC {
		if s.domain == unix.AF_INET6 {
			return nil // as without an address, udpv6_sendmsg
		}
		name = append([]byte(nil), name...)
		sys.SetFamily(name, unix.AF_INET) // as IPv4, udp_sendmsg
	}
	to, ok := sys.ParseInet(name)
	proto, known := datagramProtocol(s.proto)
	v4 := sys.Family(name) == unix.AF_INET
	switch {
	case !v4 && sys.Family(name) != unix.AF_INET6, !v4 && s.domain == unix.AF_INET, !known:
		return unix.EAFNOSUPPORT
	case !ok || v4 && len(name) < unix.SizeofSockaddrInet4:
		return unix.EINVAL
	}
	at := canonical(to)
	way, v := s.f.judge(proto, at)
	end := endpoint.Endpoint{Protocol: proto, Addr: at.Addr(), Port: at.Port()}
	switch way {
	case refused:
		s.f.report(s.c, end, v)
		return unix.ECONNREFUSED
	case audited:
		s.f.report(s.c, end, v)
	case byResolver, inside:
		cookie, err := sys.Cookie(s.fd)
		if err == nil {
			err = ensureBound(s.fd, s.domain == unix.AF_INET6)
		}
		if err != nil {
			return err
		}
		if way == inside {
			s.f.receivers.put(cookie, struct{}{}) // the answer comes to it
			break
		}
		server, err := s.f.servers.standIn(s.f, at)
		if err != nil {
			s.f.noServer(s.c, err)
			return unix.ECONNREFUSED
		}
		s.f.asks(s.c, s.fd, cookie)
		p.to = sys.EncodeInet(server, to.Addr().Is6())
		return nil
	}
	p.to = sys.EncodeInet(reachable(to), to.Addr().Is6())
	return nil
}

// unixAddress judges the destination of a unix datagram. An abstract name is left
// to the kernel, which judges it on the sandbox's thread.
func (s *sending) unixAddress(p *parcel, name []byte) error {
	if sys.Family(name) != unix.AF_UNIX || len(name) <= unixPathAt {
		return unix.EINVAL
	}
	p.pinned = true
	who, err := s.f.unlikeUs(s.c)
	if err != nil {
		return err
	}
	p.who = who
	path := name[unixPathAt:]
	if path[0] == 0 {
		if !s.f.mayReachAbstract(path, unix.SOCK_DGRAM) {
			return unix.EPERM
		}
		p.to = name
		return nil
	}
	if i := bytes.IndexByte(path, 0); i >= 0 {
		path = path[:i]
	}
	pin, err := openSocket(s.c.PID(), string(path))
	if err != nil {
		return err
	}
	p.pin = pin
	if err := s.c.Valid(); err != nil {
		return err
	}
	if !s.f.mayReach(pin, unix.SOCK_DGRAM) {
		s.f.reportUnix(s.c, pin, path)
		if !s.f.Audit {
			return unix.EACCES
		}
	}
	p.to = unixAddr("/proc/self/fd/" + strconv.Itoa(pin))
	return nil
}

// control judges the control messages and makes copies of descriptors in them.
func (s *sending) control(p *parcel, b []byte) (err error) {
	if s.domain == unix.AF_UNIX {
		p.control, err = message.UnixControl(b, func(fd int) (int, error) {
			n, err := s.c.FD(fd)
			switch {
			case err == nil:
				p.files = append(p.files, n)
			case err == unix.ENOTSOCK && s.f.Create:
				s.refuse("only sockets can be passed on here, because pidfd_getfd(2) is refused")
				err = unix.EPERM
			}
			return n, err
		})
		return err
	}
	var bad message.Control
	p.control, bad, err = message.InetControl(b)
	if errors.Is(err, unix.EPERM) {
		s.refuse("control messages of level " + strconv.Itoa(int(bad.Level)) + " and type " + strconv.Itoa(int(bad.Type)) + " are not sent")
	}
	return err
}

// refuse reports a message that is not sent whatever the rules say.
func (s *sending) refuse(reason string) {
	proto := "unix"
	if s.domain != unix.AF_UNIX {
		proto = endpoint.TCP.String()
		if p, datagram := datagramProtocol(s.proto); datagram {
			proto = p.String()
		}
	}
	s.f.Emit(event.Event{Kind: event.Deny, PID: int32(s.c.TGID()), Syscall: s.c.Name(), Protocol: proto, Reason: reason})
}
