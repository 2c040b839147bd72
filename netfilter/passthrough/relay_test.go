package passthrough

import (
	"crypto/sha256"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"runtime"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// sendRandom writes n random bytes in pieces of random size, ends the direction and
// returns their checksum.
func sendRandom(t *testing.T, c *net.TCPConn, n int, seed uint64) [32]byte {
	src := rand.NewChaCha8([32]byte{byte(seed), byte(seed >> 8)})
	sizes := rand.New(rand.NewPCG(seed, 1))
	sum := sha256.New()
	buf := make([]byte, 256<<10)
	for n > 0 {
		b := buf[:min(n, 1+sizes.IntN(len(buf)))]
		_, _ = src.Read(b)
		sum.Write(b)
		if _, err := c.Write(b); err != nil {
			t.Errorf("write: %v", err)
			break
		}
		n -= len(b)
	}
	_ = c.CloseWrite()
	return [32]byte(sum.Sum(nil))
}

func receive(t *testing.T, c *net.TCPConn) ([32]byte, int64) {
	sum := sha256.New()
	n, err := io.Copy(sum, c)
	if err != nil {
		t.Errorf("read after %d bytes: %v", n, err)
	}
	return [32]byte(sum.Sum(nil)), n
}

func exchange(t *testing.T, c, u *net.TCPConn, up, down int, seed uint64) {
	var wg sync.WaitGroup
	var sent, got [2][32]byte
	wg.Go(func() { sent[0] = sendRandom(t, c, up, seed) })
	wg.Go(func() { sent[1] = sendRandom(t, u, down, seed+1) })
	wg.Go(func() { got[0], _ = receive(t, u) })
	wg.Go(func() { got[1], _ = receive(t, c) })
	wg.Wait()
	if sent != got {
		t.Errorf("flow %d: checksums differ", seed)
	}
	c.Close()
	u.Close()
}

func TestRandomDataBothWays(t *testing.T) {
	r := newRig(t, HelloTimeout, lingerTimeout)
	c, u := r.join(Flow{PID: 7, Tag: 99})
	exchange(t, c, u, 40<<20+1, 30<<20+3, 1)
	if x := r.result(); x.Err != nil || x.Outcome != Passed || x.BytesUp != 40<<20+1 || x.BytesDown != 30<<20+3 || x.PID != 7 || x.Tag != 99 {
		t.Errorf("%+v", x)
	}
}

func TestThousandFlows(t *testing.T) {
	raise(t)
	r := newRig(t, HelloTimeout, lingerTimeout)
	const flows = 1000
	var wg sync.WaitGroup
	for i := range flows {
		c, u := r.join(Flow{})
		wg.Go(func() { exchange(t, c, u, 20000+i, 30000+i, uint64(i)) })
	}
	wg.Wait()
	for range flows {
		if x := r.result(); x.Err != nil {
			t.Errorf("%+v", x)
		}
	}
	if err := r.Close(); err != nil {
		t.Error(err)
	}
	if n := r.pipes.made; n == 0 || n > maxPipes {
		t.Errorf("%d pipes were kept", n)
	}
}

// raise lifts the soft limit on descriptors to the hard one.
func raise(t *testing.T) {
	t.Helper()
	var l syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &l); err != nil {
		t.Fatal(err)
	}
	if l.Max < 5000 {
		t.Skipf("at most %d descriptors", l.Max)
	}
	old := l
	l.Cur = l.Max
	if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &l); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = syscall.Setrlimit(syscall.RLIMIT_NOFILE, &old) })
}

func TestHalfClose(t *testing.T) {
	r := newRig(t, HelloTimeout, lingerTimeout)
	for turn := range 2 {
		a, b := r.join(Flow{})
		if turn == 1 {
			a, b = b, a
		}
		_, _ = a.Write([]byte("question"))
		_ = a.CloseWrite()
		if got := string(must(io.ReadAll(b))(t)); got != "question" {
			t.Errorf("%q", got)
		}
		_, _ = b.Write([]byte("answer"))
		got := make([]byte, 6)
		if _, err := io.ReadFull(a, got); err != nil || string(got) != "answer" {
			t.Errorf("%q, %v", got, err)
		}
		b.Close()
		if _, err := a.Read(got); err != io.EOF {
			t.Error(err)
		}
		a.Close()
		if x := r.result(); x.Err != nil {
			t.Errorf("%+v", x)
		}
	}
}

// A reader that does not read stops the writer, and nothing piles up here.
func TestBackPressure(t *testing.T) {
	r := newRig(t, HelloTimeout, lingerTimeout)
	c, u := r.join(Flow{})
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	chunk := make([]byte, 64<<10)
	sent := 0
	for {
		_ = c.SetWriteDeadline(time.Now().Add(300 * time.Millisecond))
		n, err := c.Write(chunk)
		sent += n
		if err != nil {
			break
		}
		if sent > 256<<20 {
			t.Fatal("the writer was never stopped")
		}
	}
	runtime.GC()
	runtime.ReadMemStats(&after)
	if grown := int64(after.HeapAlloc) - int64(before.HeapAlloc); grown > 256<<10 {
		t.Errorf("heap grew by %d for %d bytes under way", grown, sent)
	}
	go func() { _ = c.CloseWrite() }()
	if n := must(io.Copy(io.Discard, u))(t); n != int64(sent) {
		t.Errorf("%d of %d bytes arrived", n, sent)
	}
}

