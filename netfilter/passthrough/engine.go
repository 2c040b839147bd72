// Package passthrough joins pairs of connected sockets: it looks at the first
// message of the client where asked, and from then on lets the kernel move the
// bytes (splice(2)), without terminating TLS.
//
// One goroutine serves all flows with one epoll instance, edge-triggered. A
// pipe belongs to a flow only while bytes are in it: thousands of idle pipes
// would use up the pipe budget that all processes of the user share (pipe(7),
// pipe-user-pages-soft).
package passthrough

import (
	"errors"
	"fmt"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// HelloTimeout is how long the first message may take, counted from its first
// byte. Before that byte there is no limit: browsers open connections ahead of
// need. The number is a choice; servers use 10 to 60 s.
const HelloTimeout = 30 * time.Second

// lingerTimeout is how long a refused client has for reading the answer.
const lingerTimeout = 2 * time.Second

// maxEvents is how many events one epoll_wait takes.
const maxEvents = 128

// Errors of Add and of Result.Err.
var (
	ErrClosed  = errors.New("passthrough: engine is closed")
	ErrAborted = errors.New("passthrough: flow was aborted")
)

// Engine serves flows. Its methods may be called from any goroutine.
type Engine struct {
	report func(Result)
	hello  time.Duration
	linger time.Duration
	epoll  int
	wake   int
	done   chan struct{}

	mu     sync.Mutex
	ops    []op
	closed bool
	fault  error

	// Owned by the goroutine.
	flows   []*flow
	free    []int32
	gens    []int32
	ready   []*flow
	hellos  deadlines
	lingers deadlines
	pipes   pipes
}

// op is a request to the goroutine: a flow to add, or a tag to abort.
type op struct {
	flow  *flow
	abort uint64
}

// New starts an engine. report is called once for each flow that Add accepted,
// from the engine's goroutine: it must not block and must not call Close; it
// may call Add and Abort. Close must be called.
func New(report func(Result)) (*Engine, error) {
	return start(report, HelloTimeout, lingerTimeout)
}

func start(report func(Result), helloTimeout, linger time.Duration) (*Engine, error) {
	epoll, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("passthrough: epoll_create1: %w", err)
	}
	wake, err := unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
	if err != nil {
		unix.Close(epoll)
		return nil, fmt.Errorf("passthrough: eventfd: %w", err)
	}
	ev := unix.EpollEvent{Events: unix.EPOLLIN, Fd: -1}
	if err := unix.EpollCtl(epoll, unix.EPOLL_CTL_ADD, wake, &ev); err != nil {
		unix.Close(wake)
		unix.Close(epoll)
		return nil, fmt.Errorf("passthrough: epoll_ctl: %w", err)
	}
	e := &Engine{report: report, hello: helloTimeout, linger: linger, epoll: epoll, wake: wake, done: make(chan struct{})}
	go e.run()
	return e, nil
}

// Add hands a flow to the engine, which owns both descriptors from here on: when
// Add fails they are closed and nothing is reported. It does not block. It
// fails when the engine is closed (ErrClosed) or a descriptor is not open.
func (e *Engine) Add(fl Flow) error {
	f := &flow{Flow: fl, fd: [2]int{fl.Client, fl.Upstream}, started: time.Now()}
	for _, fd := range f.fd {
		if err := unix.SetNonblock(fd, true); err != nil {
			closeBoth(f)
			return fmt.Errorf("passthrough: descriptor %d: %w", fd, err)
		}
	}
	if err := e.request(op{flow: f}); err != nil {
		closeBoth(f)
		return err
	}
	return nil
}

// Abort ends every flow with this tag, both sides with a reset; each is reported
// with ErrAborted. It does not wait. An unknown tag has no effect.
func (e *Engine) Abort(tag uint64) { _ = e.request(op{abort: tag}) }

// Close ends every flow, both sides with a reset, reports each with ErrClosed
// and returns when all descriptors are closed. Later calls wait likewise. The
// error is that of the engine's own epoll instance, if it failed before.
func (e *Engine) Close() error {
	e.mu.Lock()
	e.closed = true
	e.signal()
	e.mu.Unlock()
	<-e.done
	return e.fault
}

