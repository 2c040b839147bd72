package suite

import (
	"strconv"
	"strings"
	"testing"

	"github.com/sandlock/sandlock/internal/lab"
)

// sendAll sends a text to an address and waits for the end of what comes back.
const sendAll = `
import socket, sys
s = socket.create_connection((sys.argv[1], int(sys.argv[2])), 20)
s.sendall(sys.argv[3].encode().decode('unicode_escape').encode())
try:
    s.shutdown(socket.SHUT_WR)
    while s.recv(4096): pass
except OSError as e:
    print(e)
`

// A request that begins with an empty line, which servers skip, does not pass for
// another protocol where only some requests of a host are allowed.
func TestEmptyLineHidesNoRequest(t *testing.T) {
	at := sink(t, lab.Allowed4)
	port := strconv.Itoa(int(at.Port()))
	flags := []string{"--allow", "*", "--http-allow", "GET allowed.test:" + port + "/ok/*"}
	asUsers(t, func(t *testing.T, u lab.User) {
		for _, start := range []string{`\r\n`, `\n`, `\r\n\r\n`} {
			n := lab.Nonce()
			cmd := []string{python, "-c", sendAll, at.Addr().String(), port, start + head("POST /no/"+n, "allowed.test:"+port, n)}
			lab.Bare(t, u, n, cmd...)
			// The star opens the address: a connection arrives, no byte does.
			m := lab.Now()
			r := lab.Net(t, u, flags, cmd...)
			for _, a := range m.Since(t) {
				if a.Kind == "data" {
					t.Errorf("%q: %s saw %q: %s%s", start, a.Sink, a.Text, r.Stdout, r.Stderr)
				}
			}
			if !r.Denied(at.Addr().String()) {
				t.Errorf("%q: no denial in the log: %v", start, r.Log)
			}
		}
		// Another protocol passes.
		n := lab.Nonce()
		m := lab.Now()
		r := lab.Net(t, u, flags, python, "-c", sendAll, at.Addr().String(), port, "hello "+n)
		passed := false
		for _, a := range m.Since(t) {
			passed = passed || a.Kind == "data" && strings.Contains(a.Text, n)
		}
		if !passed {
			t.Errorf("another protocol did not arrive: %s%s", r.Stdout, r.Stderr)
		}
	})
}
