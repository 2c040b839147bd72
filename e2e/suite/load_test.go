package suite

import (
	"fmt"
	"net"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/sandlock/sandlock/internal/lab"
	"golang.org/x/sys/unix"
)

// heldUp is how long a hostile process may delay a call of another, alarmLate how
// late a signal may come through, and heldUpTries how often that is tried in all: a
// busy machine delays now and then, a loop that can be held up is held up every
// time.
const (
	heldUp      = 50 * time.Millisecond
	heldUpTries = 5
	alarmLate   = 150 * time.Millisecond
)

// listenFull returns a listener that accepts nothing and has a backlog of one:
// connects to it wait once the probe has filled it.
func listenFull(t *testing.T) (ip, port string) {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	f := os.NewFile(uintptr(fd), "full")
	t.Cleanup(func() { f.Close() })
	if err := unix.Bind(fd, &unix.SockaddrInet4{Addr: lab.Evil4.As4()}); err != nil {
		t.Fatal(err)
	}
	if err := unix.Listen(fd, 0); err != nil {
		t.Fatal(err)
	}
	l, err := net.FileListener(f)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return hostPort(l.Addr().(*net.TCPAddr).AddrPort())
}

// One process that waits in connect delays no other.
func TestBlockingConnect(t *testing.T) {
	p := lab.Probe(t)
	asUsers(t, func(t *testing.T, u lab.User) {
		ip, port := listenFull(t)
		aip, aport := hostPort(sink(t, lab.Allowed4))
		r := lab.Net(t, u, []string{"--allow", ip, "--allow", aip}, p, "stalled", ip, port, aip, aport)
		if r.Code != 0 || !strings.Contains(r.Stdout, "waiting=1") {
			t.Fatalf("code %d: %s%s", r.Code, r.Stdout, r.Stderr)
		}
		t.Log(strings.TrimSpace(r.Stdout))
	})
}

// alarm(1) interrupts a connect that waits: for a full backlog, for an address
// that does not answer, for a name whose connection the supervisor dials itself.
func TestAlarm(t *testing.T) {
	p := lab.Probe(t)
	black := lab.Black4.String()
	asUsers(t, func(t *testing.T, u lab.User) {
		ip, port := listenFull(t)
		for _, c := range []struct {
			name string
			rule string
			args []string
		}{
			{"backlog", ip, []string{p, "alarm", ip, port}}, {"address", black, []string{p, "alarm", black, "443", "x"}},
			{"name", "black.test:443", []string{"sh", "-c", `getent hosts black.test >/dev/null; exec "$@"`, "sh", p, "alarm", black, "443", "x"}},
		} {
			best := time.Hour
			for i := 0; i < heldUpTries && best > alarmLate; i++ {
				r := lab.Net(t, u, []string{"--allow", c.rule}, c.args...)
				var ms int
				if _, err := fmt.Sscanf(r.Stdout, "ms %d\nfail EINTR connect", &ms); err != nil || ms < 999 {
					t.Fatalf("%s: code %d: %s%s", c.name, r.Code, r.Stdout, r.Stderr)
				}
				best = min(best, time.Duration(ms)*time.Millisecond-time.Second)
			}
			if best > alarmLate {
				t.Errorf("%s: the signal comes through %s late at best", c.name, best)
			}
			t.Logf("%s: %s late", c.name, best)
		}
	})
}

// Where a signal's handler asks for it, a connect that waits goes on after the
// signal and does not return.
func TestRestart(t *testing.T) {
	p := lab.Probe(t)
	black := lab.Black4.String()
	look := []string{"sh", "-c", `getent hosts black.test >/dev/null; exec "$@"`, "sh", p, "restart", black, "443"}
	if r := lab.Run(t, lab.Ordinary, look...); !strings.Contains(r.Stdout, "ok restarted") {
		t.Fatalf("control: %s%s", r.Stdout, r.Stderr)
	}
	for _, rule := range []string{black, "black.test:443"} {
		if r := lab.Net(t, lab.Ordinary, []string{"--allow", rule}, look...); !strings.Contains(r.Stdout, "ok restarted") {
			t.Errorf("%s: %s%s", rule, r.Stdout, r.Stderr)
		}
	}
}

func TestManyConnections(t *testing.T) {
	p := lab.Probe(t)
	at := sink(t, lab.Allowed4)
	aip, aport := hostPort(at)
	eip, eport := hostPort(sink(t, lab.Evil4))
	asUsers(t, func(t *testing.T, u lab.User) {
		many := []string{"sh", "-c", "ulimit -n 4096; getent hosts four.test >/dev/null; exec \"$@\"", "sh", p}
		r := lab.Net(t, u, []string{"--allow", at.String()}, append(many, "hold", aip, aport, "2000")...)
		if r.Code != 0 {
			t.Errorf("2000 connections: code %d: %s%s", r.Code, r.Stdout, r.Stderr)
		}
		r = lab.Net(t, u, []string{"--allow", "four.test:80"}, append(many, "hold-http", aip, "80", "four.test", "2000")...)
		if r.Code != 0 {
			t.Errorf("2000 connections to a name: code %d: %s%s", r.Code, r.Stdout, r.Stderr)
		}
		r = lab.Net(t, u, []string{"--quiet", "--allow", at.String()}, p, "threads", aip, aport, eip, eport, "200")
		if r.Code != 0 {
			t.Errorf("200 threads: code %d: %s%s", r.Code, r.Stdout, r.Stderr)
		}
	})
}

// A process that waits, or plays with flags, lingering sockets and its memory
// while the supervisor works for it, delays no call of another process.
func TestHostileProcess(t *testing.T) {
	p := lab.Probe(t)
	at := sink(t, lab.Allowed4)
	aip, aport := hostPort(at)
	for _, how := range []string{"setfl", "linger", "memory", "crowd"} {
		t.Run(how, func(t *testing.T) {
			best := time.Hour
			for range heldUpTries {
				ip, port := listenFull(t)
				r := lab.Net(t, lab.Ordinary, []string{"--quiet", "--allow", ip, "--allow", aip}, p, "hostile", how, raceSeconds(), aip, aport, ip, port)
				var calls, worst int
				_, text, _ := strings.Cut(r.Stdout, "ok playing=1 ")
				if _, err := fmt.Sscanf(text, "calls=%d worst=%d", &calls, &worst); err != nil || calls == 0 {
					t.Fatalf("code %d: %s%s", r.Code, r.Stdout, r.Stderr)
				}
				best = min(best, time.Duration(worst)*time.Microsecond)
				t.Logf("%d calls, the longest took %d us", calls, worst)
				if best <= heldUp {
					return
				}
			}
			t.Errorf("a call of another process takes %s at best", best)
		})
	}
}
