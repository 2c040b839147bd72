package dispatch

import (
	"context"
	"errors"
	"io"
	"os"
	"slices"
	"strconv"
	"testing"

	"golang.org/x/sys/unix"
)

const nr = unix.SYS_CONNECT

// ask walks the chain of a table for one call, without a kernel.
func ask(t *testing.T, table *Table, args ...uint64) (Action, *Loop) {
	t.Helper()
	l := &Loop{chains: table.chains(), fault: func(err error) { t.Log(err) }}
	c := &Call{loop: l}
	c.n.Data.Nr = nr
	copy(c.n.Data.Args[:], args)
	return l.walk(c), l
}

// named returns a registration that notes its name and answers a.
func named(names *[]string, name string, a Action) Registration {
	return Registration{Name: name, Syscalls: []int{nr}, Handler: HandlerFunc(func(*Call) Action {
		*names = append(*names, name)
		return a
	})}
}

func TestChainOrder(t *testing.T) {
	never := Defer(func(context.Context) Action { return Continue() })
	for _, c := range []struct {
		name    string
		answers [4]Action // of two builtins and two user handlers
		want    []string
		kind    actionKind
	}{
		{"in the order of registration, builtins first", [4]Action{}, []string{"b1", "b2", "u1", "u2"}, actContinue},
		{"the first answer ends the chain", [4]Action{{}, Errno(unix.EACCES), Return(1)}, []string{"b1", "b2"}, actErrno},
		{"a user's answer ends it too", [4]Action{{}, {}, Return(1)}, []string{"b1", "b2", "u1"}, actReturn},
		{"Defer is an answer", [4]Action{never}, []string{"b1"}, actDefer},
		{"so is Kill", [4]Action{{}, Kill()}, []string{"b1", "b2"}, actKill},
	} {
		var names []string
		table := &Table{}
		// A user handler that is registered first still comes last.
		if err := table.Handle(named(&names, "u1", c.answers[2])); err != nil {
			t.Fatal(err)
		}
		table.Builtin(named(&names, "b1", c.answers[0]))
		table.Builtin(named(&names, "b2", c.answers[1]))
		if err := table.Handle(named(&names, "u2", c.answers[3])); err != nil {
			t.Fatal(err)
		}
		a, l := ask(t, table)
		if !slices.Equal(names, c.want) || a.kind != c.kind {
			t.Errorf("%s: asked %v, want %v; answer %v", c.name, names, c.want, a.kind)
		}
		for name, n := range l.Handled() {
			if asked := slices.Contains(names, name); asked != (n == 1) {
				t.Errorf("%s: %s was counted %d times", c.name, name, n)
			}
		}
	}
}

// counting is a handler with state of its own.
type counting struct{ calls int }

func (h *counting) Handle(*Call) Action { h.calls++; return Return(int64(h.calls)) }

func TestAStructKeepsItsState(t *testing.T) {
	table, h := &Table{}, &counting{}
	if err := table.Handle(Registration{Name: "counting", Syscalls: []int{nr}, Handler: h}); err != nil {
		t.Fatal(err)
	}
	for want := int64(1); want <= 3; want++ {
		if a, _ := ask(t, table); a.val != want {
			t.Errorf("answer %d, want %d", a.val, want)
		}
	}
}

func TestAGuardKeepsAHandlerOut(t *testing.T) {
	var names []string
	table := &Table{}
	r := named(&names, "guarded", Errno(unix.EPERM))
	r.Guard = When(Eq(1, 7))
	if err := table.Handle(r); err != nil {
		t.Fatal(err)
	}
	if a, _ := ask(t, table, 0, 8); !a.IsContinue() || len(names) != 0 {
		t.Errorf("asked %v, answer %v", names, a.kind)
	}
	if a, _ := ask(t, table, 0, 7); a.kind != actErrno || len(names) != 1 {
		t.Errorf("asked %v, answer %v", names, a.kind)
	}
}

func TestHandleRefuses(t *testing.T) {
	h := HandlerFunc(func(*Call) Action { return Continue() })
	table := &Table{}
	table.Deny(Denial{Syscall: unix.SYS_PTRACE, Errno: unix.EPERM},
		Denial{Syscall: unix.SYS_IOCTL, Guard: When(Eq(1, 5)), Errno: unix.EPERM})
	for _, c := range []struct {
		name string
		r    Registration
		want error
		says string
	}{
		{"a denied call", Registration{"mine", []int{unix.SYS_READ, unix.SYS_PTRACE}, nil, h}, ErrDeniedSyscall, `handler "mine": system call is denied by the policy: ptrace`},
		{"a negative number", Registration{"mine", []int{-1}, nil, h}, ErrInvalidSyscall, `handler "mine": no such system call: -1`},
		{"an unknown number", Registration{"mine", []int{99999}, nil, h}, ErrInvalidSyscall, `handler "mine": no such system call: 99999`},
		{"no call", Registration{"mine", nil, nil, h}, ErrNoHandler, `handler "mine": no system call, or no handler for it`},
		{"no handler", Registration{"mine", []int{unix.SYS_READ}, nil, nil}, ErrNoHandler, `handler "mine": no system call, or no handler for it`},
	} {
		if err := table.Handle(c.r); !errors.Is(err, c.want) || err.Error() != c.says {
			t.Errorf("%s: %v", c.name, err)
		}
	}
	if n := table.Trapped(); len(n) != 0 {
		t.Errorf("a refused handler traps %v", n)
	}
	// A denial with a guard leaves the rest of the call to handlers.
	if err := table.Handle(Registration{"mine", []int{unix.SYS_IOCTL}, nil, h}); err != nil {
		t.Error(err)
	}
}

func TestFileCannotBeChanged(t *testing.T) {
	fd, err := File("given", []byte("content"))
	if err != nil {
		t.Fatal(err)
	}
	f := os.NewFile(uintptr(fd), "given")
	defer f.Close()
	text, err := io.ReadAll(f)
	if string(text) != "content" || err != nil {
		t.Errorf("%q, %v", text, err)
	}
	if _, err := f.WriteAt([]byte("x"), 0); err == nil {
		t.Error("it is open for writing")
	}
	if w, err := os.OpenFile("/proc/self/fd/"+strconv.Itoa(fd), os.O_RDWR, 0); err == nil {
		if _, err := w.WriteAt([]byte("x"), 0); err == nil {
			t.Error("it was changed")
		}
		w.Close()
	}
	if a := InjectBytes("given", []byte("content"), true); a.kind != actInject || a.fd < 0 || !a.cloexec {
		t.Errorf("%+v", a)
	} else {
		unix.Close(a.fd)
	}
}
