package netfilter

import (
	"errors"
	"net"
	"net/netip"
	"testing"

	"github.com/sandlock/sandlock/netfilter/endpoint"
	"github.com/sandlock/sandlock/netfilter/resolver"
	"golang.org/x/sys/unix"
)

// What the interceptor dials never reaches the host's own server at an address that
// stands for another sandbox.
func TestDialNeighbour(t *testing.T) {
	l, err := net.Listen("tcp4", "127.83.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	at := l.Addr().(*net.TCPAddr).AddrPort()
	rule, err := endpoint.ParseRule(endpoint.Allow, "localhost:*", "")
	if err != nil {
		t.Fatal(err)
	}
	policy, err := endpoint.NewPolicy([]endpoint.Rule{rule}, endpoint.Options{})
	if err != nil {
		t.Fatal(err)
	}
	for _, neighbours := range []map[netip.Addr]string{nil, {at.Addr(): "web"}} {
		f, err := New(Config{Policy: policy, Resolver: &resolver.Resolver{}, Neighbours: neighbours})
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		fd, err := f.Dial(t.Context(), Upstream{Addr: at.Addr(), Port: at.Port()})
		if err == nil {
			unix.Close(fd)
		}
		if refused := new(*RefusedError); errors.As(err, refused) != (neighbours != nil) || neighbours == nil && err != nil {
			t.Errorf("%v: %v", neighbours, err)
		}
	}
}
