package neighbour

import (
	"context"
	"errors"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

func name(t *testing.T) string {
	return "t" + strconv.Itoa(os.Getpid()) + "-" + strings.ToLower(t.Name())
}

func TestFind(t *testing.T) {
	at := netip.MustParseAddrPort("127.0.0.1:4711")
	s, err := Serve(name(t), func(port uint16) (netip.AddrPort, bool) { return at, port == 80 })
	if err != nil {
		t.Fatal(err)
	}
	if got, err := Find(context.Background(), name(t), 80); err != nil || got != at {
		t.Fatal(got, err)
	}
	if got, err := Find(context.Background(), name(t), 81); !errors.Is(err, ErrNone) {
		t.Fatal(got, err)
	}
	if _, err := Serve(name(t), nil); !errors.Is(err, ErrTaken) {
		t.Fatal(err)
	}
	s.Close()
	if got, err := Find(context.Background(), name(t), 80); !errors.Is(err, ErrNone) {
		t.Fatal(got, err)
	}
}

// Only loopback is believed, whoever answers.
func TestFindBelievesLoopbackOnly(t *testing.T) {
	s, err := Serve(name(t), func(uint16) (netip.AddrPort, bool) { return netip.MustParseAddrPort("192.0.2.1:80"), true })
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if got, err := Find(context.Background(), name(t), 80); err == nil {
		t.Fatal(got)
	}
}

// One that takes the name and says nothing costs a little time.
func TestFindGivesUp(t *testing.T) {
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	if err := unix.Bind(fd, &unix.SockaddrUnix{Name: address(name(t)).Name}); err != nil {
		t.Fatal(err)
	}
	if err := unix.Listen(fd, 1); err != nil {
		t.Fatal(err)
	}
	if got, err := Find(context.Background(), name(t), 80); err == nil {
		t.Fatal(got)
	}
}

func TestCheckName(t *testing.T) {
	for n, ok := range map[string]bool{"a": true, "redis-1": true, "": false, "A": false, "a.b": false, "-a": false, "a-": false, "a_b": false,
		strings.Repeat("a", 63): true, strings.Repeat("a", 64): false, "a\n": false} {
		if err := CheckName(n); (err == nil) != ok {
			t.Errorf("%q: %v", n, err)
		}
	}
}
