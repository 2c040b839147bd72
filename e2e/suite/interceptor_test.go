package suite

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/sandlock/sandlock/internal/lab"
	"golang.org/x/sys/unix"
)

// interceptors returns the processes of the lab that are interceptors.
func interceptors(t *testing.T) (pids []int) {
	t.Helper()
	comms, err := filepath.Glob("/proc/[0-9]*/comm")
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range comms {
		if text, err := os.ReadFile(path); err == nil && string(text) == "sandlock-proxy\n" {
			if pid, err := strconv.Atoi(filepath.Base(filepath.Dir(path))); err == nil {
				pids = append(pids, pid)
			}
		}
	}
	return pids
}

// awaitInterceptor waits until exactly one process is up that is not old, and locked in.
func awaitInterceptor(t *testing.T, old int) int {
	t.Helper()
	deadline := time.Now().Add(20 * time.Second)
	for time.Now().Before(deadline) {
		for _, pid := range interceptors(t) {
			status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
			if pid != old && err == nil && bytes.Contains(status, []byte("\nSeccomp:\t2\n")) {
				return pid
			}
		}
		time.Sleep(5 * time.Millisecond)
	}
	t.Fatal("no interceptor came up")
	return 0
}

// The process holds nothing but its socket and the connections, cannot be looked into,
// and the command can neither signal nor read it.
func TestInterceptorIsLockedIn(t *testing.T) {
	asUsers(t, func(t *testing.T, u lab.User) {
		ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
		defer cancel()
		out := &bytes.Buffer{}
		script := `while read -r pid; do for f in environ maps mem cmdline; do head -c 1 /proc/$pid/$f >/dev/null 2>&1 && [ $f != cmdline ] && echo "reads $f"; done
			readlink /proc/$pid/fd/* >/dev/null 2>&1 && echo "reads fd"; kill -0 $pid 2>/dev/null && echo "signals"; kill -9 $pid 2>/dev/null && echo "kills"; echo done; done`
		c := lab.Command(ctx, t, u, lab.NetArgs([]string{"--quiet", "--http-allow", "GET allowed.test"}, "sh", "-c", script)...)
		in, err := c.StdinPipe()
		if err != nil {
			t.Fatal(err)
		}
		c.Stdout = out
		if err := c.Start(); err != nil {
			t.Fatal(err)
		}
		pid := awaitInterceptor(t, 0)
		tasks, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/status", pid))
		for _, path := range tasks {
			status, err := os.ReadFile(path)
			if err != nil {
				continue // the thread has ended
			}
			for _, want := range []string{"\nSeccomp:\t2\n", "\nNoNewPrivs:\t1\n"} {
				if !bytes.Contains(status, []byte(want)) {
					t.Errorf("%s lacks %q", path, want)
				}
			}
		}
		fds, _ := filepath.Glob(fmt.Sprintf("/proc/%d/fd/*", pid))
		for _, fd := range fds {
			to, err := os.Readlink(fd)
			if err == nil && to != "/dev/null" && !strings.HasPrefix(to, "socket:") && !strings.HasPrefix(to, "anon_inode:[event") && !strings.HasPrefix(to, "/sys/fs/cgroup/") && !strings.HasPrefix(to, "/proc/self/") && !strings.HasSuffix(to, "/cgroup") && !strings.Contains(to, "cpu.max") {
				t.Errorf("it holds %s: %s", fd, to)
			}
		}
		fmt.Fprintln(in, pid)
		in.Close()
		if err := c.Wait(); err != nil {
			t.Fatal(err)
		}
		if strings.TrimSpace(out.String()) != "done" {
			t.Errorf("the command %s", out.String())
		}
	})
}

