package main

import (
	"fmt"
	"path/filepath"
	"time"

	"github.com/sandlock/sandlock/bench/measure"
)

// run's bar for an opened and closed file, in notifications above bare.
const openLimit = 2.5

// confined is how "sandlock run" is asked for: its default policy, with what the
// commands here need beyond the system's own files.
func (b *bench) confined() (sandboxed, error) {
	python, err := pythonProgram()
	if err != nil {
		return sandboxed{}, err
	}
	// bin/python3 stands in its prefix.
	return sandboxed{"run", []string{"-r", b.dir, "-r", filepath.Dir(filepath.Dir(python)), "-P", "0"}}, nil
}

// runCalls compares file calls under the default policy of "run".
func runCalls(b *bench) error {
	const n = 50
	how, err := b.confined()
	if err != nil {
		return err
	}
	bare, boxed, err := b.pairOf(how, b.worker())
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
	s, err := measure.Interleave(b.rounds(200), least.subject(n, "peername"), bare.subject(n, "peername"),
		bare.subject(n, "open"), boxed.subject(n, "open"))
	if err != nil {
		return err
	}
	at := func(i int) time.Duration { return each(s[i].Median(measure.Wall), n) }
	floor := at(0) - at(1)
	more := float64(at(3)-at(2)) / float64(floor)
	b.table.add(row{name: "run: open, close", bare: span(at(2)), boxed: span(at(3)), ratio: times(float64(at(3)) / float64(at(2))),
		bar: fmt.Sprintf("bare + %.2f (<= %g) notifications of %s", more, openLimit, span(floor)), holds: more <= openLimit})
	for _, c := range untrapped {
		switch c.loop {
		case "dup", "send", "sendmsg", "read", "write", "stat":
		default:
			continue
		}
		if err := b.callRow("run: ", c, bare, boxed, nil); err != nil {
			return err
		}
	}
	return nil
}

// runCommands compares ordinary work under the default policy of "run".
func runCommands(b *bench) error {
	how, err := b.confined()
	if err != nil {
		return err
	}
	list, err := b.commandLines()
	if err != nil {
		return err
	}
	for _, c := range list {
		c.name = "run: " + c.name
		if err := b.command(c, how, c.runLimit); err != nil {
			return err
		}
	}
	return nil
}
