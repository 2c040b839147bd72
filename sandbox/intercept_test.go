package sandbox

import (
	"context"
	"errors"
	"io"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/sandlock/sandlock/internal/event"
	"github.com/sandlock/sandlock/internal/wire"
	"github.com/sandlock/sandlock/netfilter"
	"github.com/sandlock/sandlock/netfilter/endpoint"
	"golang.org/x/sys/unix"
)

// lying is a supervisor's half whose interceptor is the test.
type lying struct {
	*intercept
	conn *wire.Conn // the interceptor's end

	mu     sync.Mutex
	events []event.Event
	dialed []netfilter.Upstream
	ended  []uint64
}

func newLying(t *testing.T) *lying {
	t.Helper()
	l := &lying{}
	l.intercept = &intercept{
		host: &companionHost{}, queue: make(chan netfilter.Intercepted), dials: make(chan struct{}, maxDials),
		flows: map[uint64]flowState{}, stores: map[uint64]chan wire.Stored{}, authority: make(chan struct{}), barren: make(chan struct{}),
		emit: func(e event.Event) {
			l.mu.Lock()
			defer l.mu.Unlock()
			l.events = append(l.events, e)
		},
		dial: func(_ context.Context, u netfilter.Upstream) (int, error) {
			l.mu.Lock()
			defer l.mu.Unlock()
			l.dialed = append(l.dialed, u)
			return -1, unix.ECONNREFUSED
		},
	}
	l.ctx, l.stop = context.WithCancel(context.Background())
	t.Cleanup(l.stop)
	for id := uint64(1); id <= 2; id++ {
		l.flows[id] = flowState{pid: int32(100 + id), addr: netip.MustParseAddr("192.0.2.1"), port: 443, ended: func(int64, int64) {
			l.mu.Lock()
			defer l.mu.Unlock()
			l.ended = append(l.ended, id)
		}}
	}
	ours, fd, err := wire.Pair()
	if err != nil {
		t.Fatal(err)
	}
	if l.conn, err = wire.Open(fd); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.conn.Close() })
	l.intercept.conn = ours
	l.wg.Add(1)
	go func() {
		defer l.wg.Done()
		l.read(ours)
	}()
	return l
}

// say sends messages, ends the connection and waits until all were taken.
func (l *lying) say(t *testing.T, messages ...wire.Message) {
	t.Helper()
	for _, m := range messages {
		if err := l.conn.Send(m); err != nil {
			t.Fatal(err)
		}
	}
	l.conn.CloseWrite()
	for {
		if _, _, err := l.conn.Receive(); err != nil {
			break
		}
	}
	l.wg.Wait()
}

// What an interceptor says in the name of connections that it does not have, or that
// are over, is not heard; and it cannot choose whose process a request was.
func TestALyingInterceptorSpeaksForNobodyElse(t *testing.T) {
	l := newLying(t)
	l.say(t, wire.Request{Flow: 7, Verdict: wire.Allowed, Method: "GET", Host: "forged.example"}, wire.Request{Flow: 1, Verdict: wire.Allowed, Method: "GET", Host: "a.example", Path: "/x"},
		wire.Ended{Flow: 1, Up: 1, Down: 2}, wire.Request{Flow: 1, Verdict: wire.Denied, Method: "GET", Host: "late.example"}, wire.Ended{Flow: 1}, wire.Ended{Flow: 9})
	if !slices.Equal(l.ended, []uint64{1, 2}) {
		t.Errorf("ended %v: each connection once, the other with the process", l.ended)
	}
	var requests []event.Event
	for _, e := range l.events {
		if e.Kind != event.Fault {
			requests = append(requests, e)
		}
	}
	if len(requests) != 1 || requests[0].PID != 101 || requests[0].Kind != event.Request || requests[0].Name != "a.example" || requests[0].Addr.String() != "192.0.2.1" {
		t.Errorf("%+v", requests)
	}
}

// A dial is one for a connection that is open, to an address of the supervisor's own
// knowledge; whatever the policy says to it.
func TestALyingInterceptorDialsForItsConnections(t *testing.T) {
	l := newLying(t)
	n, err := endpoint.ParseName("a.example")
	if err != nil {
		t.Fatal(err)
	}
	for id, flow := range []uint64{9, 1} {
		if err := l.conn.Send(wire.Dial{ID: uint64(id), Flow: flow, Name: n, Port: 443}); err != nil {
			t.Fatal(err)
		}
		m, fds, err := l.conn.Receive()
		d, ok := m.(wire.Dialed)
		if err != nil || !ok || len(fds) != 0 || d.ID != uint64(id) || (flow == 9) != (d.Errno == 0) {
			t.Errorf("flow %d: %+v, %v, %v", flow, m, fds, err)
		}
	}
	l.say(t)
	want := []netfilter.Upstream{{Name: n, Addr: netip.MustParseAddr("192.0.2.1"), Port: 443}}
	if !slices.Equal(l.dialed, want) {
		t.Errorf("dialled %+v", l.dialed)
	}
}

// One that says what only the supervisor says is ended with its connections, and what
// waits for it is told.
func TestALyingInterceptorIsEnded(t *testing.T) {
	for _, m := range []wire.Message{wire.Flow{ID: 1, Dst: netip.MustParseAddrPort("192.0.2.1:443")}, wire.SetupReady{}, wire.Dialed{ID: 1}, wire.Store{ID: 1}} {
		l := newLying(t)
		wait := make(chan wire.Stored, 1)
		l.intercept.mu.Lock()
		l.stores[3] = wait
		l.intercept.mu.Unlock()
		if err := l.conn.Send(m); err != nil {
			t.Fatal(err)
		}
		if _, _, err := l.conn.Receive(); !errors.Is(err, io.EOF) {
			t.Errorf("%T: the connection stays: %v", m, err)
		}
		l.wg.Wait()
		if len(l.ended) != 2 || (<-wait).Error == "" {
			t.Errorf("%T: ended %v", m, l.ended)
		}
		if _, err := l.PEM(t.Context()); !errors.Is(err, errNoAuthority) {
			t.Errorf("%T: %v", m, err)
		}
		if len(l.events) != 1 || !strings.Contains(l.events[0].Reason, "was ended") {
			t.Errorf("%T: %+v", m, l.events)
		}
	}
}
