package sandbox

import (
	"context"
	"errors"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sandlock/sandlock/dispatch"
	"golang.org/x/sys/unix"
)

// on is a handler for the calls that open a file.
func on(f dispatch.HandlerFunc) dispatch.Registration {
	return dispatch.Registration{Name: "test", Syscalls: []int{unix.SYS_OPENAT}, Handler: f}
}

// opens lets f answer the opens of one path and lets all others pass.
func opens(path string, f func(c *dispatch.Call) dispatch.Action) dispatch.Registration {
	return on(func(c *dispatch.Call) dispatch.Action {
		got, err := c.ReadString(c.Arg(1), unix.PathMax)
		if err != nil || string(got) != path {
			return dispatch.Continue() // not judged: only the one path is the test's
		}
		return f(c)
	})
}

func output(t *testing.T, c *Compiled, o Options) string {
	t.Helper()
	out, err := New(c, o).CombinedOutput(t.Context())
	if exit := (*ExitError)(nil); err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	return string(out)
}

const made = "/nonexistent/made"

func TestHandlersAnswer(t *testing.T) {
	var order []string
	note := func(name string, a dispatch.Action) dispatch.Registration {
		r := opens(made, func(*dispatch.Call) dispatch.Action { order = append(order, name); return a })
		r.Name = name
		return r
	}
	var seen atomic.Int64
	count := on(func(*dispatch.Call) dispatch.Action { seen.Add(1); return dispatch.Continue() })
	for _, c := range []struct {
		name     string
		handlers []dispatch.Registration
		want     string
		order    string
	}{
		{"none", nil, "No such file", ""},
		{"Continue lets the call pass", []dispatch.Registration{count}, "No such file", ""},
		{"bytes for a file", []dispatch.Registration{opens(made, func(*dispatch.Call) dispatch.Action {
			return dispatch.InjectBytes("made", []byte("content"), false)
		})}, "content", ""},
		{"an errno", []dispatch.Registration{note("one", dispatch.Errno(unix.EISDIR))}, "Is a directory", "one"},
		{"several in order", []dispatch.Registration{note("one", dispatch.Continue()), note("two", dispatch.Errno(unix.EISDIR)), note("three", dispatch.Continue())},
			"Is a directory", "one two"},
		{"off the loop", []dispatch.Registration{opens(made, func(*dispatch.Call) dispatch.Action {
			return dispatch.Defer(func(context.Context) dispatch.Action { return dispatch.InjectBytes("made", []byte("later"), false) })
		})}, "later", ""},
		{"a deferred Continue asks the next", []dispatch.Registration{opens(made, func(*dispatch.Call) dispatch.Action {
			return dispatch.Defer(func(context.Context) dispatch.Action { return dispatch.Continue() })
		}), opens(made, func(*dispatch.Call) dispatch.Action {
			return dispatch.Defer(func(context.Context) dispatch.Action { return dispatch.Continue() })
		}), note("third", dispatch.Errno(unix.EISDIR)), note("fourth", dispatch.Continue())}, "Is a directory", "third"},
		{"a deferred Continue lets the call pass", []dispatch.Registration{opens(made, func(*dispatch.Call) dispatch.Action {
			return dispatch.Defer(func(context.Context) dispatch.Action { return dispatch.Continue() })
		})}, "No such file", ""},
	} {
		order = nil
		if got := output(t, compiled(t, "cat", made), Options{Handlers: c.handlers}); !strings.Contains(got, c.want) {
			t.Errorf("%s: %q, want %q", c.name, got, c.want)
		}
		if got := strings.Join(order, " "); got != c.order {
			t.Errorf("%s: asked %q, want %q", c.name, got, c.order)
		}
	}
	if seen.Load() == 0 {
		t.Error("the counting handler was never asked")
	}
}

func TestHandlersComeAfterBuiltins(t *testing.T) {
	var denied, passed atomic.Int64
	counter := func(n *atomic.Int64, g dispatch.Guard, nr int) dispatch.Registration {
		return dispatch.Registration{Name: "count", Syscalls: []int{nr}, Guard: g, Handler: dispatch.HandlerFunc(func(*dispatch.Call) dispatch.Action {
			n.Add(1)
			return dispatch.Continue()
		})}
	}
	// connect is always answered by the network's builtin; getpeername is left
	// alone for a socket that was not redirected.
	script := `exec 3<>/dev/tcp/127.0.0.1/1; true`
	output(t, compiled(t, "bash", "-c", script), Options{Handlers: []dispatch.Registration{counter(&denied, nil, unix.SYS_CONNECT)}})
	if denied.Load() != 0 {
		t.Error("asked after a builtin's answer")
	}
	script = `import socket; a, b = socket.socketpair(); a.getpeername(); print("named")`
	got := output(t, compiled(t, "python3", "-c", script), Options{Handlers: []dispatch.Registration{counter(&passed, nil, unix.SYS_GETPEERNAME)}})
	if passed.Load() == 0 || !strings.Contains(got, "named") {
		t.Errorf("asked %d times after a builtin's Continue: %s", passed.Load(), got)
	}
}

