// Package netfilter decides where the traffic of a sandbox may go: it answers
// the calls that make, name or accept connections.
package netfilter

import (
	"context"
	"fmt"
	"net/netip"
	"strconv"
	"strings"
	"sync"

	"github.com/sandlock/sandlock/dispatch"
	"github.com/sandlock/sandlock/internal/event"
	"github.com/sandlock/sandlock/internal/launch"
	"github.com/sandlock/sandlock/internal/sys"
	"github.com/sandlock/sandlock/netfilter/endpoint"
	"github.com/sandlock/sandlock/netfilter/neighbour"
	"github.com/sandlock/sandlock/netfilter/passthrough"
	"github.com/sandlock/sandlock/netfilter/resolver"
	"github.com/sandlock/sandlock/netfilter/tunnel"
	"golang.org/x/sys/unix"
)

// Config is what a Filter works with. The filter owns none of it but what New
// says.
type Config struct {
	Policy   *endpoint.Policy
	Binds    endpoint.BindPolicy
	Unix     []string // socket paths that may be connected to, clean and absolute
	Resolver *resolver.Resolver
	Audit    bool
	// Datagrams is the mode of datagram sockets.
	Datagrams Mode
	// Emit takes an event and never blocks.
	Emit func(event.Event)
	// Create says that the supervisor must make every socket of the command.
	Create bool
	// PortRemap gives a server another port where its own is in use outside.
	PortRemap bool
	// Neighbours are the addresses that stand for other sandboxes of the user, by
	// the names of their runs. Only the policy says which may be connected to.
	Neighbours map[netip.Addr]string
	// Thread is in the sandbox's Landlock domain: unix connects are made there.
	Thread *launch.Thread
	// Interceptor is nil when no rule has to see inside connections.
	Interceptor Interceptor
	// Proxy is the way to public addresses, with its own address; nil for none. The
	// Policy then has Chained.
	Proxy *tunnel.Proxy
}

// Filter holds the state of one sandbox's network.
type Filter struct {
	Config
	mu       sync.Mutex // guards engine and meet, which the first redirect starts, and server
	engine   *passthrough.Engine
	meet     *meeting
	own      cookies // listeners that the sandbox made
	served   ports   // of TCP, on which one of these listens or has listened
	peers    peers   // original peers of redirected sockets
	failures failures
	contain  containment
	netlink  netlink
	remap    remap
	server   *neighbour.Server
	named    bounded[uint64, netip.AddrPort] // peers of sockets that are connected to a neighbour, by cookie
	bound    cookies                         // sockets that the sandbox bound, with PortRemap
	mediated
	doors  []door
	loPort int // lowest port that needs no capability, ip(7)

	ctx    context.Context
	cancel context.CancelFunc
	wg     sync.WaitGroup
}

// mediated is what the mediated mode remembers. The cookies are those of the
// program's sockets.
type mediated struct {
	servers nameservers
	closed  closedPorts
	ready   readiness
	decoys  chan struct{}                   // places for sockets that are watched
	asked   bounded[uint64, netip.AddrPort] // the peer that a connected socket asked for
	askers  bounded[uint64, struct{}]       // sockets that asked the resolver
	// receivers are UDP sockets of the sandbox that datagrams may be sent to.
	receivers bounded[uint64, struct{}]
	reserved  reservations
	ports     bounded[uint16, int32] // local port -> process that uses it
}

// New returns the filter for a policy. Close ends what it started.
func New(c Config) (*Filter, error) {
	f := &Filter{Config: c, loPort: lowestFreePort(), doors: openDoors(c.Unix)}
	f.decoys = make(chan struct{}, maxDecoys)
	f.receivers.limit = maxOwn
	f.asked.limit, f.askers.limit, f.ports.limit = maxRemember, maxRemember, maxRemember
	f.named.limit = maxNamed
	f.ctx, f.cancel = context.WithCancel(context.Background())
	return f, nil
}

