package passthrough

import (
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"syscall"
	"testing"
	"time"

	"github.com/sandlock/sandlock/netfilter/endpoint"
)

// guard is how long a test waits for an event before it fails.
const guard = 20 * time.Second

// rig is an engine whose results a test can await.
type rig struct {
	t testing.TB
	*Engine
	results chan Result
	tag     uint64
}

func newRig(t testing.TB, hello, linger time.Duration) *rig {
	t.Helper()
	before := descriptors(t)
	r := &rig{t: t, results: make(chan Result, 4096)}
	e, err := start(func(x Result) { r.results <- x }, hello, linger)
	if err != nil {
		t.Fatal(err)
	}
	r.Engine = e
	t.Cleanup(func() {
		if err := e.Close(); err != nil {
			t.Error(err)
		}
		if n := descriptors(t); n != before {
			t.Errorf("%d descriptors before, %d after", before, n)
		}
	})
	return r
}

// descriptors counts what is open in this process. The runtime's own poller is
// open from the first socket on, so it is made to exist before.
func descriptors(t testing.TB) int {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l.Close()
	list, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(list)
}

// pair is two ends of one TCP connection on loopback: ours, and a raw
// descriptor of the other.
func pair(t testing.TB) (*net.TCPConn, int) {
	t.Helper()
	l, err := net.ListenTCP("tcp", &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	c, err := net.DialTCP("tcp", nil, l.Addr().(*net.TCPAddr))
	if err != nil {
		t.Fatal(err)
	}
	s, err := l.AcceptTCP()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c, detach(t, s)
}

func detach(t testing.TB, c *net.TCPConn) int {
	t.Helper()
	defer c.Close()
	raw, err := c.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	fd := -1
	if err := raw.Control(func(p uintptr) { fd, err = syscall.Dup(int(p)) }); err != nil || fd < 0 {
		t.Fatal(err)
	}
	syscall.CloseOnExec(fd)
	return fd
}

// join adds a flow and returns the two outer ends.
func (r *rig) join(fl Flow) (c, u *net.TCPConn) {
	r.t.Helper()
	c, fl.Client = pair(r.t)
	u, fl.Upstream = pair(r.t)
	if fl.Tag == 0 {
		r.tag++
		fl.Tag = r.tag
	}
	deadline := time.Now().Add(guard)
	_ = c.SetDeadline(deadline)
	_ = u.SetDeadline(deadline)
	if err := r.Add(fl); err != nil {
		r.t.Fatal(err)
	}
	return c, u
}

func (r *rig) result() Result {
	r.t.Helper()
	select {
	case x := <-r.results:
		if x.Client != -1 || x.Upstream != -1 {
			r.t.Errorf("result with descriptors %d, %d", x.Client, x.Upstream)
		}
		return x
	case <-time.After(guard):
		r.t.Fatal("no result")
		return Result{}
	}
}

func name(t testing.TB, s string) endpoint.Name {
	t.Helper()
	n, err := endpoint.ParseName(s)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func inspected(t testing.TB, port uint16) Flow {
	return Flow{
		Inspect: true, Names: []endpoint.Name{name(t, "other.test"), name(t, "api.test")},
		Dst: netip.AddrPortFrom(netip.MustParseAddr("203.0.113.5"), port),
	}
}

// silent checks that the upstream saw the end of the connection and no byte.
func silent(t testing.TB, u *net.TCPConn) {
	t.Helper()
	b, err := io.ReadAll(u)
	if len(b) != 0 || err != nil && !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("upstream saw %q, %v", b, err)
	}
}

func must[T any](v T, err error) func(testing.TB) T {
	return func(t testing.TB) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}
