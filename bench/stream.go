package main

import (
	"crypto/tls"
	"fmt"
	"net"
	"net/netip"
	"os"
	"time"

	"github.com/sandlock/sandlock/bench/measure"
	"github.com/sandlock/sandlock/internal/lab"
)

// The server that the connections go to: a name, which passes through the
// supervisor, and its address, which is reached directly.
const (
	serverName = "four.test"
	tlsPort    = "443"
	headPort   = "80"
)

var serverAddr = lab.Allowed4

// network is a client on each side and the servers that they talk to.
type network struct {
	bare, boxed *worker
	servers     []net.Listener
}

func (b *bench) network(flags ...string) (n *network, err error) {
	n = &network{}
	for _, port := range []uint16{80, 443} {
		l, err := net.Listen("tcp", netip.AddrPortFrom(serverAddr, port).String())
		if err != nil {
			n.close()
			return nil, err
		}
		n.servers = append(n.servers, l)
		if port == 443 {
			l = tls.NewListener(l, &tls.Config{Certificates: []tls.Certificate{b.cert}})
		}
		go serve(l, port == 80)
	}
	os.Setenv(envCA, lab.CAFile())
	if n.bare, n.boxed, err = b.pair(flags, b.self(), clientWord); err != nil {
		n.close()
		return nil, err
	}
	return n, nil
}

func (n *network) close() {
	for _, w := range []*worker{n.bare, n.boxed} {
		if w != nil {
			w.close()
		}
	}
	for _, l := range n.servers {
		l.Close()
	}
}

// ways are the connections that are compared: to the address of a rule, which is
// the program's own connection, and to a name, which passes through.
var ways = []struct {
	name, target, port string
	passed             bool
}{
	{"TCP, direct", serverAddr.String(), headPort, false},
	{"TCP, passed through", serverName, headPort, true},
	{"TLS, direct", serverAddr.String(), tlsPort, false},
	{"TLS, passed through", serverName, tlsPort, true},
}

// flags of the sandbox for a way: with a rule for the address the name's
// connections would not need to be looked at.
func wayFlags(passed bool) []string {
	if passed {
		return []string{"--allow", serverName}
	}
	return []string{"--allow", serverAddr.String()}
}

// throughput compares moving bytes over one connection.
func throughput(b *bench) error {
	const size, turns = 32 << 20, 200
	for _, way := range ways {
		net, err := b.network(wayFlags(way.passed)...)
		if err != nil {
			return err
		}
		s, err := measure.Interleave(b.rounds(30), net.bare.subject(size, "fetch", way.target, way.port), net.boxed.subject(size, "fetch", way.target, way.port),
			net.bare.subject(turns, "turns", way.target, way.port), net.boxed.subject(turns, "turns", way.target, way.port))
		net.close()
		if err != nil {
			return fmt.Errorf("%s: %w", way.name, err)
		}
		r := row{name: "throughput: " + way.name, bare: rate(size, s[0].Median(measure.Wall)), boxed: rate(size, s[1].Median(measure.Wall))}
		b.table.add(r.atLeast(1/s[1].Ratio(s[0], measure.Wall), 0.8))
		b.table.add(row{name: "turn: " + way.name, bare: span(each(s[2].Median(measure.Wall), turns)),
			boxed: span(each(s[3].Median(measure.Wall), turns)), ratio: times(s[3].Ratio(s[2], measure.Wall))})
	}
	return nil
}

func rate(bytes int, d time.Duration) string {
	return fmt.Sprintf("%.0f MB/s", float64(bytes)/1e6/d.Seconds())
}

// connections compares opening new connections.
func connections(b *bench) error {
	const n = 5
	for _, way := range ways {
		net, err := b.network(wayFlags(way.passed)...)
		if err != nil {
			return err
		}
		s, err := measure.Interleave(b.rounds(200), net.bare.subject(n, "new", way.target, way.port), net.boxed.subject(n, "new", way.target, way.port))
		net.close()
		if err != nil {
			return fmt.Errorf("%s: %w", way.name, err)
		}
		r := row{name: "connection: " + way.name, bare: span(each(s[0].Median(measure.Wall), n)), boxed: span(each(s[1].Median(measure.Wall), n))}
		ratio := s[1].Ratio(s[0], measure.Wall)
		if way.port == tlsPort {
			r = r.atMost(ratio, 1.5)
		} else {
			r.ratio = times(ratio)
		}
		b.table.add(r)
	}
	return nil
}
