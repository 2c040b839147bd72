package lab

import (
	"fmt"
	"net"
	"net/netip"
	"os"
	"runtime"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// outside carries work to the thread that lives in the neighbouring network.
var outside = make(chan func())

// startOutside makes a second network namespace, which a pair of virtual
// Ethernet devices joins to the lab: what comes from there comes from another
// machine, as far as the lab's sockets can tell.
func startOutside() error {
	ready := make(chan error)
	go func() {
		runtime.LockOSThread() // for good: the thread's namespace is its own
		ready <- enterOutside()
		for f := range outside {
			f()
		}
	}()
	// The first message says that the namespace exists; ours gets its end then.
	if err := <-ready; err != nil {
		return fmt.Errorf("network outside: %w", err)
	}
	link, err := netlink.LinkByName("near")
	if err == nil {
		err = address(link, Near4)
	}
	if err == nil {
		// A host that does not forward, which drops what is not for itself.
		to := net.IPNet{IP: Black4.AsSlice(), Mask: net.CIDRMask(Black4.BitLen(), Black4.BitLen())}
		err = netlink.RouteAdd(&netlink.Route{LinkIndex: link.Attrs().Index, Dst: &to, Gw: Outside4.AsSlice()})
	}
	if err != nil {
		return fmt.Errorf("network outside: %w", err)
	}
	return nil
}

func enterOutside() error {
	home, err := os.Open("/proc/thread-self/ns/net")
	if err != nil {
		return err
	}
	defer home.Close()
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		return err
	}
	attrs := netlink.NewLinkAttrs()
	attrs.Name = "far"
	if err := netlink.LinkAdd(&netlink.Veth{LinkAttrs: attrs, PeerName: "near", PeerNamespace: netlink.NsFd(home.Fd())}); err != nil {
		return err
	}
	link, err := netlink.LinkByName("far")
	if err != nil {
		return err
	}
	return address(link, Outside4)
}

func address(link netlink.Link, a netip.Addr) error {
	n := net.IPNet{IP: a.AsSlice(), Mask: net.CIDRMask(24, a.BitLen())}
	if err := netlink.AddrAdd(link, &netlink.Addr{IPNet: &n}); err != nil {
		return err
	}
	return netlink.LinkSetUp(link)
}

// DialOutside connects from outside the lab to an address of it, over TCP and
// IPv4.
func DialOutside(_, target string, timeout time.Duration) (net.Conn, error) {
	to, err := netip.ParseAddrPort(target)
	if err != nil {
		return nil, err
	}
	var conn net.Conn
	there(func() { conn, err = dialHere(to, timeout) })
	return conn, err
}

// TCPOutside opens a TCP sink on a free port of Outside4.
func TCPOutside(t testing.TB) netip.AddrPort {
	t.Helper()
	var l net.Listener
	var err error
	there(func() { l, err = listenTCPHere(Outside4) })
	if err != nil {
		t.Fatal(err)
	}
	serveStream(t, "tcp ", l)
	return l.Addr().(*net.TCPAddr).AddrPort()
}

// UDPOutside opens a UDP sink on a free port of Outside4.
func UDPOutside(t testing.TB) netip.AddrPort {
	t.Helper()
	var c net.PacketConn
	var err error
	there(func() { c, err = bindUDPHere(Outside4) })
	if err != nil {
		t.Fatal(err)
	}
	servePackets(t, "udp "+c.LocalAddr().String(), c)
	return c.LocalAddr().(*net.UDPAddr).AddrPort()
}

// there runs f on the thread of the neighbouring network.
func there(f func()) {
	done := make(chan struct{})
	outside <- func() {
		defer close(done)
		f()
	}
	<-done
}

// boundHere returns a bound socket of the calling thread's namespace, which the
// caller closes.
func boundHere(typ int, at netip.Addr) (*os.File, error) {
	fd, err := unix.Socket(unix.AF_INET, typ|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	f := os.NewFile(uintptr(fd), "outside")
	if err := unix.Bind(fd, &unix.SockaddrInet4{Addr: at.As4()}); err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

// bindUDPHere binds in the calling thread's namespace.
func bindUDPHere(at netip.Addr) (net.PacketConn, error) {
	f, err := boundHere(unix.SOCK_DGRAM, at)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return net.FilePacketConn(f)
}

// listenTCPHere listens in the calling thread's namespace.
func listenTCPHere(at netip.Addr) (net.Listener, error) {
	f, err := boundHere(unix.SOCK_STREAM, at)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	if err := unix.Listen(int(f.Fd()), unix.SOMAXCONN); err != nil {
		return nil, err
	}
	return net.FileListener(f)
}

// dialHere connects in the calling thread's namespace: net.Dial would move to
// other threads.
func dialHere(to netip.AddrPort, timeout time.Duration) (net.Conn, error) {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	f := os.NewFile(uintptr(fd), "outside")
	defer f.Close()
	limit := unix.NsecToTimeval(int64(timeout))
	if err := unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_SNDTIMEO, &limit); err != nil {
		return nil, err
	}
	if err := unix.Connect(fd, &unix.SockaddrInet4{Port: int(to.Port()), Addr: to.Addr().As4()}); err != nil {
		return nil, err
	}
	return net.FileConn(f)
}
