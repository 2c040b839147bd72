package lab

import (
	"crypto/rand"
	"io"
	"net"
	"net/netip"
	"strings"
	"sync"
	"testing"
)

// fenceText begins the lab's own marks.
const fenceText = "lab-fence-"

// maxSeen bounds what is kept of one connection.
const maxSeen = 64 << 10

// fences are the sinks that are open: each call sends its sink one mark.
var fences struct {
	mu   sync.Mutex
	list map[int]func(mark string) error
	next int
}

func addFence(f func(string) error) func() {
	fences.mu.Lock()
	defer fences.mu.Unlock()
	if fences.list == nil {
		fences.list = map[int]func(string) error{}
	}
	n := fences.next
	fences.next++
	fences.list[n] = f
	return func() {
		fences.mu.Lock()
		defer fences.mu.Unlock()
		delete(fences.list, n)
	}
}

func fence(t testing.TB) {
	t.Helper()
	fences.mu.Lock()
	list := make([]func(string) error, 0, len(fences.list))
	for _, f := range fences.list {
		list = append(list, f)
	}
	fences.mu.Unlock()
	for _, f := range list {
		mark := fenceText + Nonce()
		// A datagram sink that is flooded drops marks too, so they are sent until
		// one arrives.
		if !record.wait(func() bool { return record.holds(mark) }, func() {
			if err := f(mark); err != nil {
				t.Errorf("a sink of the lab is dead: %v", err)
			}
		}) {
			t.Fatal("a sink of the lab takes no mark")
		}
	}
	if !record.wait(func() bool { return record.open == 0 }, nil) {
		t.Fatal("connections to sinks stay open although their clients have ended")
	}
}

// Nonce returns text that occurs nowhere else.
func Nonce() string { return "n" + strings.ToLower(rand.Text()) }

// TCP opens a sink that records accepts and data and echoes what it reads. Port
// 0 takes a free one. It is closed with the test.
func TCP(t testing.TB, at netip.AddrPort) netip.AddrPort {
	t.Helper()
	l, err := net.Listen("tcp", at.String())
	if err != nil {
		t.Fatal(err)
	}
	serveStream(t, "tcp ", l)
	return l.Addr().(*net.TCPAddr).AddrPort()
}

// Unix opens a stream or seqpacket ("unix", "unixpacket") or datagram
// ("unixgram") sink at a path, or at an abstract name that begins with "@".
func Unix(t testing.TB, network, path string) {
	t.Helper()
	if network == "unixgram" {
		c, err := net.ListenUnixgram(network, &net.UnixAddr{Name: path, Net: network})
		if err != nil {
			t.Fatal(err)
		}
		servePackets(t, "unixgram "+path, c)
		return
	}
	l, err := net.Listen(network, path)
	if err != nil {
		t.Fatal(err)
	}
	serveStream(t, network+" ", l)
}

func serveStream(t testing.TB, label string, l net.Listener) {
	sink := label + l.Addr().String()
	network, addr := l.Addr().Network(), l.Addr().String()
	undo := addFence(func(mark string) error {
		c, err := net.Dial(network, addr)
		if err != nil {
			return err
		}
		defer c.Close()
		_, err = io.WriteString(c, mark)
		return err
	})
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			record.opened(1)
			go func() {
				defer record.opened(-1)
				defer c.Close()
				readStream(sink, c)
			}()
		}
	}()
	t.Cleanup(func() { undo(); l.Close() })
}

// readStream records the accept with the first bytes, so that a fence's own
// connection can be told apart, and then all bytes.
func readStream(sink string, c net.Conn) {
	buf, seen := make([]byte, 4096), 0
	first := true
	for {
		n, err := c.Read(buf)
		text := string(buf[:n])
		if first {
			first = false
			if strings.HasPrefix(text, fenceText) {
				record.add(sink, "fence", text)
				return
			}
			record.add(sink, "accept", c.RemoteAddr().String())
		}
		if seen += n; n > 0 && seen <= maxSeen {
			record.add(sink, "data", text)
		}
		if n > 0 {
			c.Write(buf[:n])
		}
		if err != nil {
			return
		}
	}
}

// UDP opens a sink that records datagrams and echoes them.
func UDP(t testing.TB, at netip.AddrPort) netip.AddrPort {
	t.Helper()
	c, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(at))
	if err != nil {
		t.Fatal(err)
	}
	servePackets(t, "udp "+c.LocalAddr().String(), c)
	return c.LocalAddr().(*net.UDPAddr).AddrPort()
}

func servePackets(t testing.TB, sink string, c net.PacketConn) {
	to := c.LocalAddr()
	undo := addFence(func(mark string) error {
		d, err := net.Dial(to.Network(), to.String())
		if err != nil {
			return err
		}
		defer d.Close()
		_, err = io.WriteString(d, mark)
		return err
	})
	go func() {
		buf := make([]byte, 64<<10)
		for {
			n, from, err := c.ReadFrom(buf)
			if err != nil {
				return
			}
			record.add(sink, "data", string(buf[:n]))
			if from != nil && from.String() != "" {
				c.WriteTo(buf[:n], from)
			}
		}
	}()
	t.Cleanup(func() { undo(); c.Close() })
}
