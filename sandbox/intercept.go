package sandbox

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"sync"
	"time"

	"github.com/sandlock/sandlock/internal/event"
	"github.com/sandlock/sandlock/internal/wire"
	"github.com/sandlock/sandlock/netfilter"
	"github.com/sandlock/sandlock/netfilter/endpoint"
	httprule "github.com/sandlock/sandlock/proxy/rule"
	"golang.org/x/sys/unix"
)

const (
	// flowQueue is how many connections may wait for the interceptor to take them;
	// one more is closed.
	flowQueue = 1024
	// maxDials bounds the connections that are under way for the interceptor.
	maxDials = 512
	// maxStarts bounds how often a run starts an interceptor: one that always dies
	// closes its connections, and is not to be started for each of them for ever.
	maxStarts = 256
	// lastWords is how long the interceptor may take to report what is over at the
	// end of a run.
	lastWords = 2 * time.Second
)

// intercept is the supervisor's half of the interceptor: it starts the process,
// hands connections to it, dials for it as the policy lets the command, and
// reports what it says. It believes none of it: what comes back can neither open
// anything that the policy does not nor speak of other processes.
type intercept struct {
	rules *httprule.Policy
	auth  *httprule.Policy // the requests that get credentials
	all   bool             // look into every connection on the ports of HTTP
	dial  func(context.Context, netfilter.Upstream) (int, error)
	emit  func(event.Event)
	audit bool
	// awaited: the start waits for the authority, and says itself why there is none.
	awaited bool
	host    *companionHost

	queue chan netfilter.Intercepted
	ctx   context.Context
	stop  context.CancelFunc
	wg    sync.WaitGroup
	dials chan struct{} // a token for each dial under way

	mu     sync.Mutex
	conn   *wire.Conn // of the process that is up, nil for none
	flows  map[uint64]flowState
	next   uint64
	starts int
	setup  secretFile
	ca     secretFile
	stores map[uint64]chan wire.Stored

	authority chan struct{} // closed when cert is there
	cert      []byte
	barren    chan struct{} // closed when a process ended before that
	complaint string        // the last fault that a process told
}

// flowState is what the supervisor knows about a connection that the interceptor
// has.
type flowState struct {
	pid   int32
	addr  netip.Addr
	port  uint16
	ended func(up, down int64)
}

// Looks tells whether a rule speaks of a port.
func (x *intercept) Looks(port uint16) bool { return x.rules.Looks(port) || x.auth.Looks(port) }

// Terminates tells whether a rule has to see inside the connections to a name at
// an address, or to an address alone.
func (x *intercept) Terminates(n endpoint.Name, a netip.Addr, port uint16) bool {
	if x.all && !n.IsZero() && (port == httpPort || port == httpsPort) {
		return true
	}
	to := httprule.Destination{Addr: a}
	return x.rules.Terminates(n, to, port) || x.auth.Terminates(n, to, port)
}

// start begins to serve. dial is the policy's way out. It returns at once.
func (x *intercept) start(dial func(context.Context, netfilter.Upstream) (int, error)) {
	x.dial = dial
	x.wg.Add(1)
	go func() {
		defer x.wg.Done()
		if _, err := x.process(); err != nil {
			x.fault(err.Error())
			x.giveUp(err.Error())
		}
		x.serve()
	}()
}

// Close ends the process and all its connections, and first takes what it still has
// to say about them.
func (x *intercept) Close() {
	x.stop()
	x.mu.Lock()
	conn, last := x.conn, lastWords
	if len(x.flows) == 0 {
		last = 0 // what there was to say came before the end of each
	}
	x.mu.Unlock()
	if conn != nil {
		conn.CloseWrite()
		late := time.AfterFunc(last, func() { conn.Close() })
		defer late.Stop()
	}
	x.wg.Wait()
	x.host.close()
	x.setup.close()
	x.ca.close()
}

// Intercept queues a connection for the interceptor.
func (x *intercept) Intercept(c netfilter.Intercepted) {
	select {
	case x.queue <- c:
	default:
		x.refuse(c, "too many connections wait for the interceptor")
	}
}

func (x *intercept) refuse(c netfilter.Intercepted, why string) {
	unix.Close(c.Client)
	if c.Upstream >= 0 {
		unix.Close(c.Upstream)
	}
	c.Ended(0, 0)
	if why != "" {
		x.fault(why)
	}
}

func (x *intercept) fault(text string) {
	if x.awaited {
		select {
		case <-x.authority:
		default:
			return
		}
	}
	x.emit(event.Event{Kind: event.Fault, Reason: text})
}

// serve hands queued connections over, and starts a process where none is up.
func (x *intercept) serve() {
	for {
		var c netfilter.Intercepted
		select {
		case <-x.ctx.Done():
			x.drain()
			return
		case c = <-x.queue:
		}
		conn, err := x.process()
		switch {
		case x.ctx.Err() != nil:
			x.refuse(c, "")
			continue
		case err != nil:
			x.refuse(c, err.Error())
			continue
		}
		x.mu.Lock()
		x.next++
		id := x.next
		x.flows[id] = flowState{c.PID, c.Dst.Addr(), c.Dst.Port(), c.Ended}
		x.mu.Unlock()
		fds := []int{c.Client}
		if c.Upstream >= 0 {
			fds = append(fds, c.Upstream)
		}
		err = conn.Send(wire.Flow{ID: id, Dst: c.Dst, Names: c.Names, First: c.First, Upstream: c.Upstream >= 0}, fds...)
		wire.CloseAll(fds)
		if err != nil {
			x.ended(id, 0, 0)
			if x.ctx.Err() == nil {
				x.fault(fmt.Sprintf("a connection could not be handed to the interceptor: %v", err))
			}
		}
	}
}

func (x *intercept) drain() {
	for {
		select {
		case c := <-x.queue:
			x.refuse(c, "")
		default:
			return
		}
	}
}

func (x *intercept) ended(id uint64, up, down int64) {
	x.mu.Lock()
	f, ok := x.flows[id]
	delete(x.flows, id)
	x.mu.Unlock()
	if ok {
		f.ended(up, down)
	}
}

var errInterceptorGone = errors.New("the interceptor has ended too often; its connections are refused")

// process returns the connection to the process, which it starts if none is up.
func (x *intercept) process() (*wire.Conn, error) {
	x.mu.Lock()
	defer x.mu.Unlock()
	switch {
	case x.ctx.Err() != nil:
		return nil, context.Canceled
	case x.conn != nil:
		return x.conn, nil
	case x.starts >= maxStarts:
		return nil, errInterceptorGone
	}
	x.starts++
	conn, err := x.host.spawn()
	if err != nil {
		return nil, fmt.Errorf("interceptor: %w", err)
	}
	fds := []int{x.setup.fd()}
	if x.ca.fd() >= 0 {
		fds = append(fds, x.ca.fd())
	}
	if err := conn.Send(wire.SetupReady{}, fds...); err != nil {
		conn.Close()
		x.host.end()
		return nil, fmt.Errorf("interceptor: %w", err)
	}
	x.conn = conn
	x.wg.Add(1)
	go func() {
		defer x.wg.Done()
		x.read(conn)
	}()
	return conn, nil
}
