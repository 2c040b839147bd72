package suite

import (
	"bufio"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/sandlock/sandlock/internal/lab"
)

func TestExitCodes(t *testing.T) {
	asUsers(t, func(t *testing.T, u lab.User) {
		plain := filepath.Join(lab.Scratch(t, u), "plain")
		if err := os.WriteFile(plain, []byte("x"), 0o644); err != nil {
			t.Fatal(err)
		}
		for _, c := range []struct {
			name  string
			code  int
			flags []string
			cmd   []string
		}{
			{"own", 5, nil, []string{"sh", "-c", "exit 5"}}, {"signal", 128 + 15, nil, []string{"sh", "-c", "kill $$"}},
			{"time-out", 124, []string{"--timeout", "100ms"}, []string{"sleep", "60"}}, {"not found", 127, nil, []string{"no-such-command"}},
			{"not executable", 126, nil, []string{plain}}, {"empty rule", 2, []string{"--allow", ""}, []string{"true"}}, {"bad rule", 2, []string{"--allow", "a..b:443"}, []string{"true"}},
			{"bad port", 2, []string{"--allow", "a.test:99999"}, []string{"true"}}, {"unknown flag", 2, []string{"--no-such"}, []string{"true"}},
			{"denied again", 2, []string{"--allow", "a.test:443", "--deny", "*"}, []string{"true"}},
		} {
			t.Run(c.name, func(t *testing.T) {
				if r := lab.Run(t, u, lab.NetArgs(c.flags, c.cmd...)...); r.Code != c.code {
					t.Errorf("code %d, want %d: %s", r.Code, c.code, r.Stderr)
				}
			})
		}
		if r := lab.Run(t, u, lab.Sandlock(), "net"); r.Code != 2 {
			t.Errorf("without a command: code %d: %s", r.Code, r.Stderr)
		}
	})
}

// Whatever the command leaves behind ends with it.
func TestDescendantsEnd(t *testing.T) {
	asUsers(t, func(t *testing.T, u lab.User) {
		n := lab.Nonce()
		r := lab.Net(t, u, nil, "sh", "-c", "setsid sh -c ': "+n+"; while :; do sleep 1; done' & setsid sh -c 'trap \"\" TERM HUP; : "+n+"; while :; do sleep 1; done' & exit 3")
		if r.Code != 3 {
			t.Fatalf("code %d: %s", r.Code, r.Stderr)
		}
		dirs, _ := filepath.Glob("/proc/[0-9]*/cmdline")
		for _, d := range dirs {
			text, _ := os.ReadFile(d)
			if strings.Contains(string(text), n) || strings.HasPrefix(string(text), "sleep\x001000.000") {
				t.Errorf("left behind: %s %q", d, text)
			}
		}
	})
}

// Once the supervisor was killed, a command that resists reaches nothing new.
func TestSupervisorKilled(t *testing.T) {
	p := lab.Probe(t)
	at := sink(t, lab.Allowed4)
	ip, port := hostPort(at)
	asUsers(t, func(t *testing.T, u lab.User) {
		out, w, err := os.Pipe()
		if err != nil {
			t.Fatal(err)
		}
		defer out.Close()
		n := lab.Nonce()
		c := lab.Command(t.Context(), t, u, lab.NetArgs([]string{"--quiet", "--allow", at.String()}, "setsid", "--fork", "--wait", p, "orphan", ip, port, n)...)
		c.Stdout = w
		if err := c.Start(); err != nil {
			t.Fatal(err)
		}
		w.Close()
		out.SetReadDeadline(time.Now().Add(20 * time.Second))
		if line, err := bufio.NewReader(out).ReadString('\n'); err != nil || line != "ready\n" {
			t.Fatalf("%q %v", line, err)
		}
		m := lab.Now()
		c.Process.Kill()
		c.Wait()
		rest, err := io.ReadAll(out)
		if err != nil {
			t.Fatalf("the survivor hangs: %v", err)
		}
		if strings.Contains(string(rest), "ok") {
			t.Errorf("the survivor says %q", rest)
		}
		for _, a := range m.Since(t) {
			t.Errorf("%s reached %s: %q", a.Kind, a.Sink, a.Text)
		}
	})
}
