// Command sandlock-proxy is the interceptor: sandlock starts it beside a command
// whose HTTP requests rules have to see. It is of no use by itself. It gets
// connections from sandlock, asks sandlock for others, and locks itself in before
// it takes the first: no files, no sockets, no programs.
package main

import (
	"fmt"
	"os"
	"runtime"
	"time"

	"github.com/sandlock/sandlock/certs"
	"github.com/sandlock/sandlock/internal/confine"
	"github.com/sandlock/sandlock/internal/launch"
	"github.com/sandlock/sandlock/internal/wire"
	"github.com/sandlock/sandlock/mitm"
	"github.com/sandlock/sandlock/netfilter/endpoint"
	"github.com/sandlock/sandlock/proxy"
	"github.com/sandlock/sandlock/proxy/rule"
	"golang.org/x/sys/unix"
)

const exitFailure = 125 // as sandlock's own

// maxProcs bounds how many threads work at once: the interceptor is not to take the
// machine from the command.
const maxProcs = 8

func main() {
	var st unix.Stat_t
	if err := unix.Fstat(launch.CompanionFD, &st); err != nil || st.Mode&unix.S_IFMT != unix.S_IFSOCK {
		fmt.Fprintln(os.Stderr, "sandlock-proxy: this program is started by sandlock, when a policy has HTTP rules")
		os.Exit(2)
	}
	conn, err := wire.Open(launch.CompanionFD)
	if err != nil {
		os.Exit(exitFailure)
	}
	if err := run(conn); err != nil {
		_ = conn.Send(wire.Fault{Text: err.Error()})
		os.Exit(exitFailure)
	}
}

// run serves until sandlock closes the connection.
func run(conn *wire.Conn) error {
	runtime.GOMAXPROCS(min(runtime.GOMAXPROCS(0), maxProcs))
	setup, authority, err := receiveSetup(conn)
	if err != nil {
		return err
	}
	roots := readRoots()
	if err := confine.Process(); err != nil {
		return fmt.Errorf("it cannot lock itself in: %w", err)
	}
	policy, err := policyOf(setup.Rules)
	if err != nil {
		return err
	}
	ca, err := authorityOf(conn, authority)
	if err != nil {
		return err
	}
	credentials, err := credentialsOf(setup)
	if err != nil {
		return err
	}
	l := newLink(conn, ca)
	l.proxy = proxy.New(proxy.Config{
		Rules: policy, TLS: mitm.New(ca.Leaf), Roots: roots, Dial: l.dial, Report: l.report, Ended: l.ended,
		Fault: l.fault, Credentials: credentials, Audit: setup.Audit,
	})
	return l.serve()
}

// receiveSetup waits for the first message and reads what goes with it: the setup,
// and the CA of the run if it exists.
func receiveSetup(conn *wire.Conn) (*wire.Setup, *wire.Authority, error) {
	m, fds, err := conn.Receive()
	if err != nil {
		return nil, nil, err
	}
	defer wire.CloseAll(fds)
	if _, ok := m.(wire.SetupReady); !ok || len(fds) == 0 {
		return nil, nil, wire.ErrMalformed
	}
	setup, err := wire.DecodeSetup(fileReader{fds[0]}.section())
	if err != nil {
		return nil, nil, err
	}
	authority := &setup.Authority
	if len(fds) > 1 {
		if authority, err = wire.DecodeAuthority(fileReader{fds[1]}.section()); err != nil {
			return nil, nil, err
		}
	}
	return setup, authority, nil
}

func policyOf(rules []wire.Rule) (*rule.Policy, error) {
	var out []rule.Rule
	for _, r := range rules {
		action := endpoint.Allow
		if r.Deny {
			action = endpoint.Deny
		}
		parsed, err := rule.Parse(action, r.Text, r.Source)
		if err != nil {
			return nil, err
		}
		out = append(out, parsed)
	}
	return rule.NewPolicy(out)
}

// authorityOf loads the CA, or makes the one of this run, and tells sandlock.
func authorityOf(conn *wire.Conn, a *wire.Authority) (*certs.CA, error) {
	if len(a.Cert) > 0 {
		ca, err := certs.LoadCA(a.Cert, a.Key, time.Now)
		if err != nil {
			return nil, err
		}
		return ca, conn.Send(wire.Authority{Cert: ca.PEM(), Key: a.Key})
	}
	ca, err := certs.NewCA(time.Now)
	if err != nil {
		return nil, err
	}
	key, err := ca.KeyPEM()
	if err != nil {
		return nil, err
	}
	defer clear(key)
	return ca, conn.Send(wire.Authority{Cert: ca.PEM(), Key: key})
}
