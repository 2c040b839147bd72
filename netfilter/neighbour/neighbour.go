// Package neighbour lets the running sandboxes of one user find one another's
// servers by the name of the run.
//
// A supervisor answers on an abstract unix socket. No sandbox can ask it (the
// Landlock scope), and none can stand in for it: listen(2) in a sandbox is made by
// the supervisor, which refuses the names that Reserved tells.
package neighbour

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// Suffix is the top-level label below which a run's name is a host name. No
// domain can be registered there.
const Suffix = "sandlock"

const (
	maxName  = 63 // of a label, RFC 1035 section 2.3.4
	maxReply = 64
	patience = 2 * time.Second // with one that does not speak
)

// Errors of Serve and Find.
var (
	ErrTaken = errors.New("a sandbox of this name is running")
	ErrNone  = errors.New("no sandbox of this name serves this port")
)

// CheckName refuses a name that cannot be a label of a host name.
func CheckName(name string) error {
	ok := name != "" && len(name) <= maxName && name[0] != '-' && name[len(name)-1] != '-'
	for i := range len(name) {
		c := name[i]
		ok = ok && (c >= 'a' && c <= 'z' || c >= '0' && c <= '9' || c == '-')
	}
	if !ok {
		return fmt.Errorf("%q cannot be a host name: use at most %d lower-case letters, digits and hyphens", name, maxName)
	}
	return nil
}

const prefix = "@sandlock/"

// Reserved tells whether only a supervisor may listen on a unix socket of this
// name, which begins with "@" if it is an abstract one.
func Reserved(name string) bool { return strings.HasPrefix(name, prefix) }

func address(name string) *net.UnixAddr {
	return &net.UnixAddr{Net: "unixpacket", Name: prefix + strconv.Itoa(os.Geteuid()) + "/" + name}
}

// Server answers for one name.
type Server struct {
	l  *net.UnixListener
	wg sync.WaitGroup
}

// Serve answers who asks for the run called name where a port of it is served.
// where must not block for long; ok is false when nobody serves the port. Close
// ends it.
func Serve(name string, where func(port uint16) (at netip.AddrPort, ok bool)) (*Server, error) {
	if err := CheckName(name); err != nil {
		return nil, err
	}
	l, err := net.ListenUnix("unixpacket", address(name))
	if errors.Is(err, unix.EADDRINUSE) {
		return nil, ErrTaken
	}
	if err != nil {
		return nil, err
	}
	s := &Server{l: l}
	s.wg.Add(1)
	go func() {
		defer s.wg.Done()
		for {
			c, err := l.AcceptUnix()
			if errors.Is(err, net.ErrClosed) {
				return
			}
			if err != nil {
				time.Sleep(patience / 100) // no descriptors left: do not spin
				continue
			}
			serve(c, where) // one at a time: it is a table look-up
			c.Close()
		}
	}()
	return s, nil
}

// Close stops answering. It blocks until the last answer was given.
func (s *Server) Close() {
	s.l.Close()
	s.wg.Wait()
}

func serve(c *net.UnixConn, where func(uint16) (netip.AddrPort, bool)) {
	c.SetDeadline(time.Now().Add(patience))
	peer, err := credentials(c)
	if err != nil || int(peer.Uid) != os.Geteuid() {
		return
	}
	var q [2]byte
	if n, err := c.Read(q[:]); err != nil || n != len(q) {
		return
	}
	text := ""
	if at, ok := where(binary.BigEndian.Uint16(q[:])); ok {
		text = at.String()
	}
	c.Write([]byte(text + "\n"))
}

// Find returns where the sandbox of this user that is called name serves a port:
// an address of the loopback. ErrNone when it does not, or does not run. It blocks
// until the other supervisor answered, at most as long as ctx allows.
func Find(ctx context.Context, name string, port uint16) (netip.AddrPort, error) {
	none := netip.AddrPort{}
	if CheckName(name) != nil {
		return none, ErrNone
	}
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	var d net.Dialer
	conn, err := d.DialContext(ctx, "unixpacket", address(name).Name)
	if err != nil {
		return none, ErrNone
	}
	defer conn.Close()
	end, _ := ctx.Deadline()
	conn.SetDeadline(end)
	c := conn.(*net.UnixConn)
	peer, err := credentials(c)
	if err != nil {
		return none, err
	}
	if int(peer.Uid) != os.Geteuid() {
		return none, fmt.Errorf("the sandbox %s belongs to user %d", name, peer.Uid)
	}
	if _, err := c.Write(binary.BigEndian.AppendUint16(nil, port)); err != nil {
		return none, err
	}
	buf := make([]byte, maxReply)
	n, err := c.Read(buf)
	if err != nil {
		return none, err
	}
	text := strings.TrimSuffix(string(buf[:n]), "\n")
	if text == "" {
		return none, ErrNone
	}
	at, err := netip.ParseAddrPort(text)
	if err != nil || !at.Addr().IsLoopback() {
		return none, fmt.Errorf("the sandbox %s gives a bad address", name)
	}
	return at, nil
}

func credentials(c *net.UnixConn) (cred *unix.Ucred, err error) {
	raw, err := c.SyscallConn()
	if err != nil {
		return nil, err
	}
	e := raw.Control(func(fd uintptr) {
		cred, err = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED)
	})
	if e != nil {
		return nil, e
	}
	return cred, err
}
