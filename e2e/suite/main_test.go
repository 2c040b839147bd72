// Package suite tests the program end to end, with real clients and with probes
// that try to get past it, in a lab that no packet can leave.
package suite

import (
	"net/netip"
	"os"
	"strconv"
	"testing"

	"github.com/sandlock/sandlock/internal/lab"
)

func TestMain(m *testing.M) { lab.Main(m, "../..") }

// asUsers runs a test as root and as an ordinary user.
func asUsers(t *testing.T, f func(t *testing.T, u lab.User)) {
	for _, u := range lab.Users {
		t.Run(string(u), func(t *testing.T) { f(t, u) })
	}
}

// raceSeconds is how long each race runs.
func raceSeconds() string {
	if os.Getenv("SANDLOCK_LONG") != "" {
		return "30"
	}
	return "1"
}

func hostPort(a netip.AddrPort) (string, string) {
	return a.Addr().String(), strconv.Itoa(int(a.Port()))
}

func sink(t *testing.T, a netip.Addr) netip.AddrPort { return lab.TCP(t, netip.AddrPortFrom(a, 0)) }
