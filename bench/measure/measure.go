// Package measure compares the cost of things on a machine that others use too:
// it runs them in turns and judges medians.
package measure

import (
	"slices"
	"time"
)

// Sample is what one run of a subject cost.
type Sample struct {
	Wall, CPU time.Duration
}

// Subject runs once and tells what it cost.
type Subject func() (Sample, error)

// Series holds the samples of one subject in the order of the rounds.
type Series []Sample

// Limit says how long to go on: for at least Rounds rounds, and until every
// subject was busy for Busy in all.
type Limit struct {
	Rounds int
	Busy   time.Duration
}

// Interleave runs each subject once a round and returns their series, in the
// order of the subjects. The order within a round changes from round to round,
// so that none always follows the same other. It stops at the first error.
func Interleave(l Limit, subjects ...Subject) ([]Series, error) {
	out := make([]Series, len(subjects))
	busy := make([]time.Duration, len(subjects))
	for round := 0; round < l.Rounds || slices.Min(busy) < l.Busy; round++ {
		for i := range subjects {
			at := (i + round) % len(subjects)
			s, err := subjects[at]()
			if err != nil {
				return nil, err
			}
			out[at] = append(out[at], s)
			busy[at] += s.Wall
		}
	}
	return out, nil
}

// Wall and CPU pick a part of a sample.
func Wall(s Sample) time.Duration { return s.Wall }

// CPU picks the processor time of a sample.
func CPU(s Sample) time.Duration { return s.CPU }

// Median of a part of the samples, 0 without samples.
func (s Series) Median(part func(Sample) time.Duration) time.Duration {
	var all []float64
	for _, x := range s {
		all = append(all, float64(part(x)))
	}
	return time.Duration(median(all))
}

// Ratio is the median over the rounds of s divided by base, 0 where there is
// none. A disturbance that lasts longer than a round then concerns both sides.
func (s Series) Ratio(base Series, part func(Sample) time.Duration) float64 {
	var all []float64
	for i := range min(len(s), len(base)) {
		if b := part(base[i]); b > 0 {
			all = append(all, float64(part(s[i]))/float64(b))
		}
	}
	return median(all)
}

func median(all []float64) float64 {
	if len(all) == 0 {
		return 0
	}
	slices.Sort(all)
	mid := len(all) / 2
	if len(all)%2 == 1 {
		return all[mid]
	}
	return (all[mid-1] + all[mid]) / 2
}
