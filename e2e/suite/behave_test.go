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

// Once the supervisor was killed, a command that does not resist is dead, and one
// that does reaches nothing new.
func TestSupervisorKilled(t *testing.T) {
	p := lab.Probe(t)
	at := sink(t, lab.Allowed4)
	lab.UDP(t, at)
	ip, port := hostPort(at)
	path := openUnix(t, "unix", "path")
	allow := []string{"--quiet", "--allow", at.String(), "--allow-unix", path, "--allow", "four.test:" + port, "--allow-bind", "*"}
	asUsers(t, func(t *testing.T, u lab.User) {
		for mode, flags := range map[string][]string{"contained": allow, "mediated": append(unrelated, allow...)} {
			t.Run(mode, func(t *testing.T) {
				n := lab.Nonce()
				out := killed(t, u, flags, "setsid", "--fork", "--wait", p, "orphan", ip, port, path, n)
				m := lab.Now()
				rest, err := io.ReadAll(out)
				if err != nil {
					t.Fatalf("the survivor hangs: %v", err)
				}
				// A mediated datagram socket is of no use but to send, which is refused.
				s := strings.Replace(string(rest), "ok datagram", "fail datagram", 1)
				if strings.Contains(s, "ok") || strings.Count(s, "fail") != 7 || !strings.HasSuffix(s, "end\n") {
					t.Errorf("the survivor says %q", rest)
				}
				for _, a := range m.Since(t) {
					t.Errorf("%s reached %s: %q", a.Kind, a.Sink, a.Text)
				}
			})
		}
		out := killed(t, u, allow, "sh", "-c", "echo ready; exec sleep 60")
		if rest, err := io.ReadAll(out); err != nil || len(rest) > 0 {
			t.Errorf("a command that does not resist goes on: %q %v", rest, err)
		}
	})
}

// killed starts a command that says "ready", kills its supervisor, and returns
// the rest of its output, which ends with its last process.
func killed(t *testing.T, u lab.User, flags []string, args ...string) io.Reader {
	t.Helper()
	out, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { out.Close() })
	c := lab.Command(t.Context(), t, u, lab.NetArgs(flags, args...)...)
	c.Stdout = w
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	w.Close()
	out.SetReadDeadline(time.Now().Add(20 * time.Second))
	read := bufio.NewReader(out)
	if line, err := read.ReadString('\n'); err != nil || line != "ready\n" {
		t.Fatalf("%q %v", line, err)
	}
	c.Process.Kill()
	c.Wait()
	return read
}

// A supervisor that runs out of descriptors refuses, and goes on.
func TestFewDescriptors(t *testing.T) {
	p := lab.Probe(t)
	at := sink(t, lab.Evil4)
	ip, port := hostPort(at)
	asUsers(t, func(t *testing.T, u lab.User) {
		n, m := lab.Nonce(), lab.Now()
		// 64 for the supervisor too: more flows than it can hold.
		script := `for i in 1 2 3; do "$@" >/dev/null; done; ` + p + ` tcp ` + ip + ` ` + port + ` ` + n + `; curl -fsS -m 10 http://four.test/` + n
		r := lab.Run(t, u, append([]string{"sh", "-c", `ulimit -Hn 64; exec "$@"`, "sh"}, lab.NetArgs([]string{"--quiet", "--allow", "four.test:80"},
			"sh", "-c", script, "sh", p, "hold-http", lab.Allowed4.String(), "80", "four.test", "60")...)...)
		if r.Code != 0 || !strings.Contains(r.Stdout, "fail ECONNREFUSED") {
			t.Errorf("code %d: %s%s", r.Code, r.Stdout, r.Stderr)
		}
		for _, a := range m.Since(t) {
			if a.Sink == "tcp "+at.String() {
				t.Errorf("%s reached %s", a.Kind, a.Sink)
			}
		}
	})
}

// A sandbox inside a sandbox is refused with its reason, and nothing runs.
func TestNested(t *testing.T) {
	asUsers(t, func(t *testing.T, u lab.User) {
		r := lab.Net(t, u, []string{"--quiet"}, lab.NetArgs(nil, "echo", "ran")...)
		if r.Code != 125 || strings.Contains(r.Stdout, "ran") || !strings.Contains(r.Stderr, "sandlock: ") {
			t.Errorf("code %d: %s%s", r.Code, r.Stdout, r.Stderr)
		}
	})
}
