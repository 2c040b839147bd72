package dispatch

import (
	"fmt"
	"runtime"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sandlock/sandlock/internal/sys"
	"golang.org/x/sys/unix"
)

// takeover is how long one call may occupy the receiving thread before another
// thread receives in its stead; idleTicks such periods without a call end the
// watcher. closeWait is how long Close waits for handlers.
const (
	takeover  = 5 * time.Millisecond
	idleTicks = 20
	closeWait = time.Second
)

// maxReceivers bounds the threads whose handler blocks. Once all do, calls wait.
const maxReceivers = 256

type counter struct {
	name string
	n    atomic.Uint64
}

// Loop receives the notifications of one listener and answers them.
type Loop struct {
	listener int
	chains   map[int][]link
	index    *index
	kept     *keptSockets // nil where the kernel copies descriptors
	fault    func(error)

	generation atomic.Uint64 // which receiver is the current one
	receivers  atomic.Int32  // how many there are, the blocked ones too
	seq        atomic.Uint64 // calls received
	busy       atomic.Bool
	asleep     atomic.Bool // no watcher is under way
	done       chan struct{}
	once       sync.Once
	err        error

	deferred deferrals
	users    users
	traps    [sys.MaxSyscall + 1]atomic.Uint64
}

// NewLoop returns the loop for the filter's listener, which it owns from then
// on. fault is told what went wrong inside; it must not block.
func (t *Table) NewLoop(listener int, fault func(error)) *Loop {
	l := &Loop{
		listener: listener, chains: t.chains(), index: newIndex(), fault: fault,
		done: make(chan struct{}),
	}
	l.users.gone = make(chan struct{})
	l.users.release = func() {
		unix.Close(l.listener)
		l.index.close()
	}
	if t.members != nil {
		l.kept = &keptSockets{members: t.members}
	}
	l.asleep.Store(true)
	sys.SyncWakeUp(listener) // EINVAL before 6.6: the wake-up then only costs more
	return l
}

// Keep takes copies of sockets that the first process has from its start (see
// Table.KeepSockets). The descriptors stay the caller's.
func (l *Loop) Keep(fds ...int) {
	if l.kept == nil {
		return
	}
	for _, fd := range fds {
		l.kept.keep(l, fd)
	}
}

// Start begins to receive. It returns at once.
func (l *Loop) Start() {
	l.spawn(l.generation.Load())
}

// Done is closed when the last process under the filter is gone or the listener
// failed; Err then tells which.
func (l *Loop) Done() <-chan struct{} { return l.done }

// Err returns why the loop ended: nil when no process is left.
func (l *Loop) Err() error { return l.err }

// Traps returns how often each system call raised a notification, by name.
func (l *Loop) Traps() map[string]uint64 {
	out := map[string]uint64{}
	for nr := range l.traps {
		if n := l.traps[nr].Load(); n > 0 {
			out[sys.SyscallName(nr)] = n
		}
	}
	return out
}

// Handled returns how often each handler was asked, by name.
func (l *Loop) Handled() map[string]uint64 {
	out := map[string]uint64{}
	seen := map[*counter]bool{}
	for _, chain := range l.chains {
		for _, k := range chain {
			if !seen[k.count] {
				seen[k.count] = true
				out[k.name] += k.count.n.Load()
			}
		}
	}
	return out
}

// Close ends the loop and closes the listener: calls that still wait fail with
// ENOSYS. It is for after the end of the last process under the filter. While a
// handler of the loop is at work the listener stays open, for its number must
// not become another one's; Close waits for that a moment.
func (l *Loop) Close() {
	l.finish(nil)
	l.deferred.cancelAll()
	late := time.NewTimer(closeWait)
	defer late.Stop()
	select {
	case <-l.users.close():
	case <-late.C:
	}
}

func (l *Loop) finish(err error) {
	l.once.Do(func() {
		l.err = err
		l.generation.Add(1)
		close(l.done)
	})
}

func (l *Loop) spawn(generation uint64) {
	l.receivers.Add(1)
	l.users.run(func() {
		defer l.receivers.Add(-1)
		l.receive(generation)
	})
}