func TestResetPropagates(t *testing.T) {
	r := newRig(t, HelloTimeout, lingerTimeout)
	for turn := range 2 {
		a, b := r.join(Flow{})
		if turn == 1 {
			a, b = b, a
		}
		_, _ = a.Write([]byte("last words"))
		got := make([]byte, 10)
		if _, err := io.ReadFull(b, got); err != nil {
			t.Fatal(err)
		}
		_ = a.SetLinger(0)
		a.Close()
		if _, err := b.Read(got); !errors.Is(err, syscall.ECONNRESET) {
			t.Errorf("turn %d: %v", turn, err)
		}
		if x := r.result(); !errors.Is(x.Err, unix.ECONNRESET) {
			t.Errorf("turn %d: %+v", turn, x)
		}
	}
}

// A server that answers and resets with the request half read: the answer
// arrives first, as it would without us.
func TestAnswerBeforeReset(t *testing.T) {
	r := newRig(t, HelloTimeout, lingerTimeout)
	c, u := r.join(Flow{})
	_, _ = c.Write(make([]byte, 100<<10))
	if _, err := io.ReadFull(u, make([]byte, 1000)); err != nil {
		t.Fatal(err)
	}
	_, _ = u.Write([]byte("no more"))
	u.Close() // with unread bytes: a reset
	got := make([]byte, 7)
	if _, err := io.ReadFull(c, got); err != nil || string(got) != "no more" {
		t.Errorf("%q, %v", got, err)
	}
	if x := r.result(); x.Err == nil {
		t.Errorf("%+v", x)
	}
}

// Writing to a peer that is gone is an error, and no signal ends the process.
func TestBrokenPipeIsHarmless(t *testing.T) {
	r := newRig(t, HelloTimeout, lingerTimeout)
	c, u := r.join(Flow{})
	u.Close()
	if _, err := c.Read(make([]byte, 1)); err != io.EOF {
		t.Fatal(err)
	}
	for {
		if _, err := c.Write(make([]byte, 64<<10)); err != nil {
			break
		}
	}
	if x := r.result(); !errors.Is(x.Err, unix.ECONNRESET) && !errors.Is(x.Err, unix.EPIPE) {
		t.Errorf("%+v", x)
	}
}

func TestAbortAndClose(t *testing.T) {
	r := newRig(t, HelloTimeout, lingerTimeout)
	keep, keepUp := r.join(Flow{Tag: 5})
	c, u := r.join(Flow{Tag: 6})
	r.Abort(6)
	for _, x := range []*net.TCPConn{c, u} {
		if _, err := x.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
			t.Error(err)
		}
	}
	if x := r.result(); x.Err != ErrAborted || x.Tag != 6 {
		t.Errorf("%+v", x)
	}
	_, _ = keep.Write([]byte("x"))
	if _, err := keepUp.Read(make([]byte, 1)); err != nil {
		t.Error(err)
	}
	waiting, _ := r.join(inspected(t, 80))
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if x := r.result(); x.Err != ErrClosed {
			t.Errorf("%+v", x)
		}
	}
	for _, x := range []*net.TCPConn{keep, waiting} {
		if _, err := x.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
			t.Error(err)
		}
	}
	late, fd := pair(t)
	up, fd2 := pair(t)
	if err := r.Add(Flow{Client: fd, Upstream: fd2}); err != ErrClosed {
		t.Error(err)
	}
	for _, x := range []*net.TCPConn{late, up} {
		if _, err := x.Read(make([]byte, 1)); err != io.EOF {
			t.Errorf("not closed by a failed Add: %v", err)
		}
	}
	r.Abort(5)
}

func TestAddOfABadDescriptorClosesTheOther(t *testing.T) {
	r := newRig(t, HelloTimeout, lingerTimeout)
	c, fd := pair(t)
	if err := r.Add(Flow{Client: fd, Upstream: -1}); !errors.Is(err, unix.EBADF) {
		t.Error(err)
	}
	if _, err := c.Read(make([]byte, 1)); err != io.EOF {
		t.Error(err)
	}
}

// With no descriptor left for a pipe the bytes take the other way.
func TestWithoutPipes(t *testing.T) {
	r := newRig(t, HelloTimeout, lingerTimeout)
	c, u := r.join(Flow{})
	var old syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &old); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &syscall.Rlimit{Cur: 3, Max: old.Max}); err != nil {
		t.Fatal(err)
	}
	exchange(t, c, u, 5<<20+1, 3<<20+1, 4)
	x := r.result()
	if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &old); err != nil {
		t.Fatal(err)
	}
	if x.Err != nil || x.BytesUp != 5<<20+1 || x.BytesDown != 3<<20+1 {
		t.Errorf("%+v", x)
	}
	if err := r.Close(); err != nil {
		t.Error(err)
	}
	if n := r.pipes.made; n != 0 {
		t.Errorf("%d pipes were made", n)
	}
}

func TestIdleFlowIsSmall(t *testing.T) {
	raise(t)
	r := newRig(t, HelloTimeout, lingerTimeout)
	const flows = 500
	fds := make([]Flow, flows)
	ends := make([]*net.TCPConn, 0, 2*flows)
	for i := range fds {
		fl := inspected(t, 80)
		fl.Tag = uint64(i + 1)
		var c, u *net.TCPConn
		c, fl.Client = pair(t)
		u, fl.Upstream = pair(t)
		fds[i] = fl
		ends = append(ends, c, u)
	}
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	for _, fl := range fds {
		if err := r.Add(fl); err != nil {
			t.Fatal(err)
		}
	}
	r.Abort(flows) // answered in order, so all were admitted when it is reported
	r.result()
	runtime.GC()
	runtime.ReadMemStats(&after)
	if each := int64(after.HeapAlloc-before.HeapAlloc) / flows; each > 1536 {
		t.Errorf("%d bytes an idle flow", each)
	} else {
		t.Logf("%d bytes an idle flow", each)
	}
	runtime.KeepAlive(ends)
}