// When the interceptor is killed, its connections close, the command and what is
// passed through go on, and the next connection has a new one with the same authority.
func TestInterceptorKilled(t *testing.T) {
	asUsers(t, func(t *testing.T, u lab.User) {
		ctx, cancel := context.WithTimeout(context.Background(), 60*time.Second)
		defer cancel()
		dir := lab.Scratch(t, u)
		script := `curl -sS -N https://allowed.test/drip/x > first 2>err; echo "first $?"
			curl -sS https://allowed.test/after; curl -sS -o /dev/null -w '%{http_code}\n' https://allowed.test/denied; curl -sS https://shared.test/passed`
		c := lab.Command(ctx, t, u, lab.NetArgs([]string{"--log", filepath.Join(dir, "log"), "--http-allow", "GET allowed.test/drip/*", "--http-allow", "GET allowed.test/after",
			"--allow", "shared.test:443"}, "sh", "-c", "cd "+dir+"; "+script)...)
		killed := make(chan struct{})
		go func() {
			defer close(killed)
			first := filepath.Join(dir, "first")
			for ctx.Err() == nil {
				if st, err := os.Stat(first); err == nil && st.Size() > 0 {
					break
				}
				time.Sleep(5 * time.Millisecond)
			}
			for _, pid := range interceptors(t) {
				unix.Kill(pid, unix.SIGKILL)
			}
		}()
		r := lab.Finish(t, ctx, c)
		<-killed
		lines := strings.Split(strings.TrimSpace(r.Stdout), "\n")
		if len(lines) != 4 || lines[0] == "first 0" || lines[1] != "lab allowed.test /after" || lines[2] != "403" || lines[3] != "lab shared.test /passed" {
			t.Errorf("%q, %s", lines, r.Stderr)
		}
		if !strings.Contains(r.Stderr, "the interceptor has ended") {
			t.Errorf("nothing is said about it: %s", r.Stderr)
		}
	})
}

// Without descriptors its connections fail; none passes unjudged, and later ones work.
func TestInterceptorWithoutDescriptors(t *testing.T) {
	u := lab.Root // who may change the limits of its process
	ctx, cancel := context.WithTimeout(context.Background(), 60*time.Second)
	defer cancel()
	n, m := lab.Nonce(), lab.Now()
	script := `read -r x; for i in 1 2 3 4 5 6 7 8 9 10; do
			curl -s -m 10 https://allowed.test/ok/` + n + ` >/dev/null & curl -s -m 10 https://allowed.test/no/` + n + ` >/dev/null & done; wait; echo loaded; read -r x
			curl -sS https://allowed.test/ok/last; curl -sS https://allowed.test/no/` + n
	c := lab.Command(ctx, t, u, lab.NetArgs([]string{"--http-allow", "GET allowed.test/ok/*"}, "sh", "-c", script)...)
	in, err := c.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := c.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	pid := awaitInterceptor(t, 0)
	var old unix.Rlimit
	if err := unix.Prlimit(pid, unix.RLIMIT_NOFILE, nil, &old); err != nil {
		t.Fatal(err)
	}
	// Room for the connections of two or three clients.
	if err := unix.Prlimit(pid, unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: 16, Max: old.Max}, nil); err != nil {
		t.Fatal(err)
	}
	fmt.Fprintln(in)
	lines := bufio.NewReader(out)
	if line, err := lines.ReadString('\n'); err != nil || line != "loaded\n" {
		t.Fatalf("%q, %v", line, err)
	}
	if err := unix.Prlimit(pid, unix.RLIMIT_NOFILE, &old, nil); err != nil {
		t.Fatalf("it has ended: %v", err)
	}
	fmt.Fprintln(in)
	rest, err := io.ReadAll(lines)
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Wait(); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(rest), "lab allowed.test /ok/last") || !strings.Contains(string(rest), "no HTTP rule allows this path") {
		t.Errorf("%s", rest)
	}
	for _, a := range m.Since(t) {
		if strings.Contains(a.Text, "/no/") {
			t.Errorf("%s reached %s: %q", a.Kind, a.Sink, a.Text)
		}
	}
}
