package dispatch

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// maxDeferred bounds the calls that are under way off the loop; one more fails
// with EAGAIN. interruptPoll is how often a deferred call's caller is looked at
// for a pending signal.
const (
	maxDeferred   = 4096
	interruptPoll = 50 * time.Millisecond
)

// errRestart is ERESTARTSYS of linux/errno.h: the kernel makes EINTR of it, or
// performs the call again where the signal's handler has SA_RESTART (signal(7)), as
// with a call that it interrupted itself.
const errRestart = unix.Errno(512)

type deferrals struct {
	mu      sync.Mutex
	pending map[*deferral]struct{}
	ticking bool
}

type deferral struct {
	call     *Call
	cancel   context.CancelFunc
	whole    bool        // answered by its own function only
	hinted   atomic.Bool // its function was told that the caller is interrupted
	answered atomic.Bool
}

func (d *deferrals) run(l *Loop, c *Call, fn func(context.Context) Action, whole bool) {
	ctx, cancel := context.WithCancel(context.Background())
	one := &deferral{call: c, cancel: cancel, whole: whole}
	d.mu.Lock()
	if d.pending == nil {
		d.pending = map[*deferral]struct{}{}
	}
	if len(d.pending) >= maxDeferred {
		d.mu.Unlock()
		cancel()
		l.answer(c, Errno(unix.EAGAIN))
		return
	}
	d.pending[one] = struct{}{}
	start := !d.ticking
	d.ticking = true
	d.mu.Unlock()
	if start {
		l.users.run(func() { d.tick(l) })
	}
	l.users.run(func() {
		defer cancel()
		a := l.deferredAction(c, ctx, fn)
		if one.hinted.Load() && a.kind == actErrno && a.errno == unix.EINTR {
			a = Errno(errRestart)
		}
		d.mu.Lock()
		delete(d.pending, one)
		d.mu.Unlock()
		if one.answered.Swap(true) {
			if a.kind == actInject {
				unix.Close(a.fd)
			}
			return
		}
		if a.IsContinue() {
			a = l.walk(c) // those behind the handler that deferred
		}
		l.answer(c, a)
	})
}

func (l *Loop) deferredAction(c *Call, ctx context.Context, fn func(context.Context) Action) (a Action) {
	defer func() {
		if r := recover(); r != nil {
			l.fault(fmt.Errorf("deferred answer to %s: %v", c, r))
			a = Errno(unix.EPERM)
		}
	}()
	if a = fn(ctx); a.kind == actDefer {
		a = Errno(unix.EIO)
	}
	return a
}

// tick interrupts callers that have a caught signal pending: with
// WAIT_KILLABLE_RECV the kernel does not do so itself. The function that answers
// gets until the next look to say how far it came. It ends when nothing is
// deferred any more.
func (d *deferrals) tick(l *Loop) {
	t := time.NewTicker(interruptPoll)
	defer t.Stop()
	for {
		select {
		case <-l.done:
			return
		case <-t.C:
		}
		d.mu.Lock()
		if len(d.pending) == 0 {
			d.ticking = false
			d.mu.Unlock()
			return
		}
		all := make([]*deferral, 0, len(d.pending))
		for one := range d.pending {
			all = append(all, one)
		}
		d.mu.Unlock()
		for _, one := range all {
			gone := one.call.Valid() != nil
			if !gone && !interrupted(one.call.PID()) {
				continue
			}
			if one.hinted.Swap(true) && !one.whole && !one.answered.Swap(true) {
				l.answer(one.call, Errno(errRestart))
			}
			one.cancel()
		}
	}
}

func (d *deferrals) cancelAll() {
	d.mu.Lock()
	defer d.mu.Unlock()
	for one := range d.pending {
		one.cancel()
	}
}