func (l *Loop) receive(generation uint64) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	for l.generation.Load() == generation {
		c := &Call{loop: l}
		switch err := sys.Recv(l.listener, &c.n); err {
		case nil:
		case unix.EINTR, unix.ENOENT:
			// ENOENT: the caller died meanwhile, or nobody is left under the filter.
			if err == unix.ENOENT && l.HungUp() {
				l.finish(nil)
				return
			}
			continue
		case unix.ENOTCONN:
			l.finish(nil)
			return
		default:
			l.finish(fmt.Errorf("receive from the seccomp listener: %w", err))
			return
		}
		l.seq.Add(1)
		l.busy.Store(true)
		if l.asleep.Load() && l.asleep.CompareAndSwap(true, false) {
			l.users.run(l.watch)
		}
		l.serve(c)
		if l.generation.Load() == generation {
			l.busy.Store(false)
		}
	}
}

// HungUp tells whether no process is left under the filter (Linux 5.9). It does
// not block.
func (l *Loop) HungUp() bool {
	p := []unix.PollFd{{Fd: int32(l.listener)}}
	unix.Poll(p, 0)
	return p[0].Revents&(unix.POLLHUP|unix.POLLERR|unix.POLLNVAL) != 0
}

// watch lets another thread receive when one call takes too long: a caller can
// make even a harmless call block (a slow file system behind its memory,
// SO_LINGER, a flag changed under our hands). It ends when no call came for a
// while; the next one starts it anew.
func (l *Loop) watch() {
	tick := time.NewTicker(takeover)
	defer tick.Stop()
	for last := l.seq.Load(); ; {
		for idle := 0; idle < idleTicks; {
			select {
			case <-l.done:
				return
			case <-tick.C:
			}
			now := l.seq.Load()
			switch {
			case now != last:
				idle = 0
			case l.busy.Load() && l.receivers.Load() < maxReceivers:
				l.busy.Store(false)
				l.spawn(l.generation.Add(1))
			default:
				idle++
			}
			last = now
		}
		l.asleep.Store(true)
		// A call that came just before this saw a watcher.
		if l.seq.Load() == last || !l.asleep.CompareAndSwap(true, false) {
			return
		}
	}
}

func (l *Loop) serve(c *Call) {
	if nr := c.Nr(); nr >= 0 && nr <= sys.MaxSyscall {
		l.traps[nr].Add(1)
	}
	l.answer(c, l.walk(c))
}

// walk asks the chain. A fault in a handler denies the call and harms no other.
func (l *Loop) walk(c *Call) (a Action) {
	returned := false
	defer func() {
		switch r := recover(); {
		case r != nil:
			l.fault(fmt.Errorf("handler for %s: %v\n%s", c, r, debug.Stack()))
			a = Errno(unix.EPERM)
		case !returned:
			// runtime.Goexit ends this receiver, whatever is done.
			l.fault(fmt.Errorf("handler for %s ended its goroutine", c))
			l.answer(c, Errno(unix.EPERM))
			l.spawn(l.generation.Add(1))
		}
	}()
	a = l.askAll(c)
	returned = true
	return a
}

// askAll asks those handlers of the chain that were not asked yet.
func (l *Loop) askAll(c *Call) Action {
	for chain := l.chains[c.Nr()]; c.asked < len(chain); {
		k := chain[c.asked]
		c.asked++
		if !k.guard.Holds(&c.n.Data.Args) {
			continue
		}
		k.count.n.Add(1)
		if a := k.handler.Handle(c); !a.IsContinue() {
			return a
		}
	}
	return Continue()
}

func (l *Loop) answer(c *Call, a Action) {
	r := sys.Response{ID: c.n.ID}
	switch a.kind {
	case actContinue:
		r.Flags = sys.RespContinue
	case actErrno:
		r.Error = -int32(a.errno)
	case actReturn:
		r.Val = a.val
	case actInject:
		if l.kept != nil {
			l.kept.keep(l, a.fd)
		}
		n, err := sys.AddFDSend(l.listener, c.n.ID, a.fd, a.cloexec)
		unix.Close(a.fd)
		if a.done != nil {
			a.done(n, err)
		}
		if err == nil || err == unix.ENOENT {
			return
		}
		e, ok := err.(unix.Errno)
		if !ok {
			e = unix.EMFILE
		}
		r.Error = -int32(e)
	case actKill:
		unix.Kill(TGID(c.PID()), unix.SIGKILL)
		r.Error = -int32(unix.EPERM)
	case actDefer:
		l.deferred.run(l, c, a.fn, a.own)
		return
	}
	if err := sys.Send(l.listener, &r); err != nil && err != unix.ENOENT {
		l.fault(fmt.Errorf("answer %s: %w", c, err))
	}
}
