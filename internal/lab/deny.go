package lab

import (
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/sandlock/sandlock/internal/lab/probe"
)

// DenyGuard is how long a whole denied run may take, start-up included.
const DenyGuard = 5 * time.Second

// DenySpeed is how long the call that is denied may take, as the probe measured
// it itself.
const DenySpeed = 100 * time.Millisecond

// denyTries is how often a denial that was too slow is tried in all: a machine
// with other work may take its time, a sandbox that waits for something takes it
// every time.
const denyTries = 5

// Probe is the C probe's program.
func Probe(t testing.TB) string {
	t.Helper()
	p, err := probe.Build(filepath.Join(Dir(), "bin"), "gcc")
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// MuslProbe is the C probe linked with musl.
func MuslProbe(t testing.TB) string {
	t.Helper()
	p, err := probe.Build(filepath.Join(Dir(), "bin"), "musl-gcc")
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// Denial is an attempt that must fail, and what shows it.
type Denial struct {
	User    User
	Flags   []string // of sandlock net
	Command []string
	Nonce   string // in the command's payload
	Answer  string // what its output must contain, "" for anything
	Lost    bool   // the command may think that it succeeded
	Log     string // what a denial in the log must mention; "" where the kernel denies by itself
}

// Bare runs a command without sandlock and fails unless the nonce arrives: the
// control that shows that the lab and the probe work.
func Bare(t testing.TB, u User, nonce string, args ...string) Result {
	t.Helper()
	m := Now()
	r := Run(t, u, args...)
	for _, a := range m.Since(t) {
		if strings.Contains(a.Text, nonce) {
			return r
		}
	}
	t.Fatalf("control: %q did not arrive without a sandbox (code %d): %s%s", nonce, r.Code, r.Stdout, r.Stderr)
	return r
}

// Denied runs a command under sandlock and fails if anything at all reached a
// sink, if the command thinks that it succeeded, if the log is silent, or if it
// took long.
func Denied(t testing.TB, d Denial) Result {
	t.Helper()
	m := Now()
	r := Net(t, d.User, d.Flags, d.Command...)
	for _, a := range m.Since(t) {
		t.Errorf("%s reached %s: %q", a.Kind, a.Sink, a.Text)
	}
	if r.Code == 0 && !d.Lost {
		t.Errorf("the command succeeded: %s%s", r.Stdout, r.Stderr)
	}
	if out := r.Stdout + r.Stderr; !strings.Contains(out, d.Answer) {
		t.Errorf("want the answer %q, got code %d: %s", d.Answer, r.Code, out)
	}
	if d.Log != "" && !r.Denied(d.Log) {
		t.Errorf("no denial in the log mentions %q: %v; code %d: %s%s", d.Log, r.Log, r.Code, r.Stdout, r.Stderr)
	}
	if r.Took > DenyGuard {
		t.Errorf("the run with the denial took %s", r.Took)
	}
	best := denialTook(r)
	for i := 1; i < denyTries && best > DenySpeed; i++ {
		best = min(best, denialTook(Net(t, d.User, d.Flags, d.Command...)))
	}
	if best > DenySpeed {
		t.Errorf("the denial took %s at best", best)
	}
	return r
}

// denialTook is what a probe says about the denied call, 0 if nothing.
func denialTook(r Result) time.Duration {
	_, rest, _ := strings.Cut(r.Stdout, "\nus ")
	n, err := strconv.Atoi(strings.TrimSpace(rest))
	if err != nil {
		return 0
	}
	return time.Duration(n) * time.Microsecond
}
