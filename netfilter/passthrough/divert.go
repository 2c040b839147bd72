package passthrough

import (
	"github.com/sandlock/sandlock/mitm/hello"
	"github.com/sandlock/sandlock/netfilter/endpoint"
	"golang.org/x/sys/unix"
)

// Diverted is a flow whose first message was good, before any of it went
// upstream.
type Diverted struct {
	Client, Upstream int
	TLS              bool
	Name             endpoint.Name // that the first message asks for, one of Flow.Names
	First            []byte        // all that was read from the client
}

// divert offers the flow to Flow.Divert and lets go of it when it is taken.
// Nothing is reported then.
func (e *Engine) divert(f *flow, h hello.Hello) bool {
	if f.Divert == nil {
		return false
	}
	name, err := endpoint.ParseName(h.Name)
	if err != nil {
		return false
	}
	for _, fd := range f.fd {
		_ = unix.EpollCtl(e.epoll, unix.EPOLL_CTL_DEL, fd, nil)
	}
	d := Diverted{Client: f.fd[client], Upstream: f.fd[upstream], TLS: h.Kind == hello.TLS, Name: name, First: f.first.buf}
	if !f.Divert(d) {
		for side := range f.fd {
			if err := e.watch(f, side); err != nil {
				e.reset(f, err)
				return true
			}
		}
		return false
	}
	f.phase = ended
	e.flows[f.slot] = nil
	e.free = append(e.free, f.slot)
	f.first = nil
	f.fd = [2]int{-1, -1}
	return true
}
