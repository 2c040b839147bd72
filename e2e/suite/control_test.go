package suite

import (
	"encoding/json"
	"io"
	"strings"
	"testing"

	"github.com/sandlock/sandlock/internal/lab"
	"golang.org/x/sys/unix"
)

// A run is listed, inspected and ended by its name, by its owner only, and from
// no sandbox.
func TestRunningSandboxes(t *testing.T) {
	asUsers(t, func(t *testing.T, u lab.User) {
		name := "run-" + lab.Nonce()
		c := lab.Command(t.Context(), t, u, lab.NetArgs([]string{"--quiet", "--name", name, "--allow", "a.test:443"}, "sh", "-c", "echo up; exec sleep 1000")...)
		out, err := c.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := c.Start(); err != nil {
			t.Fatal(err)
		}
		defer c.Process.Kill()
		if _, err := io.ReadFull(out, make([]byte, 3)); err != nil {
			t.Fatal(err)
		}
		ask := func(args ...string) lab.Result { return lab.Run(t, u, append([]string{lab.Sandlock()}, args...)...) }
		var runs []struct {
			Name, State string
			PID         int
		}
		if r := ask("ps", "--json"); json.Unmarshal([]byte(r.Stdout), &runs) != nil || len(runs) != 1 || runs[0].Name != name || runs[0].State != "running" || runs[0].PID == 0 {
			t.Errorf("ps: %+v", r)
		}
		if r := ask("ps"); !strings.Contains(r.Stdout, name) || !strings.Contains(r.Stdout, "sh -c") {
			t.Errorf("ps: %+v", r)
		}
		if r := ask("inspect", name, "--toml"); !strings.Contains(r.Stdout, "a.test:443") {
			t.Errorf("inspect: %+v", r)
		}
		if r := ask("inspect", name, "--chains"); !strings.Contains(r.Stdout, "net.connect") {
			t.Errorf("inspect: %+v", r)
		}
		if r := lab.Run(t, u, lab.NetArgs([]string{"--quiet", "--name", name}, "true")...); r.Code != 2 || !strings.Contains(r.Stderr, name) {
			t.Errorf("a second run: %+v", r)
		}
		for _, who := range []lab.Result{lab.Run(t, u, lab.NetArgs([]string{"--quiet"}, lab.Sandlock(), "kill", name)...), ask("kill", "none")} {
			if who.Code != 1 {
				t.Errorf("kill: %+v", who)
			}
		}
		for _, other := range lab.Users {
			if other != u && !lab.Nested() {
				if r := lab.Run(t, other, lab.Sandlock(), "kill", name); r.Code != 1 {
					t.Errorf("kill by %s: %+v", other, r)
				}
			}
		}
		// A stopped run is found and ended all the same.
		if err := c.Process.Signal(unix.SIGSTOP); err != nil {
			t.Fatal(err)
		}
		if r := ask("ps"); !strings.Contains(r.Stdout, name) || !strings.Contains(r.Stdout, "stopped") {
			t.Errorf("ps of a stopped run: %+v", r)
		}
		if r := ask("kill", name); r.Code != 0 {
			t.Errorf("kill: %+v", r)
		}
		if c.Wait(); c.ProcessState.ExitCode() != 137 {
			t.Errorf("the run: %v", c.ProcessState)
		}
		if r := ask("ps"); r.Stdout != "No running sandboxes.\n" {
			t.Errorf("ps: %+v", r)
		}
	})
}
