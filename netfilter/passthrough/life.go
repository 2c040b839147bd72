package passthrough

import (
	"fmt"
	"slices"
	"time"

	"golang.org/x/sys/unix"
)

// admit gives a flow its slot and registers both sockets, once and for every
// event: edge-triggered, an idle flow costs no call.
func (e *Engine) admit(f *flow) {
	if len(e.free) == 0 {
		e.free = append(e.free, int32(len(e.flows)))
		e.flows = append(e.flows, nil)
		e.gens = append(e.gens, 0)
	}
	f.slot = e.free[len(e.free)-1]
	e.free = e.free[:len(e.free)-1]
	e.gens[f.slot]++
	f.gen = e.gens[f.slot]
	e.flows[f.slot] = f
	if f.Inspect {
		f.first = new(first)
	} else {
		f.phase, f.outcome = relaying, Passed
		if len(f.First) > 0 {
			f.first, f.First = &first{buf: f.First}, nil
		}
	}
	for side, fd := range f.fd {
		// Bytes arrive here in the segments their sender chose; holding back
		// the last one adds latency only. Not every stream socket is TCP.
		_ = unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1)
		if err := e.watch(f, side); err != nil {
			e.reset(f, err)
			return
		}
	}
}

func (e *Engine) watch(f *flow, side int) error {
	ev := unix.EpollEvent{
		Events: unix.EPOLLIN | unix.EPOLLOUT | unix.EPOLLRDHUP | unix.EPOLLET,
		Fd:     f.slot<<1 | int32(side), Pad: f.gen,
	}
	if err := unix.EpollCtl(e.epoll, unix.EPOLL_CTL_ADD, f.fd[side], &ev); err != nil {
		return fmt.Errorf("passthrough: epoll_ctl: %w", err)
	}
	return nil
}

// finish ends a flow: closes its sockets, gives the pipes back and reports,
// unless a refusal was reported before.
func (e *Engine) finish(f *flow, err error) {
	if f.phase == ended {
		return
	}
	reported := f.phase == lingering
	f.phase = ended
	for i := range f.streams {
		e.dropPipe(&f.streams[i])
	}
	for _, fd := range f.fd {
		if fd >= 0 {
			// Explicit, should a copy of the descriptor exist after all.
			_ = unix.EpollCtl(e.epoll, unix.EPOLL_CTL_DEL, fd, nil)
		}
	}
	closeBoth(f)
	e.flows[f.slot] = nil
	e.free = append(e.free, f.slot)
	f.first = nil
	if !reported {
		e.report(f.result(err))
	}
}

// reset is finish with a reset to both sides, so that nobody takes what came so
// far for the whole.
func (e *Engine) reset(f *flow, err error) {
	if f.phase != ended {
		resetOnClose(f)
	}
	e.finish(f, err)
}

func resetOnClose(f *flow) {
	for _, fd := range f.fd {
		if fd >= 0 {
			_ = unix.SetsockoptLinger(fd, unix.SOL_SOCKET, unix.SO_LINGER, &unix.Linger{Onoff: 1})
		}
	}
}

// fail ends a flow one side of which is broken. What that side sent before is
// still delivered as far as the other takes it at once, as it would have been
// without us in between: servers answer and reset when they do not want the
// rest of a request.
func (e *Engine) fail(f *flow, side int, err error) {
	if f.phase == ended || f.failing {
		return
	}
	f.failing = true
	if f.phase == relaying {
		f.readable[side] = true
		for more := true; more; {
			more, _, _ = e.pump(f, side)
		}
	}
	e.reset(f, fmt.Errorf("passthrough: %s: %w", [...]string{client: "client", upstream: "upstream"}[side], err))
}

func closeBoth(f *flow) {
	for i, fd := range f.fd {
		if fd >= 0 {
			unix.Close(fd)
		}
		f.fd[i] = -1
	}
}

// deadlines is a queue for deadlines that all lie equally far ahead. Entries of
// flows that went on or ended are skipped when their time comes.
type deadlines struct{ list []deadline }

type deadline struct {
	at   time.Time
	flow *flow
}

func (d *deadlines) add(f *flow, after time.Duration) {
	if len(d.list) == cap(d.list) {
		// Entries behind a slow head: forget those that no longer matter.
		d.list = slices.DeleteFunc(d.list, func(x deadline) bool { return !x.flow.limited() })
	}
	d.list = append(d.list, deadline{time.Now().Add(after), f})
}

// next drops entries whose flow is past the phase that was limited, so that
// they hold no memory and cause no wake-up.
func (d *deadlines) next() (time.Time, bool) {
	for len(d.list) > 0 && !d.list[0].flow.limited() {
		d.pop()
	}
	if len(d.list) == 0 {
		return time.Time{}, false
	}
	return d.list[0].at, true
}

func (d *deadlines) pop() *flow {
	f := d.list[0].flow
	d.list[0] = deadline{}
	d.list = d.list[1:]
	return f
}

func (f *flow) limited() bool { return f.phase == inspecting || f.phase == lingering }

func (e *Engine) expire() {
	if len(e.hellos.list) == 0 && len(e.lingers.list) == 0 {
		return
	}
	now := time.Now()
	for {
		at, ok := e.hellos.next()
		if !ok || at.After(now) {
			break
		}
		if f := e.hellos.pop(); f.phase == inspecting {
			e.refuse(f, Timeout)
		}
	}
	for {
		at, ok := e.lingers.next()
		if !ok || at.After(now) {
			break
		}
		e.finish(e.lingers.pop(), nil)
	}
}
