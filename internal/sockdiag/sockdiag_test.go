package sockdiag

import (
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/sandlock/sandlock/internal/sys"
)

func TestTCPNamesTheListener(t *testing.T) {
	// An MPTCP socket, Go's default, has another cookie than its TCP subflow.
	var lc net.ListenConfig
	lc.SetMultipathTCP(false)
	l, err := lc.Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	ap := netip.MustParseAddrPort(l.Addr().String())
	got, err := TCP(ap.Port())
	if err != nil {
		t.Fatal(err)
	}
	want := cookieOf(t, l.(*net.TCPListener))
	if !slices.ContainsFunc(got, func(g Listener) bool { return g.Cookie == want && g.Covers(ap) }) {
		t.Fatalf("listeners %v lack cookie %d", got, want)
	}
	l.Close()
	if got, _ = TCP(ap.Port()); slices.ContainsFunc(got, func(g Listener) bool { return g.Cookie == want }) {
		t.Fatal("a closed listener is still named")
	}
}

func TestOverlaps(t *testing.T) {
	at := func(text string) Listener {
		text, only := strings.CutSuffix(text, " only")
		return Listener{Addr: netip.MustParseAddrPort(text), V6Only: only}
	}
	for _, c := range []struct {
		a, b string
		want bool
	}{
		{"127.0.0.1:80", "127.0.0.1:80", true}, {"127.0.0.1:80", "127.0.0.1:81", false}, {"127.0.0.1:80", "127.0.0.2:80", false},
		{"127.0.0.1:80", "0.0.0.0:80", true}, {"127.0.0.1:80", "[::]:80", true}, {"127.0.0.1:80", "[::]:80 only", false},
		{"0.0.0.0:80", "[::]:80", true}, {"0.0.0.0:80", "[::]:80 only", false}, {"[::1]:80", "0.0.0.0:80", false}, {"[::1]:80", "[::]:80 only", true},
		{"[::ffff:127.0.0.1]:80", "127.0.0.1:80", true}, {"[::]:80 only", "[::]:80", true}, {"[::1]:80", "127.0.0.1:80", false},
	} {
		if a, b := at(c.a), at(c.b); a.Overlaps(b) != c.want || b.Overlaps(a) != c.want {
			t.Errorf("%s and %s: %v, %v, want %v", c.a, c.b, a.Overlaps(b), b.Overlaps(a), c.want)
		}
	}
}

// The kernel tells which listeners of [::] take IPv6 only.
func TestTCPTellsV6Only(t *testing.T) {
	for network, want := range map[string]bool{"tcp": false, "tcp6": true} {
		var lc net.ListenConfig
		lc.SetMultipathTCP(false)
		l, err := lc.Listen(t.Context(), network, "[::]:0")
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		ap := netip.MustParseAddrPort(l.Addr().String())
		got, err := TCP(ap.Port())
		if err != nil || len(got) != 1 || got[0].V6Only != want {
			t.Errorf("%s: %+v, %v", network, got, err)
		}
	}
}

func TestUnixNamesTheListener(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	fi, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	got, err := Unix(fi.Sys().(*syscall.Stat_t).Ino)
	if err != nil {
		t.Fatal(err)
	}
	want := cookieOf(t, l.(*net.UnixListener))
	if !slices.ContainsFunc(got, func(g UnixSocket) bool { return g.Cookie == want && g.Dev != 0 }) {
		t.Fatalf("listeners %v lack cookie %d", got, want)
	}
}

func cookieOf(t *testing.T, c syscall.Conn) (cookie uint64) {
	t.Helper()
	rc, err := c.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	rc.Control(func(fd uintptr) { cookie, err = sys.Cookie(int(fd)) })
	if err != nil {
		t.Fatal(err)
	}
	return cookie
}
