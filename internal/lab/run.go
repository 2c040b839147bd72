package lab

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// User is who a program runs as.
type User string

// The users of the lab.
const (
	Root     User = "root"
	Ordinary User = "ordinary" // uid 1000, no capabilities
)

// Users are all of them; tests run for each.
var Users = []User{Root, Ordinary}

const ordinaryID = 1000

// Result is how a program ended.
type Result struct {
	Code           int // exit code; 128+n after signal n
	Stdout, Stderr string
	Log            []map[string]any // events that sandlock wrote with --log
	Took           time.Duration
}

// Command prepares a program as u in an own working directory, with the
// surroundings of the lab only. ctx ends it.
func Command(ctx context.Context, t testing.TB, u User, args ...string) *exec.Cmd {
	t.Helper()
	dir := Scratch(t, u)
	path := args[0]
	if !strings.Contains(path, "/") {
		found, err := exec.LookPath(path)
		if err != nil {
			t.Fatalf("the lab needs %s: %v", path, err)
		}
		path = found
	}
	c := exec.CommandContext(ctx, path, args[1:]...)
	c.Args[0] = args[0]
	c.Dir = dir
	c.Env = []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME=" + dir, "TMPDIR=" + dir, "LANG=C.UTF-8",
		"NODE_EXTRA_CA_CERTS=" + CAFile(), "PIP_CERT=/etc/ssl/certs/ca-certificates.crt", "GIT_TERMINAL_PROMPT=0", "GODEBUG=netdns=go"}
	c.SysProcAttr = credentials(u)
	return c
}

func credentials(u User) *syscall.SysProcAttr {
	a := &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	switch {
	case u == Root:
	case Nested():
		a.Cloneflags = unix.CLONE_NEWUSER
		a.UidMappings = []syscall.SysProcIDMap{{ContainerID: ordinaryID, HostID: 0, Size: 1}}
		a.GidMappings = []syscall.SysProcIDMap{{ContainerID: ordinaryID, HostID: 0, Size: 1}}
	default:
		a.Credential = &syscall.Credential{Uid: ordinaryID, Gid: ordinaryID}
	}
	return a
}

// Scratch returns a directory that belongs to u and goes with the test.
func Scratch(t testing.TB, u User) string {
	t.Helper()
	dir, err := os.MkdirTemp(filepath.Join(Dir(), "tmp"), "w")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	Give(t, u, dir)
	return dir
}

// Give makes path u's own and closes it to others.
func Give(t testing.TB, u User, path string) {
	t.Helper()
	if u == Root || Nested() {
		return
	}
	if err := os.Chown(path, ordinaryID, ordinaryID); err != nil {
		t.Fatal(err)
	}
}

// Run runs a program to its end. It fails the test when the guard passes first.
func Run(t testing.TB, u User, args ...string) Result {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 2*guard)
	defer cancel()
	return Finish(t, ctx, Command(ctx, t, u, args...))
}

// Finish runs a prepared command and collects what it left.
func Finish(t testing.TB, ctx context.Context, c *exec.Cmd) Result {
	t.Helper()
	var out, errs bytes.Buffer
	if c.Stdout == nil {
		c.Stdout = &out
	}
	if c.Stderr == nil {
		c.Stderr = &errs
	}
	c.WaitDelay = 5 * time.Second
	start := time.Now()
	err := c.Run()
	r := Result{Stdout: out.String(), Stderr: errs.String(), Took: time.Since(start)}
	if ctx.Err() != nil {
		t.Fatalf("%q did not end in time: %s%s", c.Args, r.Stdout, r.Stderr)
	}
	var ee *exec.ExitError
	switch {
	case errors.As(err, &ee):
		if ws := ee.Sys().(syscall.WaitStatus); ws.Signaled() {
			r.Code = 128 + int(ws.Signal())
		} else {
			r.Code = ws.ExitStatus()
		}
	case err != nil:
		t.Fatalf("%q: %v", c.Args, err)
	}
	return r
}

// Sandlock is the program under test.
func Sandlock() string { return filepath.Join(Dir(), "bin", "sandlock") }

// Net runs "sandlock net FLAGS -- ARGS" as u and reads its log.
func Net(t testing.TB, u User, flags []string, args ...string) Result {
	t.Helper()
	log := filepath.Join(Scratch(t, u), "log")
	r := Run(t, u, NetArgs(append([]string{"--log", log}, flags...), args...)...)
	r.Log = ReadLog(t, log)
	return r
}

// NetArgs is the command line of "sandlock net".
func NetArgs(flags []string, args ...string) []string {
	return append(append(append([]string{Sandlock(), "net"}, flags...), "--"), args...)
}

// ReadLog reads a file of JSON Lines.
func ReadLog(t testing.TB, path string) []map[string]any {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatalf("log: %v", err)
	}
	var out []map[string]any
	for _, line := range strings.Split(strings.TrimSpace(string(data)), "\n") {
		if line == "" {
			continue
		}
		var e map[string]any
		if err := json.Unmarshal([]byte(line), &e); err != nil {
			t.Fatalf("log line %q: %v", line, err)
		}
		out = append(out, e)
	}
	return out
}

// Denied tells whether the log has a denial that mentions text.
func (r Result) Denied(text string) bool {
	for _, e := range r.Log {
		if e["verdict"] != "denied" {
			continue
		}
		for _, v := range e {
			if s, ok := v.(string); ok && strings.Contains(s, text) {
				return true
			}
		}
	}
	return false
}
