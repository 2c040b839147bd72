// Package limits bounds what a sandbox uses of the machine: processes, memory and
// processor time.
package limits

import (
	"context"
	"strconv"
	"sync"
	"time"

	"github.com/sandlock/sandlock/dispatch"
	"github.com/sandlock/sandlock/internal/event"
	"github.com/sandlock/sandlock/internal/sys"
	"golang.org/x/sys/unix"
)

// A birth that was granted happens in the kernel a moment later: for that long it
// counts beside what lives. A caller at the limit waits for such births, and for
// deaths, as often as this.
const (
	settle   = 20 * time.Millisecond
	recounts = 3
)

// Processes bounds how many processes a sandbox has at once, those among them
// that have ended and were not waited for. Threads do not count.
type Processes struct {
	limit   int
	members func() ([]int, error)
	emit    func(event.Event)

	mu     sync.Mutex
	bound  int         // at least as many as there are: the last count and the births since
	grants []time.Time // of the latest births, as many as the limit
	count  sync.Mutex  // one count at a time
}

// NewProcesses returns the bound. members lists the sandbox's processes; emit never
// blocks.
func NewProcesses(limit int, members func() ([]int, error), emit func(event.Event)) *Processes {
	return &Processes{limit: limit, members: members, emit: emit, bound: 1}
}

// Register puts the handler into the table: it traps every call that makes a
// process, and none that makes a thread.
func (p *Processes) Register(t *dispatch.Table) {
	notThread := dispatch.When(dispatch.Test{Arg: 0, Wide: true, Mask: unix.CLONE_THREAD})
	t.Builtin(dispatch.Registration{Name: "limits.processes", Syscalls: []int{unix.SYS_CLONE}, Guard: notThread, Handler: dispatch.HandlerFunc(p.birth)})
	var old []int
	for _, name := range []string{"fork", "vfork"} {
		if nr, ok := sys.SyscallNumber(name); ok {
			old = append(old, nr)
		}
	}
	if len(old) > 0 {
		t.Builtin(dispatch.Registration{Name: "limits.processes", Syscalls: old, Handler: dispatch.HandlerFunc(p.birth)})
	}
}

// birth lets the kernel make a process while there is room. It counts them only
// when the births since the last count could have used that up.
func (p *Processes) birth(c *dispatch.Call) dispatch.Action {
	if p.grant() {
		return dispatch.Continue()
	}
	return dispatch.Defer(func(ctx context.Context) dispatch.Action {
		p.count.Lock()
		defer p.count.Unlock()
		for range recounts {
			if p.grant() {
				return dispatch.Continue()
			}
			waiting, err := p.recount()
			if err != nil {
				return dispatch.Fail(err)
			}
			if p.grant() {
				return dispatch.Continue()
			}
			if !waiting {
				break
			}
			select {
			case <-ctx.Done():
				return dispatch.Errno(unix.EINTR)
			case <-time.After(settle):
			}
		}
		p.emit(event.Event{Kind: event.Deny, PID: int32(dispatch.TGID(c.PID())), Syscall: c.Name(), Protocol: "process",
			Reason: "there are " + strconv.Itoa(p.limit) + " processes already", AllowWith: "--max-processes " + strconv.Itoa(2*p.limit)})
		return dispatch.Errno(unix.EAGAIN)
	})
}

func (p *Processes) grant() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.bound >= p.limit {
		return false
	}
	p.bound++
	if len(p.grants) >= p.limit {
		p.grants = p.grants[1:]
	}
	p.grants = append(p.grants, time.Now())
	return true
}

// recount finds out how many there are. waiting tells that some of them may not
// be: they were granted a moment ago.
func (p *Processes) recount() (waiting bool, err error) {
	p.mu.Lock()
	before := p.bound
	p.mu.Unlock()
	since := time.Now().Add(-settle)
	pids, err := p.members()
	if err != nil {
		return false, err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	fresh := 0
	for i := len(p.grants) - 1; i >= 0 && p.grants[i].After(since); i-- {
		fresh++
	}
	// What was granted meanwhile is in both; never more than was known before.
	p.bound = min(len(pids)+fresh, before+fresh)
	return fresh > 0, nil
}
