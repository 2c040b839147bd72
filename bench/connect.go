package main

import (
	"errors"
	"fmt"
	"net"
	"os"
	"strconv"
	"time"

	"github.com/sandlock/sandlock/bench/measure"
	"golang.org/x/sys/unix"
)

const maxNetlink = 60 * time.Microsecond // of a netlink socket's life in a sandbox

const backlog = 1024 // of the sink; more than one round's connections

// sink is a listener on loopback that takes nothing during a round, so that no
// other process is woken, and everything after it.
type sink struct {
	fd   int
	port string
}

func openSink(listen bool) (*sink, error) {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	err = unix.Bind(fd, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}})
	if err == nil && listen {
		err = unix.Listen(fd, backlog)
	}
	if err != nil {
		unix.Close(fd)
		return nil, err
	}
	sa, err := unix.Getsockname(fd)
	if err != nil {
		unix.Close(fd)
		return nil, err
	}
	return &sink{fd, strconv.Itoa(sa.(*unix.SockaddrInet4).Port)}, nil
}

func (s *sink) drain() {
	for {
		fd, _, err := unix.Accept(s.fd)
		if err != nil {
			return
		}
		unix.Close(fd)
	}
}

// connects compares connecting to an address that is allowed and to one that is
// denied. Bare, nobody listens at the latter either.
func connects(b *bench) error {
	const n = 50
	open, err := openSink(true)
	if err != nil {
		return err
	}
	defer unix.Close(open.fd)
	closed, err := openSink(false)
	if err != nil {
		return err
	}
	defer unix.Close(closed.fd)
	flags := []string{"--quiet", "--log", os.DevNull, "--allow", net.JoinHostPort("127.0.0.1", open.port)}
	bare, boxed, err := b.pair(flags, b.worker())
	if err != nil {
		return err
	}
	defer bare.close()
	defer boxed.close()
	least, err := b.start(b.worker(), "minimal", b.worker())
	if err != nil {
		return err
	}
	defer least.close()
	to := func(w *worker, port, want string) measure.Subject {
		return func() (measure.Sample, error) {
			defer open.drain()
			return w.ask(n, "connect", "127.0.0.1", port, want)
		}
	}
	kind := func(family, typ int) []string { return []string{strconv.Itoa(family), strconv.Itoa(typ)} }
	tcp, udp, netlink := kind(unix.AF_INET, unix.SOCK_STREAM), kind(unix.AF_INET, unix.SOCK_DGRAM), kind(unix.AF_NETLINK, unix.SOCK_RAW)
	s, err := measure.Interleave(b.rounds(200), to(bare, open.port, "ok"), to(boxed, open.port, "ok"),
		to(bare, closed.port, "refused"), to(boxed, closed.port, "refused"),
		least.subject(n, "peername"), bare.subject(n, "peername"), bare.subject(n, "socket", tcp...), boxed.subject(n, "socket", tcp...),
		boxed.subject(n, "socket", netlink...), boxed.subject(n, "socket", udp...))
	if err != nil {
		return err
	}
	at := func(i int) time.Duration { return each(s[i].Median(measure.Wall), n) }
	floor := at(4) - at(5)
	if floor <= 0 {
		return errors.New("a notification costs nothing: the machine is too busy to measure")
	}
	b.table.add(row{name: "connect: allowed", bare: span(at(0)), boxed: span(at(1))}.atMost(s[1].Ratio(s[0], measure.Wall), 2))
	more := float64(at(3)-at(2)) / float64(floor)
	b.table.add(row{name: "connect: denied", bare: span(at(2)), boxed: span(at(3)), ratio: times(float64(at(3)) / float64(at(2))),
		bar: fmt.Sprintf("bare + %.2f (<= 2) notifications of %s", more, span(floor)), holds: more <= 2})
	more = float64(at(7)-at(6)) / float64(floor)
	b.table.add(row{name: "socket and close, TCP", bare: span(at(6)), boxed: span(at(7)), ratio: times(float64(at(7)) / float64(at(6))),
		bar: fmt.Sprintf("bare + %.2f (<= 1) notifications", more), holds: more <= 1})
	b.table.add(row{name: "socket and close, netlink", boxed: span(at(8)), bar: "<= " + span(maxNetlink), holds: at(8) <= maxNetlink})
	b.table.add(row{name: "socket and close, UDP", boxed: span(at(9))})
	return nil
}
