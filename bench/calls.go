package main

import (
	"fmt"
	"os/exec"
	"strings"
	"time"

	"github.com/sandlock/sandlock/bench/measure"
)

// loop is one of calls.c, with the number of times that makes a round of about a
// millisecond, and what its system calls are called.
type loop struct {
	loop  string
	n     int
	calls []string
}

// untrapped are the loops of calls that "net" must not trap.
var untrapped = []loop{
	{"read", 4000, []string{"read"}},
	{"write", 4000, []string{"write"}},
	{"send", 1000, []string{"sendto", "recvfrom"}},
	{"sendmsg", 1000, []string{"sendmsg", "recvmsg"}},
	{"dup", 2000, []string{"dup", "close"}},
	{"poll", 2000, []string{"poll"}},
	{"open", 500, []string{"open", "openat"}},
	{"stat", 1000, []string{"stat", "newfstatat"}},
	{"getdents", 20, []string{"getdents", "getdents64"}},
	{"mmap", 1000, []string{"mmap", "munmap"}},
	{"fork", 10, []string{"fork", "vfork", "clone"}},
	{"execve", 4, []string{"execve"}},
}

// noise is what a filter may add to a call that it does not trap: the way into
// the kernel is longer with one. A notification costs twenty times that.
const (
	noise      = 100 * time.Nanosecond
	noiseRatio = 1.05
)

// calls compares the calls that must not be trapped, and looks into the list of
// trapped ones.
func calls(b *bench) error {
	flags := []string{"--allow", "127.0.0.1:1"}
	chains, err := exec.Command(b.sandlock(), append([]string{"net", "--chains"}, flags...)...).Output()
	if err != nil {
		return err
	}
	trapped := map[string]bool{}
	list, _, _ := strings.Cut(string(chains), "\nDENIED")
	for line := range strings.Lines(list) {
		if f := strings.Fields(line); len(f) > 0 {
			trapped[f[0]] = true
		}
	}
	if !trapped["connect"] {
		return fmt.Errorf("no list of trapped calls in %q", chains)
	}
	bare, boxed, err := b.pair(flags, b.worker())
	if err != nil {
		return err
	}
	defer bare.close()
	defer boxed.close()
	for _, c := range untrapped {
		if err := b.callRow("call: ", c, bare, boxed, trapped); err != nil {
			return err
		}
	}
	return nil
}

// callRow compares one loop, none of whose calls may be among those trapped.
func (b *bench) callRow(title string, c loop, bare, boxed *worker, trapped map[string]bool) error {
	s, err := measure.Interleave(b.rounds(200), bare.subject(c.n, c.loop), boxed.subject(c.n, c.loop))
	if err != nil {
		return err
	}
	x, y := each(s[0].Median(measure.Wall), c.n), each(s[1].Median(measure.Wall), c.n)
	ratio := s[1].Ratio(s[0], measure.Wall)
	r := row{name: title + strings.Join(c.calls, ", "), bare: span(x), boxed: span(y), ratio: times(ratio),
		bar: "within noise", holds: y-x <= noise*time.Duration(len(c.calls)) || ratio <= noiseRatio}
	for _, name := range c.calls {
		if trapped[name] {
			r.bar, r.holds = "not trapped", false
		}
	}
	b.table.add(r)
	return nil
}
