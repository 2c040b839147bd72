package suite

import (
	"path/filepath"
	"testing"

	"github.com/sandlock/sandlock/internal/lab"
)

// holdUp connects to a listener of its own whose backlog is full, while processes
// of its own take away each time-out that the shared socket gets.
const holdUp = `
import os, socket, struct, sys
l = socket.socket(socket.AF_UNIX); l.bind(sys.argv[1]); l.listen(0)
fill = socket.socket(socket.AF_UNIX); fill.connect(sys.argv[1])
s = socket.socket(socket.AF_UNIX)
never = struct.pack("ll", 0, 0)
for _ in range(3):
    if os.fork() == 0:
        while True: s.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, never)
if len(sys.argv) > 2 and os.fork() == 0:
    # Ready once the connect may be under way: the parent sleeps in it.
    while open("/proc/%d/stat" % os.getppid()).read().rsplit(")", 1)[1].split()[0] != "S": pass
    c = socket.socket(socket.AF_UNIX); c.settimeout(20)
    o = socket.socket(socket.AF_UNIX); o.bind(sys.argv[2]); o.listen()
    c.connect(sys.argv[2]); print("others connect", flush=True)
    l.accept()
    os._exit(0)
print("started", flush=True)
s.connect(sys.argv[1]); print("connected", flush=True)
`

// A program that holds up its own connect does not outlive the run.
func TestTimeoutDuringHeldUpConnect(t *testing.T) {
	asUsers(t, func(t *testing.T, u lab.User) {
		for _, name := range []string{"path", "abstract"} {
			place := filepath.Join(lab.Scratch(t, u), "s")
			script := holdUp
			if name == "abstract" {
				place = lab.Nonce()
				script = `import sys; sys.argv[1] = "\0" + sys.argv[1]` + holdUp
			}
			r := lab.Net(t, u, []string{"--timeout", "2s"}, python, "-c", script, place)
			if r.Code != 124 || r.Stdout != "started\n" {
				t.Errorf("%s: code %d: %q%s", name, r.Code, r.Stdout, r.Stderr)
			}
		}
	})
}

// Others connect while one is held up, and that one does once there is room.
func TestHeldUpConnectHoldsUpNobody(t *testing.T) {
	asUsers(t, func(t *testing.T, u lab.User) {
		dir := lab.Scratch(t, u)
		r := lab.Net(t, u, nil, python, "-c", holdUp, filepath.Join(dir, "full"), filepath.Join(dir, "other"))
		if r.Code != 0 || r.Stdout != "started\nothers connect\nconnected\n" {
			t.Errorf("code %d: %q%s", r.Code, r.Stdout, r.Stderr)
		}
	})
}
