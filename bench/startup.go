package main

import (
	"os/exec"
	"time"

	"github.com/sandlock/sandlock/bench/measure"
)

// otherSandboxes are run where they are installed.
var otherSandboxes = [][]string{
	{"landrun", "--rox", "/usr", "--rox", "/lib", "--rox", "/lib64", "--rox", "/bin", "--connect-tcp", "1", "/bin/true"},
	{"bwrap", "--ro-bind", "/", "/", "--dev", "/dev", "--unshare-net", "/bin/true"},
}

// startUp compares what a run adds to /bin/true with what an empty Go program
// adds to it.
func startUp(b *bench) error {
	w, err := b.start(b.worker())
	if err != nil {
		return err
	}
	defer w.close()
	names := []string{"/bin/true", "empty Go program", "sandlock net"}
	subjects := []measure.Subject{
		w.subject(1, "spawn", "/bin/true"), w.subject(1, "spawn", b.empty()),
		w.subject(1, "spawn", b.net([]string{"--allow", "127.0.0.1:1"}, "true")...),
	}
	for _, args := range otherSandboxes {
		if _, err := exec.LookPath(args[0]); err == nil {
			names = append(names, args[0])
			subjects = append(subjects, w.subject(1, "spawn", args...))
		}
	}
	s, err := measure.Interleave(b.rounds(200), subjects...)
	if err != nil {
		return err
	}
	for _, part := range []struct {
		name string
		of   func(measure.Sample) time.Duration
	}{{"", measure.Wall}, {", CPU", measure.CPU}} {
		bare, empty := s[0].Median(part.of), s[1].Median(part.of)
		unit := float64(empty - bare)
		b.table.add(row{name: "start-up: empty Go program" + part.name, bare: span(bare), boxed: span(empty), ratio: "+" + span(empty-bare)})
		for i := 2; i < len(s); i++ {
			m := s[i].Median(part.of)
			r := row{name: "start-up: " + names[i] + part.name, bare: span(bare), boxed: span(m)}
			added := float64(m-bare) / unit
			if i == 2 && part.name == "" {
				b.table.add(r.atMost(added, 5))
				continue
			}
			r.ratio = times(added)
			b.table.add(r)
		}
	}
	return nil
}
