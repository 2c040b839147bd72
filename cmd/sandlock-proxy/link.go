package main

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"sync"

	"github.com/sandlock/sandlock/certs"
	"github.com/sandlock/sandlock/internal/wire"
	"github.com/sandlock/sandlock/netfilter/endpoint"
	"github.com/sandlock/sandlock/proxy"
	"golang.org/x/sys/unix"
)

// link joins the proxy and sandlock.
type link struct {
	conn  *wire.Conn
	ca    *certs.CA
	proxy *proxy.Proxy

	mu    sync.Mutex
	next  uint64
	dials map[uint64]chan dialed
}

// dialed is the answer to a dial.
type dialed struct {
	conn net.Conn
	err  error
}

func newLink(conn *wire.Conn, ca *certs.CA) *link {
	return &link{conn: conn, ca: ca, dials: map[uint64]chan dialed{}}
}

// serve takes messages until sandlock closes the connection.
func (l *link) serve() error {
	defer l.proxy.Close()
	for {
		m, fds, err := l.conn.Receive()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		switch m := m.(type) {
		case wire.Flow:
			l.take(m, fds)
		case wire.Dialed:
			l.answered(m, fds)
		case wire.Store:
			go l.store(m, fds)
		default:
			wire.CloseAll(fds)
			return wire.ErrMalformed
		}
	}
}

// take hands a connection to the proxy.
func (l *link) take(m wire.Flow, fds []int) {
	conns, err := connections(fds)
	if err != nil || len(conns) == 0 || m.Upstream && len(conns) < 2 {
		for _, c := range conns {
			c.Close()
		}
		l.ended(m.ID, 0, 0)
		if err != nil {
			l.fault("a connection could not be taken: " + err.Error())
		}
		return
	}
	c := proxy.Connection{ID: m.ID, Client: conns[0], Dst: m.Dst, Names: m.Names, First: m.First}
	if m.Upstream {
		c.Upstream = conns[1]
	}
	l.proxy.Serve(c)
}

// connections turns descriptors into connections, and closes the descriptors.
func connections(fds []int) (out []net.Conn, first error) {
	for _, fd := range fds {
		f := os.NewFile(uintptr(fd), "connection")
		c, err := net.FileConn(f)
		f.Close()
		if err != nil {
			first = err
			continue
		}
		out = append(out, c)
	}
	return out, first
}

// dial asks sandlock for a connection.
func (l *link) dial(ctx context.Context, flow uint64, name endpoint.Name, port uint16) (net.Conn, error) {
	wait := make(chan dialed, 1)
	l.mu.Lock()
	l.next++
	id := l.next
	l.dials[id] = wait
	l.mu.Unlock()
	if err := l.conn.Send(wire.Dial{ID: id, Flow: flow, Name: name, Port: port}); err != nil {
		l.forget(id)
		return nil, err
	}
	select {
	case d := <-wait:
		return d.conn, d.err
	case <-ctx.Done():
		if !l.forget(id) {
			// The answer is there, or about to be.
			if d := <-wait; d.conn != nil {
				d.conn.Close()
			}
		}
		return nil, ctx.Err()
	}
}

// forget gives a dial up, and tells whether it was still waiting.
func (l *link) forget(id uint64) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	_, ok := l.dials[id]
	delete(l.dials, id)
	return ok
}

func (l *link) answered(m wire.Dialed, fds []int) {
	l.mu.Lock()
	wait := l.dials[m.ID]
	delete(l.dials, m.ID)
	l.mu.Unlock()
	conns, err := connections(fds)
	switch {
	case wait == nil:
		for _, c := range conns {
			c.Close()
		}
	case err != nil:
		wait <- dialed{err: err}
	case len(conns) == 1:
		wait <- dialed{conn: conns[0]}
	case m.Errno != 0 && m.Reason != "":
		wait <- dialed{err: errors.New(m.Reason)}
	case m.Errno != 0:
		wait <- dialed{err: m.Errno}
	case m.Reason == "":
		wait <- dialed{err: unix.EMFILE} // the socket was lost on the way
	default:
		wait <- dialed{err: &proxy.RefusedError{Reason: m.Reason}}
	}
}

func (l *link) report(r proxy.Report) {
	verdicts := map[proxy.Outcome]wire.Verdict{proxy.Allowed: wire.Allowed, proxy.Audited: wire.Audited}
	// An error means that sandlock is gone, which serve notices.
	_ = l.conn.Send(wire.Request{
		Flow: r.Connection, Verdict: verdicts[r.Outcome], TLS: r.TLS, Method: r.Method, Host: r.Host, Port: r.Port, Path: r.Path,
		Status: uint16(r.Status), Up: r.Up, Down: r.Down, Duration: r.Duration, Reason: r.Reason, Rule: r.Rule, Source: r.Source,
		AllowWith: r.AllowWith,
	})
}

func (l *link) ended(flow uint64, up, down int64) {
	_ = l.conn.Send(wire.Ended{Flow: flow, Up: up, Down: down})
}

func (l *link) fault(text string) { _ = l.conn.Send(wire.Fault{Text: text}) }
