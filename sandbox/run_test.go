package sandbox

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func compiled(t *testing.T, command ...string) *Compiled {
	t.Helper()
	c, err := (&Policy{Command: command}).Compile()
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func shell(t *testing.T, script string) *Compiled { return compiled(t, "sh", "-c", script) }

func TestOutput(t *testing.T) {
	out, err := New(shell(t, "cat; echo out; echo err >&2"), Options{Stdin: strings.NewReader("in\n")}).Output(t.Context())
	if string(out) != "in\nout\n" || err != nil {
		t.Errorf("%q, %v", out, err)
	}
	out, err = New(shell(t, "echo out; echo err >&2"), Options{}).CombinedOutput(t.Context())
	if string(out) != "out\nerr\n" || err != nil {
		t.Errorf("%q, %v", out, err)
	}
	_, err = New(shell(t, "echo err >&2; exit 3"), Options{}).Output(t.Context())
	var exit *ExitError
	if !errors.As(err, &exit) || exit.ExitCode() != 3 || exit.ShellCode() != 3 || string(exit.Stderr) != "err\n" || err.Error() != "exit status 3" {
		t.Errorf("%v: %+v", err, exit)
	}
	_, err = New(shell(t, "kill -9 $$"), Options{}).Output(t.Context())
	if !errors.As(err, &exit) || exit.ExitCode() != -1 || exit.ShellCode() != 137 || exit.Status.Signal() != syscall.SIGKILL {
		t.Errorf("%v: %+v", err, exit)
	}
}

// Both streams at once, each larger than a pipe holds.
func TestLargeOutput(t *testing.T) {
	var out, errs bytes.Buffer
	err := New(shell(t, "head -c 1000000 /dev/zero & head -c 1000000 /dev/zero >&2; wait"), Options{Stdout: &out, Stderr: &errs}).Run(t.Context())
	if err != nil || out.Len() != 1e6 || errs.Len() != 1e6 {
		t.Errorf("%v: %d, %d bytes", err, out.Len(), errs.Len())
	}
}

func TestFilesAndTheNullDevice(t *testing.T) {
	f, err := os.Create(filepath.Join(t.TempDir(), "out"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	s := New(shell(t, `cat; readlink /proc/self/fd/2; [ -e /proc/$$/fd/3 ] || echo only >&2`), Options{Stdout: f, Stderr: f})
	if err := s.Run(t.Context()); err != nil {
		t.Fatal(err)
	}
	text, _ := os.ReadFile(f.Name())
	if want := f.Name() + "\nonly\n"; string(text) != want {
		t.Errorf("%q, want %q", text, want)
	}
	// The process's own standard streams, exchanged.
	s = New(shell(t, `a=$(readlink /proc/self/fd/0); echo "$a"`), Options{Stdin: os.Stderr})
	if out, err := s.Output(t.Context()); err != nil || strings.TrimSpace(string(out)) != readlink(t, "/proc/self/fd/2") {
		t.Errorf("%q, %v", out, err)
	}
}

func readlink(t *testing.T, path string) string {
	t.Helper()
	s, err := os.Readlink(path)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestPipes(t *testing.T) {
	s := New(shell(t, "while read x; do echo got $x; done"), Options{})
	in, err := s.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := s.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.StdoutPipe(); err == nil {
		t.Error("a stream was given twice")
	}
	if err := s.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	fmt.Fprintln(in, "one")
	lines := bufio.NewReader(out)
	if line, err := lines.ReadString('\n'); line != "got one\n" {
		t.Errorf("%q %v", line, err)
	}
	in.Close()
	if rest, err := io.ReadAll(lines); len(rest) != 0 || err != nil {
		t.Errorf("%q %v", rest, err)
	}
	if err := s.Wait(); err != nil {
		t.Error(err)
	}
}

func TestOutOfTurn(t *testing.T) {
	s := New(compiled(t, "true"), Options{})
	for name, f := range map[string]func() error{"kill": s.Kill, "pause": s.Pause, "resume": s.Resume, "wait": s.Wait} {
		if err := f(); !errors.Is(err, ErrNotStarted) {
			t.Errorf("%s before the start: %v", name, err)
		}
	}
	if err := s.Run(t.Context()); err != nil {
		t.Fatal(err)
	}
	for name, f := range map[string]func() error{"kill": s.Kill, "pause": s.Pause, "resume": s.Resume} {
		if err := f(); !errors.Is(err, os.ErrProcessDone) {
			t.Errorf("%s after the end: %v", name, err)
		}
	}
	if err := s.Start(t.Context()); !errors.Is(err, ErrStarted) {
		t.Errorf("second start: %v", err)
	}
	if err := s.Wait(); err != nil {
		t.Errorf("second wait: %v", err)
	}
	if err := New(compiled(t), Options{}).Run(t.Context()); !errors.Is(err, ErrUsage) {
		t.Errorf("no command: %v", err)
	}
	var launch *LaunchError
	if err := New(compiled(t, "/nonexistent"), Options{}).Run(t.Context()); !errors.As(err, &launch) || launch.Code != 127 {
		t.Errorf("no such file: %v", err)
	}
}

// tree starts a command that leaves processes in sessions of their own and says
// their numbers.
func tree(t *testing.T) (s *Sandbox, pids []int) {
	t.Helper()
	s = New(shell(t, `for i in 1 2 3; do setsid sh -c 'echo $$; trap "" TERM HUP INT; exec sleep 1000' & done; (setsid sleep 1000 & echo $!); wait`), Options{})
	out, err := s.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(out)
	for range 4 {
		if !lines.Scan() {
			t.Fatal("the command ended")
		}
		pid, err := strconv.Atoi(lines.Text())
		if err != nil {
			t.Fatal(err)
		}
		pids = append(pids, pid)
	}
	return s, append(pids, s.PID())
}

// state is the letter of proc(5), 0 for a process that is gone.
func state(pid int) byte {
	text, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return 0
	}
	_, rest, _ := bytes.Cut(text, []byte(") "))
	return rest[0]
}

// await polls for what no event tells, for as long as a slow machine may need.
func await(t *testing.T, what string, f func() bool) {
	t.Helper()
	for range 2000 {
		if f() {
			return
		}
		time.Sleep(5 * time.Millisecond)
	}
	t.Errorf("never: %s", what)
}

func TestKillPauseResume(t *testing.T) {
	outsider := exec.Command("sleep", "1000")
	if err := outsider.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { outsider.Process.Kill(); outsider.Wait() }()
	s, pids := tree(t)
	if err := s.Pause(); err != nil {
		t.Fatal(err)
	}
	for _, pid := range pids {
		await(t, "stopped", func() bool { return state(pid) == 'T' })
	}
	if err := s.Resume(); err != nil {
		t.Fatal(err)
	}
	for _, pid := range pids {
		await(t, "goes on", func() bool { return state(pid) != 'T' })
	}
	if err := s.Kill(); err != nil {
		t.Fatal(err)
	}
	var exit *ExitError
	if err := s.Wait(); !errors.As(err, &exit) || exit.Status.Signal() != syscall.SIGKILL {
		t.Errorf("after Kill: %v", err)
	}
	for _, pid := range pids {
		if s := state(pid); s != 0 && s != 'Z' {
			t.Errorf("process %d is in state %c", pid, s)
		}
	}
	if s := state(outsider.Process.Pid); s == 0 || s == 'Z' {
		t.Error("a process outside of the sandbox was killed")
	}
}

func TestDescendantsEndWithTheCommand(t *testing.T) {
	s, pids := tree(t)
	if err := unix.Kill(s.PID(), unix.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if err := s.Wait(); err == nil {
		t.Error("no error after SIGTERM")
	}
	for _, pid := range pids {
		if s := state(pid); s != 0 && s != 'Z' {
			t.Errorf("process %d is in state %c", pid, s)
		}
	}
}

func TestContextAndTimeOut(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	s := New(compiled(t, "sleep", "1000"), Options{})
	if err := s.Start(ctx); err != nil {
		t.Fatal(err)
	}
	cancel()
	if err := s.Wait(); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
	c := compiled(t, "sleep", "1000")
	c.Policy.Timeout = time.Millisecond
	err := New(c, Options{}).Run(t.Context())
	var exit *ExitError
	if !errors.As(err, &exit) || !exit.TimedOut || exit.ShellCode() != 124 {
		t.Errorf("time-out: %v", err)
	}
	if err := New(c, Options{}).Start(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled before the start: %v", err)
	}
}

// Many sandboxes run beside children of the caller's own, and leave nothing.
func TestManyAtOnce(t *testing.T) {
	before := resources(t)
	var wg sync.WaitGroup
	for i := range 50 {
		wg.Go(func() {
			out, err := New(shell(t, fmt.Sprintf("sleep 0.1; (setsid sleep 1000 &); echo %d; exit 7", i)), Options{}).Output(context.Background())
			var exit *ExitError
			if string(out) != fmt.Sprintln(i) || !errors.As(err, &exit) || exit.ExitCode() != 7 {
				t.Errorf("%q, %v", out, err)
			}
		})
		wg.Go(func() {
			if err := exec.Command("sh", "-c", "sleep 0.1; exit 5").Run(); err == nil || err.Error() != "exit status 5" {
				t.Errorf("a child of the caller: %v", err)
			}
		})
	}
	wg.Wait()
	quiet(t, before)
}

// resources counts the descriptors that the process holds.
func resources(t *testing.T) int {
	t.Helper()
	e, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(e)
}

// quiet waits until there are no more descriptors than before and no children.
func quiet(t *testing.T, before int) {
	t.Helper()
	await(t, "descriptors as before", func() bool { return resources(t) <= before })
	await(t, "no children", func() bool { return children(t) == "" })
}

func children(t *testing.T) string {
	t.Helper()
	tasks, err := filepath.Glob("/proc/self/task/*/children")
	if err != nil {
		t.Fatal(err)
	}
	all := ""
	for _, f := range tasks {
		text, _ := os.ReadFile(f)
		all += string(text)
	}
	return all
}
