package resolver

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"sync/atomic"
	"time"

	"golang.org/x/net/dns/dnsmessage"
	"golang.org/x/sys/unix"
)

const (
	firstWait = 1 * time.Second // for a datagram's answer, when every server is asked once
	laterWait = 2 * time.Second // and when those that were silent are asked again
	streamMax = 2 * time.Second // connecting, asking and reading over TCP
	maxStrays = 64              // datagrams that answer something else, before the server is given up
)

var errStray = errors.New("the upstream answers something else")

// Exchanger carries a query, a whole DNS message, to an upstream and returns its
// answer, over TCP if told so. It blocks until ctx ends at most. What it returns
// is hostile; the resolver compares it with the query.
type Exchanger func(ctx context.Context, server netip.AddrPort, query []byte, tcp bool) ([]byte, error)

// upstream asks the servers in turn.
type upstream struct {
	servers []netip.AddrPort
	send    Exchanger
	rounds  []time.Duration
	good    atomic.Uint32 // index of the server that answered last
}

func rounds() []time.Duration { return []time.Duration{firstWait, laterWait} }

// ask returns the first useful answer (NOERROR or NXDOMAIN) to a question. Servers
// that failed are not asked again, those that were silent are.
func (u *upstream) ask(ctx context.Context, name dnsmessage.Name, qtype dnsmessage.Type) (reply, error) {
	failed := make([]bool, len(u.servers))
	var last error
	for _, wait := range u.rounds {
		first := int(u.good.Load())
		for i := range u.servers {
			i = (first + i) % len(u.servers)
			if failed[i] {
				continue
			}
			m, err := u.askServer(ctx, u.servers[i], wait, name, qtype)
			if err == nil {
				u.good.Store(uint32(i))
				return m, nil
			}
			last, failed[i] = err, !errors.Is(err, os.ErrDeadlineExceeded) && !errors.Is(err, context.DeadlineExceeded)
			if ctx.Err() != nil {
				return reply{}, ctx.Err()
			}
		}
	}
	return reply{}, last
}

func (u *upstream) askServer(ctx context.Context, server netip.AddrPort, wait time.Duration, name dnsmessage.Name, qtype dnsmessage.Type) (reply, error) {
	q := dnsmessage.Question{Name: name, Type: qtype, Class: dnsmessage.ClassINET}
	m, err := u.once(ctx, server, wait, q, true)
	if err == nil && !m.edns && (m.rcode == dnsmessage.RCodeFormatError || m.rcode == dnsmessage.RCodeNotImplemented) {
		// A server from before EDNS (RFC 6891 section 7).
		m, err = u.once(ctx, server, wait, q, false)
	}
	switch {
	case err != nil:
		return reply{}, fmt.Errorf("%v: %w", server, err)
	case m.rcode != dnsmessage.RCodeSuccess && m.rcode != dnsmessage.RCodeNameError:
		return reply{}, fmt.Errorf("%v: answers %s", server, codeName(m.rcode))
	}
	return m, nil
}

// once asks over UDP, and over TCP if the answer did not fit.
func (u *upstream) once(ctx context.Context, server netip.AddrPort, wait time.Duration, q dnsmessage.Question, edns bool) (reply, error) {
	query, err := pack(q, edns)
	if err != nil {
		return reply{}, err
	}
	m, err := u.transfer(ctx, server, wait, q, query, false)
	if err != nil || !m.truncated {
		return m, err
	}
	return u.transfer(ctx, server, streamMax, q, query, true)
}

// pack makes a query with an identity that nobody can guess.
func pack(q dnsmessage.Question, edns bool) ([]byte, error) {
	var id [2]byte
	if _, err := unix.Getrandom(id[:], 0); err != nil {
		return nil, err
	}
	b := dnsmessage.NewBuilder(nil, dnsmessage.Header{ID: binary.NativeEndian.Uint16(id[:]), RecursionDesired: true})
	if err := b.StartQuestions(); err != nil {
		return nil, err
	}
	if err := b.Question(q); err != nil {
		return nil, err
	}
	if edns {
		if err := writeOPT(&b, dnsmessage.RCodeSuccess, false, nil); err != nil {
			return nil, err
		}
	}
	return b.Finish()
}