func (e *Engine) request(o op) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.closed {
		return ErrClosed
	}
	e.ops = append(e.ops, o)
	if len(e.ops) == 1 {
		e.signal()
	}
	return nil
}

// signal needs mu: the goroutine closes the eventfd under it. A full counter
// (EAGAIN) wakes as well.
func (e *Engine) signal() {
	if e.wake >= 0 {
		_, _ = unix.Write(e.wake, []byte{1, 0, 0, 0, 0, 0, 0, 0})
	}
}

func (e *Engine) run() {
	defer close(e.done)
	defer e.end()
	events := make([]unix.EpollEvent, maxEvents)
	for {
		n, err := unix.EpollWait(e.epoll, events, e.timeout())
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			e.fault = fmt.Errorf("passthrough: epoll_wait: %w", err)
			return
		}
		for i := range events[:n] {
			ev := &events[i]
			if ev.Fd >= 0 {
				e.event(ev)
			} else if !e.requests() {
				return
			}
		}
		// Flows that used up their share go on after the others had theirs.
		batch := e.ready
		e.ready = nil
		for _, f := range batch {
			f.queued = false
			e.step(f)
		}
		e.expire()
	}
}

// timeout is epoll_wait's: milliseconds, -1 for none, rounded up.
func (e *Engine) timeout() int {
	if len(e.ready) > 0 {
		return 0
	}
	next, ok := e.hellos.next()
	if t, ok2 := e.lingers.next(); ok2 && (!ok || t.Before(next)) {
		next, ok = t, true
	}
	if !ok {
		return -1
	}
	return int(max(0, time.Until(next)+time.Millisecond-1) / time.Millisecond)
}

// requests performs what was asked for; false means the end.
func (e *Engine) requests() bool {
	var b [8]byte
	_, _ = unix.Read(e.wake, b[:])
	e.mu.Lock()
	ops, closed := e.ops, e.closed
	if !closed {
		e.ops = nil
	}
	e.mu.Unlock()
	if closed {
		return false
	}
	for _, o := range ops {
		if o.flow != nil {
			e.admit(o.flow)
			continue
		}
		for _, f := range e.flows {
			if f != nil && f.Tag == o.abort {
				e.reset(f, ErrAborted)
			}
		}
	}
	return true
}

// event notes what epoll said and lets the flow go on.
func (e *Engine) event(ev *unix.EpollEvent) {
	side := int(ev.Fd & 1)
	f := e.flows[ev.Fd>>1]
	if f == nil || f.gen != ev.Pad {
		return
	}
	if ev.Events&(unix.EPOLLIN|unix.EPOLLRDHUP|unix.EPOLLHUP|unix.EPOLLERR) != 0 {
		f.readable[side] = true
	}
	if ev.Events&(unix.EPOLLOUT|unix.EPOLLHUP|unix.EPOLLERR) != 0 {
		f.writable[side] = true
	}
	if ev.Events&unix.EPOLLERR != 0 {
		if n, err := unix.GetsockoptInt(f.fd[side], unix.SOL_SOCKET, unix.SO_ERROR); err == nil && n != 0 {
			e.fail(f, side, unix.Errno(n))
			return
		}
	}
	if f.phase == inspecting && side == upstream && ev.Events&(unix.EPOLLRDHUP|unix.EPOLLHUP) != 0 {
		// A server that drops an unused connection: tell the client so.
		e.finish(f, nil)
		return
	}
	e.step(f)
}

// end closes everything; it runs once, at the end of the goroutine.
func (e *Engine) end() {
	e.mu.Lock()
	e.closed = true
	ops := e.ops
	e.ops = nil
	unix.Close(e.wake)
	e.wake = -1
	e.mu.Unlock()
	for _, f := range e.flows {
		if f != nil {
			e.reset(f, ErrClosed)
		}
	}
	for _, o := range ops {
		if o.flow != nil {
			resetOnClose(o.flow)
			closeBoth(o.flow)
			e.report(o.flow.result(ErrClosed))
		}
	}
	e.pipes.close()
	unix.Close(e.epoll)
}