func TestHandlersAreRefusedBeforeTheStart(t *testing.T) {
	h := dispatch.HandlerFunc(func(*dispatch.Call) dispatch.Action { return dispatch.Continue() })
	c, err := (&Policy{Command: []string{"true"}, DenySyscalls: []string{"sync"}}).Compile()
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range []struct {
		nr   int
		want error
		says string
	}{
		{unix.SYS_PTRACE, dispatch.ErrDeniedSyscall, "ptrace"}, {unix.SYS_SYNC, dispatch.ErrDeniedSyscall, "sync"},
		{-5, dispatch.ErrInvalidSyscall, "-5"}, {1 << 20, dispatch.ErrInvalidSyscall, "1048576"},
	} {
		err := New(c, Options{Handlers: []dispatch.Registration{{Name: "x", Syscalls: []int{r.nr}, Handler: h}}}).Start(t.Context())
		if !errors.Is(err, r.want) || !errors.Is(err, ErrUsage) || !strings.Contains(err.Error(), r.says) {
			t.Errorf("%d: %v", r.nr, err)
		}
	}
	if _, err := (&Policy{DenySyscalls: []string{"no_such_call"}}).Compile(); err == nil || !strings.Contains(err.Error(), "no_such_call") {
		t.Errorf("%v", err)
	}
	c.Policy.Command = []string{"python3", "-c", "import ctypes; l=ctypes.CDLL(None, use_errno=True); print(l.syscall(162), ctypes.get_errno())"}
	if runtime.GOARCH == "amd64" {
		if got := output(t, c, Options{}); got != "-1 1\n" {
			t.Errorf("sync(2) gives %q", got)
		}
	}
}

// Whatever a handler does, it harms its own call only.
func TestHandlersThatMisbehave(t *testing.T) {
	block := make(chan struct{})
	t.Cleanup(func() { close(block) })
	for name, f := range map[string]func(*dispatch.Call) dispatch.Action{
		"panic":         func(*dispatch.Call) dispatch.Action { panic("on purpose") },
		"Goexit":        func(*dispatch.Call) dispatch.Action { runtime.Goexit(); return dispatch.Continue() },
		"no descriptor": func(*dispatch.Call) dispatch.Action { return dispatch.InjectFD(-1, false) },
		"no function":   func(*dispatch.Call) dispatch.Action { return dispatch.Defer(nil) },
		"deferred panic": func(*dispatch.Call) dispatch.Action {
			return dispatch.Defer(func(context.Context) dispatch.Action { panic("on purpose") })
		},
		"Defer for ever": func(*dispatch.Call) dispatch.Action {
			return dispatch.Defer(func(context.Context) dispatch.Action { return dispatch.Defer(nil) })
		},
		"block": func(*dispatch.Call) dispatch.Action { <-block; return dispatch.Continue() },
	} {
		// The first cat meets the handler; others work meanwhile and after.
		script := `cat ` + made + ` & for i in 1 2 3 4 5; do cat /dev/null || exit 9; done; echo fine`
		if got := output(t, shell(t, script), Options{Handlers: []dispatch.Registration{opens(made, f)}}); !strings.Contains(got, "fine") {
			t.Errorf("%s: %q", name, got)
		}
	}
}

func TestManyBlockedHandlers(t *testing.T) {
	block := make(chan struct{})
	t.Cleanup(func() { close(block) })
	h := opens(made, func(*dispatch.Call) dispatch.Action { <-block; return dispatch.Continue() })
	script := `i=0; while [ $i -lt 100 ]; do cat ` + made + ` & i=$((i+1)); done; cat /dev/null && echo fine`
	done := make(chan string, 1)
	go func() { done <- output(t, shell(t, script), Options{Handlers: []dispatch.Registration{h}}) }()
	select {
	case got := <-done:
		if !strings.Contains(got, "fine") {
			t.Errorf("%q", got)
		}
	case <-time.After(time.Minute):
		t.Fatal("the sandbox hangs")
	}
}
