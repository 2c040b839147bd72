package sandbox

import (
	"errors"
	"fmt"
	"io"
	"net/netip"

	"github.com/sandlock/sandlock/internal/event"
	"github.com/sandlock/sandlock/internal/wire"
	"github.com/sandlock/sandlock/netfilter"
	"golang.org/x/sys/unix"
)

// read takes what one process says until it ends; its connections end with it.
func (x *intercept) read(conn *wire.Conn) {
	for {
		m, fds, err := conn.Receive()
		if err != nil {
			x.died(conn, err)
			return
		}
		wire.CloseAll(fds) // it has none to give
		switch m := m.(type) {
		case wire.Authority:
			x.adopt(m)
		case wire.Dial:
			x.dialFor(conn, m)
		case wire.Ended:
			x.ended(m.Flow, m.Up, m.Down)
		case wire.Request:
			x.report(m)
		case wire.Fault:
			x.mu.Lock()
			x.complaint = m.Text
			x.mu.Unlock()
			x.fault("interceptor: " + m.Text)
		case wire.Stored:
			x.mu.Lock()
			wait := x.stores[m.ID]
			delete(x.stores, m.ID)
			x.mu.Unlock()
			if wait != nil {
				wait <- m
			}
		default:
			x.died(conn, wire.ErrMalformed)
			return
		}
	}
}

// died ends what belongs to a process that is gone, or that says what it must not.
func (x *intercept) died(conn *wire.Conn, err error) {
	x.mu.Lock()
	conn.Close()
	x.conn = nil
	x.host.end()
	flows, stores := x.flows, x.stores
	x.flows, x.stores = map[uint64]flowState{}, map[uint64]chan wire.Stored{}
	closing := x.ctx.Err() != nil
	x.mu.Unlock()
	x.giveUp("")
	for _, f := range flows {
		f.ended(0, 0)
	}
	for _, wait := range stores {
		wait <- wire.Stored{Error: "the interceptor has ended"}
	}
	if closing {
		return
	}
	text := "the interceptor has ended"
	if !errors.Is(err, io.EOF) {
		text = fmt.Sprintf("the interceptor was ended: %v", err)
	}
	x.fault(fmt.Sprintf("%s; connections of it that were closed: %d", text, len(flows)))
}

// giveUp tells those who wait for the authority that a process had none.
func (x *intercept) giveUp(why string) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if why != "" {
		x.complaint = why
	}
	select {
	case <-x.barren:
	default:
		close(x.barren)
	}
}

// adopt keeps the CA that the first process made, for the ones after it.
func (x *intercept) adopt(a wire.Authority) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.cert != nil {
		return
	}
	b := a.Encode()
	err := x.ca.fill(b)
	clear(b)
	clear(a.Key)
	if err != nil {
		x.fault("interceptor: " + err.Error())
		return
	}
	x.cert = a.Cert
	close(x.authority)
}

// dialFor makes a connection for a flow and answers off the reading goroutine.
func (x *intercept) dialFor(conn *wire.Conn, m wire.Dial) {
	x.mu.Lock()
	flow, ok := x.flows[m.Flow]
	x.mu.Unlock()
	if !ok {
		x.answer(conn, wire.Dialed{ID: m.ID, Reason: "the connection is over"}, -1)
		return
	}
	select {
	case x.dials <- struct{}{}:
	default:
		x.answer(conn, wire.Dialed{ID: m.ID, Errno: unix.EAGAIN}, -1)
		return
	}
	x.wg.Add(1)
	go func() {
		defer x.wg.Done()
		defer func() { <-x.dials }()
		fd, err := x.dial(x.ctx, netfilter.Upstream{Name: m.Name, Addr: flow.addr, Port: m.Port})
		d := wire.Dialed{ID: m.ID}
		var refused *netfilter.RefusedError
		switch {
		case errors.As(err, &refused):
			d.Reason = refused.Error()
			x.reportRefused(flow, refused)
		case err != nil:
			d.Reason = err.Error()
			errors.As(err, &d.Errno)
		}
		x.answer(conn, d, fd)
	}()
}

func (x *intercept) answer(conn *wire.Conn, d wire.Dialed, fd int) {
	var fds []int
	if fd >= 0 {
		fds = []int{fd}
	}
	// An error means that the process is gone, which the reader notices.
	_ = conn.Send(d, fds...)
	wire.CloseAll(fds)
}

func (x *intercept) reportRefused(f flowState, r *netfilter.RefusedError) {
	kind := event.Deny
	if x.audit {
		kind = event.Audit
	}
	e := event.Event{Kind: kind, PID: f.pid, Protocol: "tcp", Name: r.Endpoint.Name.String(), Addr: r.Endpoint.Addr, Port: r.Endpoint.Port,
		Reason: r.Verdict.Reason.String(), AllowWith: r.Verdict.AllowWith}
	if r.Verdict.Rule != nil {
		e.Rule, e.Source = r.Verdict.Rule.Text, r.Verdict.Rule.Source
	}
	x.emit(e)
}

// report turns what the interceptor says about a request into an event. Which
// process made it, and where it went, is the supervisor's own knowledge.
func (x *intercept) report(m wire.Request) {
	x.mu.Lock()
	f, ok := x.flows[m.Flow]
	x.mu.Unlock()
	if !ok {
		return
	}
	kinds := map[wire.Verdict]event.Kind{wire.Denied: event.Deny, wire.Audited: event.Audit, wire.Allowed: event.Request}
	protocol := "http"
	if m.TLS {
		protocol = "https"
	}
	addr := f.addr
	if a, err := netip.ParseAddr(m.Host); err == nil && a.Unmap() == addr {
		m.Host = ""
	}
	x.emit(event.Event{
		Kind: kinds[m.Verdict], PID: f.pid, Protocol: protocol, Name: m.Host, Addr: addr, Port: m.Port,
		Method: m.Method, Path: m.Path, Status: int(m.Status), BytesUp: m.Up, BytesDown: m.Down, Duration: m.Duration,
		Reason: m.Reason, Rule: m.Rule, Source: m.Source, AllowWith: m.AllowWith,
	})
}
