// Package control is how runs of sandlock are found and asked. Each listens on an
// abstract unix socket: nothing is left behind on disk whatever ends it, and no
// sandbox can connect there (Landlock's scope, or our own judgement before Linux
// 6.12). Only the owner of a run, and root, is answered.
package control

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

const (
	version    = 1
	maxMessage = 4 << 20         // bytes of an answer: the policy and the chains
	maxRequest = 4 << 10         // bytes of a question
	maxClients = 8               // answered at once; one more waits
	patience   = 2 * time.Second // for the other side
)

// Errors that a caller may want to tell apart.
var (
	ErrInUse    = errors.New("a run of this name is there already")
	ErrNoRun    = errors.New("no run of this name")
	ErrForeign  = errors.New("another user's process answers to this name")
	ErrNoAnswer = errors.New("the run does not answer")
)

// Names of runs are in the network namespace of those who look.
func address(name string) *net.UnixAddr {
	return &net.UnixAddr{Net: "unix", Name: prefix() + name}
}

func prefix() string { return "@sandlock/" + strconv.Itoa(os.Geteuid()) + "/" }

type request struct {
	V    int    `json:"v"`
	Verb string `json:"verb"`
}

type response struct {
	V    int             `json:"v"`
	OK   bool            `json:"ok"`
	Err  string          `json:"err,omitempty"`
	Data json.RawMessage `json:"data,omitempty"`
}

// Handler answers a verb with what encoding/json can encode.
type Handler func(verb string) (any, error)

// Server answers for one run.
type Server struct {
	l      *net.UnixListener
	handle Handler
	places chan struct{}

	mu    sync.Mutex
	conns map[net.Conn]struct{} // nil after Close
	wg    sync.WaitGroup
}

// Reserve takes a name, or fails with ErrInUse. Questions wait until Serve.
func Reserve(name string) (*Server, error) {
	l, err := net.ListenUnix("unix", address(name))
	if errors.Is(err, unix.EADDRINUSE) {
		return nil, ErrInUse
	}
	if err != nil {
		return nil, err
	}
	return &Server{l: l, places: make(chan struct{}, maxClients), conns: map[net.Conn]struct{}{}}, nil
}

// Serve begins to answer, and returns at once.
func (s *Server) Serve(h Handler) {
	s.handle = h
	s.wg.Go(s.accept)
}

// Close ends all connections and blocks until no handler runs.
func (s *Server) Close() {
	s.l.Close()
	s.mu.Lock()
	for c := range s.conns {
		c.Close()
	}
	s.conns = nil
	s.mu.Unlock()
	s.wg.Wait()
}

func (s *Server) accept() {
	for {
		c, err := s.l.AcceptUnix()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			time.Sleep(patience / 20) // no descriptors: others may be given back
			continue
		}
		s.places <- struct{}{}
		s.mu.Lock()
		if s.conns == nil {
			c.Close()
			s.mu.Unlock()
			<-s.places
			continue
		}
		s.conns[c] = struct{}{}
		s.wg.Go(func() {
			defer func() { <-s.places }()
			s.serve(c)
			s.mu.Lock()
			defer s.mu.Unlock()
			delete(s.conns, c)
			c.Close()
		})
		s.mu.Unlock()
	}
}

func (s *Server) serve(c *net.UnixConn) {
	c.SetDeadline(time.Now().Add(patience))
	if uid, _, err := peer(c); err != nil || uid != os.Geteuid() && uid != 0 {
		return
	}
	var q request
	if err := json.NewDecoder(io.LimitReader(c, maxRequest)).Decode(&q); err != nil {
		return
	}
	a := response{V: version}
	data, err := any(nil), error(nil)
	if q.V != version {
		err = fmt.Errorf("version %d is not spoken here", q.V)
	} else {
		data, err = s.handle(q.Verb)
	}
	if err == nil {
		a.Data, err = json.Marshal(data)
	}
	if a.OK = err == nil; err != nil {
		a.Err = err.Error()
	}
	c.SetDeadline(time.Now().Add(patience))
	json.NewEncoder(c).Encode(a)
}

// peer returns the user and the process of the other side: of who connected, or of
// who listened (unix(7), SO_PEERCRED). The process is 0 if it is in another PID
// namespace.
func peer(c *net.UnixConn) (uid, pid int, err error) {
	raw, err := c.SyscallConn()
	if err != nil {
		return -1, 0, err
	}
	cerr := raw.Control(func(fd uintptr) {
		var cred *unix.Ucred
		if cred, err = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED); err == nil {
			uid, pid = int(cred.Uid), int(cred.Pid)
		}
	})
	return uid, pid, errors.Join(cerr, err)
}

// dial connects to a run of the calling user.
func dial(name string) (c *net.UnixConn, pid int, err error) {
	c, err = net.DialUnix("unix", nil, address(name))
	if errors.Is(err, unix.ECONNREFUSED) {
		return nil, 0, ErrNoRun
	}
	if err != nil {
		return nil, 0, err
	}
	uid, pid, err := peer(c)
	if err != nil || uid != os.Geteuid() {
		c.Close()
		return nil, 0, ErrForeign
	}
	return c, pid, nil
}

// Wake lets the run of a name go on if it was stopped, with its terminal's key for
// example: a stopped one answers nothing.
func Wake(name string) error {
	c, pid, err := dial(name)
	if err != nil {
		return err
	}
	defer c.Close() // while it is open there is a listener, and so the process
	if pid > 0 {
		return unix.Kill(pid, unix.SIGCONT)
	}
	return nil
}

// Ask puts a verb to the run of a name, of the calling user, and decodes the
// answer into the value behind into, unless it is nil.
func Ask(name, verb string, into any) error {
	c, _, err := dial(name)
	if err != nil {
		return err
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(2 * patience))
	if err := json.NewEncoder(c).Encode(request{version, verb}); err != nil {
		return fmt.Errorf("%w: %w", ErrNoAnswer, err)
	}
	var a response
	if err := json.NewDecoder(io.LimitReader(c, maxMessage)).Decode(&a); err != nil {
		return fmt.Errorf("%w: %w", ErrNoAnswer, err)
	}
	if !a.OK {
		return errors.New(a.Err)
	}
	if into == nil {
		return nil
	}
	return json.Unmarshal(a.Data, into)
}

// Names lists the runs of the calling user, sorted.
func Names() ([]string, error) {
	f, err := os.Open("/proc/net/unix")
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return names(f, prefix())
}

// names reads /proc/net/unix (proc(5)): the fourth field has the flag of a
// listener, the eighth is the name.
func names(r io.Reader, prefix string) ([]string, error) {
	const acceptCon = "00010000" // __SO_ACCEPTCON of linux/net.h
	var out []string
	lines := bufio.NewScanner(r)
	for lines.Scan() {
		fields := strings.Fields(lines.Text())
		if len(fields) != 8 || fields[3] != acceptCon {
			continue
		}
		if name, ok := strings.CutPrefix(fields[7], prefix); ok {
			out = append(out, name)
		}
	}
	slices.Sort(out)
	return slices.Compact(out), lines.Err()
}