func (u *upstream) transfer(ctx context.Context, server netip.AddrPort, wait time.Duration, q dnsmessage.Question, query []byte, tcp bool) (reply, error) {
	ctx, cancel := context.WithTimeout(ctx, wait)
	defer cancel()
	got, err := u.send(ctx, server, query, tcp)
	if err != nil {
		return reply{}, err
	}
	m, err := parseReply(got)
	if err != nil && (tcp || !m.truncated) {
		return reply{}, err
	}
	if !matches(query, got) || len(m.questions) > 0 && m.questions[0].Type != q.Type {
		return reply{}, errStray
	}
	return m, nil
}

// matches tells whether reply answers query: the same identity and, but for
// case, the same one question. A server that cannot read the query may leave
// the question out.
func matches(query, reply []byte) bool {
	if len(reply) < headerLen || reply[0] != query[0] || reply[1] != query[1] || reply[2]&0xf8 != 0x80 {
		return false
	}
	switch binary.BigEndian.Uint16(reply[4:]) {
	case 0:
		return reply[3]&0xf != byte(dnsmessage.RCodeSuccess) && reply[3]&0xf != byte(dnsmessage.RCodeNameError)
	case 1:
	default:
		return false
	}
	end := headerLen
	for end < len(query) && query[end] != 0 {
		end += 1 + int(query[end])
	}
	end += 5 // the root, type and class
	return end <= len(query) && end <= len(reply) &&
		sameName(query[headerLen:end-4], reply[headerLen:end-4]) &&
		bytes.Equal(query[end-4:end], reply[end-4:end])
}

// sameName compares two names of equal length on the wire, ASCII letters without
// regard to case (RFC 4343).
func sameName(a, b []byte) bool {
	lower := func(c byte) byte {
		if c >= 'A' && c <= 'Z' {
			return c + 'a' - 'A'
		}
		return c
	}
	for i := range a {
		if lower(a[i]) != lower(b[i]) {
			return false
		}
	}
	return true
}

// exchange is the Exchanger of sockets: a new one for each query, connected, so
// that the kernel chooses a random port and only the server's datagrams arrive.
func exchange(ctx context.Context, server netip.AddrPort, query []byte, tcp bool) ([]byte, error) {
	network := "udp"
	if tcp {
		network = "tcp"
	}
	conn, err := new(net.Dialer).DialContext(ctx, network, server.String())
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	if deadline, ok := ctx.Deadline(); ok {
		conn.SetDeadline(deadline)
	}
	defer context.AfterFunc(ctx, func() { conn.SetDeadline(time.Unix(1, 0)) })()
	if tcp {
		return stream(conn, query)
	}
	if _, err := conn.Write(query); err != nil {
		return nil, err
	}
	buf := make([]byte, maxUDP)
	for range maxStrays {
		n, err := conn.Read(buf)
		if err != nil {
			return nil, err
		}
		if matches(query, buf[:n]) {
			return buf[:n], nil
		}
	}
	return nil, errStray
}

// stream exchanges messages behind their length (RFC 1035 section 4.2.2).
func stream(conn net.Conn, query []byte) ([]byte, error) {
	out := binary.BigEndian.AppendUint16(make([]byte, 0, len(query)+2), uint16(len(query)))
	if _, err := conn.Write(append(out, query...)); err != nil {
		return nil, err
	}
	var size [2]byte
	if _, err := io.ReadFull(conn, size[:]); err != nil {
		return nil, err
	}
	reply := make([]byte, binary.BigEndian.Uint16(size[:]))
	_, err := io.ReadFull(conn, reply)
	return reply, err
}
