package event

import (
	"errors"
	"sync"
)

// Counts are the numbers of a run. An event with a Count counts that often.
type Counts struct {
	Allowed            int64 // connections that were let through: flows and direct ones
	Resolved           int64 // names that were resolved
	Requests           int64 // HTTP requests that were let through
	Denied             int64
	Audited            int64 // what enforcing would have denied
	Faults             int64
	Lost               int64 // events that no sink saw
	BytesUp, BytesDown int64 // of flows
}

// Summary is a sink that counts. Its zero value is ready for use.
type Summary struct {
	mu sync.Mutex
	c  Counts
}

// Write counts an event and never fails.
func (s *Summary) Write(e Event) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.c.add(e)
	return nil
}

// Close does nothing; the counts stay.
func (s *Summary) Close() error { return nil }

// Counts returns the numbers so far. It may be called at any time.
func (s *Summary) Counts() Counts {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.c
}

func (c *Counts) add(e Event) {
	n := times(e)
	switch e.Kind {
	case Deny:
		c.Denied += n
	case Audit:
		c.Audited += n
	case Fault:
		c.Faults += n
	case Lost:
		c.Lost += n
	case Flow:
		c.Allowed += n
		c.BytesUp += e.BytesUp
		c.BytesDown += e.BytesDown
	case Request:
		c.Requests += n
	case Allow:
		if e.Protocol == "dns" {
			c.Resolved += n
		} else {
			c.Allowed += n
		}
	}
}

// times is how often an event counts.
func times(e Event) int64 { return max(e.Count, 1) }

// Multi returns a sink that hands every event to all the sinks, even when some
// of them fail, and returns their errors joined.
func Multi(sinks ...Sink) Sink { return multi(sinks) }

type multi []Sink

func (m multi) Write(e Event) error {
	var errs []error
	for _, s := range m {
		errs = append(errs, s.Write(e))
	}
	return errors.Join(errs...)
}

func (m multi) Close() error {
	var errs []error
	for _, s := range m {
		errs = append(errs, s.Close())
	}
	return errors.Join(errs...)
}
