package limits

import (
	"context"
	"time"

	"golang.org/x/sys/unix"
)

// cpuPeriod is how long one turn of running and standing still takes.
const cpuPeriod = 100 * time.Millisecond

// Throttle lets the sandbox run only percent of the time, from 1 to 99, until ctx
// ends; then it runs on. signal reaches every process of the sandbox.
func Throttle(ctx context.Context, percent int, signal func(unix.Signal) error) {
	run := cpuPeriod * time.Duration(percent) / 100
	t := time.NewTimer(run)
	defer t.Stop()
	defer signal(unix.SIGCONT)
	for stopped := false; ; stopped = !stopped {
		select {
		case <-ctx.Done():
			return
		case <-t.C:
		}
		if stopped {
			signal(unix.SIGCONT)
			t.Reset(run)
		} else {
			signal(unix.SIGSTOP)
			t.Reset(cpuPeriod - run)
		}
	}
}
