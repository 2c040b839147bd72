package sandbox

import (
	"fmt"
	"time"

	"github.com/sandlock/sandlock/fsvirt/clock"
	"github.com/sandlock/sandlock/fsvirt/entropy"
	"github.com/sandlock/sandlock/fsvirt/image"
	"github.com/sandlock/sandlock/fsvirt/walk"
	"github.com/sandlock/sandlock/internal/event"
)

// Bounds of a time to start at: what the kernel's own clocks are set to at most,
// and what a duration of Go can lie away from now.
var (
	firstStart = time.Unix(0, 0)
	lastStart  = time.Date(2200, 1, 1, 0, 0, 0, 0, time.UTC)
)

// coarseLag is how far CLOCK_REALTIME_COARSE, and with it time(2), may be behind:
// a tick of the slowest kernels (CONFIG_HZ of 100). No clock shows a time before the start.
const coarseLag = 10 * time.Millisecond

// determinism is what makes two runs alike.
type determinism struct {
	random *entropy.Source // nil without a seed
	clock  *clock.Clock    // nil without a time to start at
	image  *image.Watcher  // nil without either
	offset time.Duration   // of the clock
}

// checkDeterminism refuses a time that no clock can show.
func checkDeterminism(p *Policy) error {
	if t := p.TimeStart; !t.IsZero() && (t.Before(firstStart) || !t.Before(lastStart)) {
		return fmt.Errorf("--time-start: %s: give a time from 1970 to 2199", t.Format(time.RFC3339))
	}
	return nil
}

// ParseTimeStart reads a time to start at (RFC 3339).
func ParseTimeStart(text string) (time.Time, error) {
	t, err := time.Parse(time.RFC3339, text)
	if err != nil {
		return t, fmt.Errorf("%q is no time; write one such as 2000-01-01T00:00:00Z", text)
	}
	return t, nil
}

func openDeterminism(p *parts, c *Compiled, _ Options) error {
	d := &p.determinism
	if c.Policy.RandomSeed == nil && c.Policy.TimeStart.IsZero() {
		return nil
	}
	fault := func(err error) { p.emit(event.Event{Kind: event.Fault, Reason: err.Error()}) }
	layout, err := image.ReadLayout()
	if err != nil {
		return err
	}
	d.image = &image.Watcher{Layout: layout, Fault: fault}
	if c.Policy.RandomSeed != nil {
		walker, err := walk.New(p.thread.Contains)
		if err != nil {
			return err
		}
		d.random = entropy.New(entropy.Config{Seed: *c.Policy.RandomSeed, Walker: walker, Fault: fault})
		p.onClose(d.random.Close)
		d.image.Random = d.random.Image
	}
	if !c.Policy.TimeStart.IsZero() {
		d.offset = time.Until(c.Policy.TimeStart) + coarseLag
		d.image.Offset = int64(d.offset)
		d.clock = clock.New(clock.Config{Offset: d.offset, Inside: d.image.Holds})
	}
	if err := d.image.Prepare(); err != nil {
		return fmt.Errorf("--random-seed or --time-start: %w", err)
	}
	return nil
}