// start brings up the redirecting half when the first connection needs it.
func (f *Filter) start() (*meeting, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.meet != nil {
		return f.meet, nil
	}
	m, err := newMeeting()
	if err != nil {
		return nil, fmt.Errorf("redirect: %w", err)
	}
	e, err := passthrough.New(f.flowEnded)
	if err != nil {
		m.close()
		return nil, fmt.Errorf("pass-through: %w", err)
	}
	f.meet, f.engine = m, e
	return m, nil
}

// Close ends all flows and services. It blocks until they ended.
func (f *Filter) Close() error {
	f.cancel()
	f.mu.Lock()
	m, e, s := f.meet, f.engine, f.server
	f.mu.Unlock()
	if s != nil {
		s.Close()
	}
	if e != nil {
		e.Close()
	}
	if m != nil {
		m.close()
	}
	f.contain.close()
	f.netlink.close()
	f.servers.close()
	f.ready.close()
	f.wg.Wait()
	f.closed.close()
	f.reserved.close()
	f.closeDoors()
	return nil
}

// Register puts the network's handlers and denials into the table, in the
// contract's order.
func (f *Filter) Register(t *dispatch.Table) {
	t.Deny(f.denials()...)
	t.Deny(netlinkDenials()...)
	t.Deny(interfaceDenials()...)
	t.Deny(adminDenials()...)
	reg := func(name string, h dispatch.HandlerFunc, g dispatch.Guard, nrs ...int) {
		t.Builtin(dispatch.Registration{Name: name, Syscalls: nrs, Guard: g, Handler: h})
	}
	reg("net.netlink", f.netlinkSocket, dispatch.When(dispatch.Eq(0, unix.AF_NETLINK)), unix.SYS_SOCKET)
	reg("net.netlink.name", f.netlinkName, nil, unix.SYS_BIND, unix.SYS_CONNECT, unix.SYS_GETSOCKNAME, unix.SYS_GETPEERNAME)
	if f.PortRemap {
		reg("net.remap", f.localName, nil, unix.SYS_GETSOCKNAME)
	}
	reg("net.netlink.send", f.netlinkSend, netlinkRequest(), unix.SYS_SENDTO)
	reg("net.netlink.option", f.netlinkOption, dispatch.When(dispatch.Eq(1, unix.SOL_NETLINK)), unix.SYS_SETSOCKOPT, unix.SYS_GETSOCKOPT)
	reg("net.netlink.option", f.netlinkOption, kindOption(), unix.SYS_GETSOCKOPT)
	reg("net.interface", f.interfaceIoctl, interfaceRead(), unix.SYS_IOCTL)
	reg("net.connect", f.connect, nil, unix.SYS_CONNECT)
	if f.Create {
		f.registerCreated(reg)
	}
	if f.Datagrams == Mediated {
		f.registerMediated(reg)
	} else {
		f.registerContained(reg)
	}
	reg("net.bind", f.bind, nil, unix.SYS_BIND)
	reg("net.listen", f.listen, nil, unix.SYS_LISTEN)
	reg("net.getpeername", f.getpeername, nil, unix.SYS_GETPEERNAME)
	reg("net.soerror", f.soerror, dispatch.When(dispatch.Eq(1, unix.SOL_SOCKET), dispatch.Eq(2, unix.SO_ERROR)), unix.SYS_GETSOCKOPT)
}

const sockTypeMask = 0xf // SOCK_TYPE_MASK of linux/net.h

// register puts a handler into the table.
type register func(name string, h dispatch.HandlerFunc, g dispatch.Guard, nrs ...int)

func (f *Filter) registerContained(reg register) {
	reg("net.socket", f.socket, dispatch.When(dispatch.Ne(0, unix.AF_UNIX), dispatch.Ne(0, unix.AF_NETLINK), sockType(unix.SOCK_DGRAM)), unix.SYS_SOCKET)
	reg("net.socketpair", f.socketpair, dispatch.When(dispatch.Eq(0, unix.AF_UNIX), sockType(unix.SOCK_DGRAM)).Or(
		dispatch.When(dispatch.Eq(0, unix.AF_UNIX), sockType(unix.SOCK_RAW))), unix.SYS_SOCKETPAIR)
}

