package main

import (
	"fmt"
	"time"
)

// row is one line of the table.
type row struct {
	name        string
	bare, boxed string
	ratio       string
	bar         string // empty: there is none
	holds       bool
}

// table prints rows as they come, in columns of a fixed width.
type table struct{}

func (table) head() {
	fmt.Printf("%-34s %12s %12s %9s  %s\n", "", "bare", "sandboxed", "ratio", "bar")
}

func (table) add(r row) {
	verdict := ""
	if r.bar != "" {
		verdict = r.bar + "  ok"
		if !r.holds {
			verdict = r.bar + "  MISSED"
		}
	}
	fmt.Printf("%-34s %12s %12s %9s  %s\n", r.name, r.bare, r.boxed, r.ratio, verdict)
}

// atMost is the bar "value <= limit" for a ratio.
func (r row) atMost(value, limit float64) row {
	r.ratio, r.bar, r.holds = times(value), "<= "+times(limit), value <= limit
	return r
}

// atLeast is the bar "value >= limit" for a ratio.
func (r row) atLeast(value, limit float64) row {
	r.ratio, r.bar, r.holds = times(value), ">= "+times(limit), value >= limit
	return r
}

func times(v float64) string { return fmt.Sprintf("%.3gx", v) }

// span renders a duration with three digits.
func span(d time.Duration) string {
	switch {
	case d < 10*time.Microsecond:
		return fmt.Sprintf("%d ns", d.Nanoseconds())
	case d < 10*time.Millisecond:
		return fmt.Sprintf("%.1f us", float64(d)/float64(time.Microsecond))
	case d < 10*time.Second:
		return fmt.Sprintf("%.1f ms", float64(d)/float64(time.Millisecond))
	}
	return fmt.Sprintf("%.1f s", d.Seconds())
}