// registerMediated traps what can carry an address, or show one that is ours.
func (f *Filter) registerMediated(reg register) {
	addressed := dispatch.When(dispatch.NonNull(4))
	reg("net.sendto", f.sendto, addressed, unix.SYS_SENDTO)
	reg("net.sendmsg", f.sendmsg, nil, unix.SYS_SENDMSG)
	reg("net.sendmmsg", f.sendmmsg, nil, unix.SYS_SENDMMSG)
	reg("net.recvfrom", f.recvfrom, addressed, unix.SYS_RECVFROM)
	reg("net.recvmsg", f.recvmsg, nil, unix.SYS_RECVMSG)
	reg("net.recvmmsg", f.recvmmsg, nil, unix.SYS_RECVMMSG)
}

// sockType tests the type in arg1, without its flags.
func sockType(t uint32) dispatch.Test {
	return dispatch.Test{Arg: 1, Mask: sockTypeMask, Value: uint64(t)}
}

// lowestFreePort reads net.ipv4.ip_unprivileged_port_start (ip(7)), 1024 where
// there is none.
func lowestFreePort() int {
	text, err := sys.ReadFile("/proc/sys/net/ipv4/ip_unprivileged_port_start", 16)
	if n, e := strconv.Atoi(strings.TrimSpace(string(text))); err == nil && e == nil {
		return n
	}
	return 1024
}

// denial is the kind of event that a refusal makes.
func (f *Filter) denial() event.Kind {
	if f.Audit {
		return event.Audit
	}
	return event.Deny
}

// report tells the event stream about a verdict on a call.
func (f *Filter) report(c *dispatch.Call, e endpoint.Endpoint, v endpoint.Verdict) {
	f.Emit(f.eventOf(c, e, v))
}

func (f *Filter) eventOf(c *dispatch.Call, e endpoint.Endpoint, v endpoint.Verdict) event.Event {
	ev := event.Event{
		Kind: f.denial(), PID: int32(c.TGID()), Syscall: c.Name(),
		Protocol: e.Protocol.String(), Name: e.Name.String(), Addr: e.Addr, Port: e.Port,
		Reason: v.Reason.String(), AllowWith: v.AllowWith,
	}
	if v.Rule != nil {
		ev.Rule = v.Rule.Text
	}
	return ev
}

// canonical is the address that a connection to a goes to: the unspecified
// address means loopback (tcp(7) on Linux), a mapped one is IPv4.
func canonical(a netip.AddrPort) netip.AddrPort {
	ip := a.Addr().Unmap().WithZone("")
	switch {
	case ip == netip.IPv4Unspecified():
		ip = netip.AddrFrom4([4]byte{127, 0, 0, 1})
	case ip == netip.IPv6Unspecified():
		ip = netip.IPv6Loopback()
	}
	return netip.AddrPortFrom(ip, a.Port())
}

// flowEnded takes the end of a passed-through connection.
func (f *Filter) flowEnded(r passthrough.Result) {
	f.peers.drop(r.Tag)
	ev := event.Event{Kind: event.Flow, PID: r.PID, Protocol: "tcp", Name: r.Seen, Addr: r.Dst.Addr(), Port: r.Dst.Port(),
		BytesUp: r.BytesUp, BytesDown: r.BytesDown}
	if ev.Name == "" && !r.Inspect && len(r.Names) > 0 {
		ev.Name = r.Names[0].String() // a tunnel, which was inspected before
	}
	if r.Outcome == passthrough.Refused {
		ev.Kind, ev.Reason, ev.AllowWith = event.Deny, r.Reason.Error(), r.AllowWith
		if r.Audit {
			ev.Kind = event.Audit
		}
	}
	f.Emit(ev)
}
