package lab

import (
	"strings"
	"sync"
	"testing"
	"time"
)

// guard bounds every wait for something that must happen.
const guard = 20 * time.Second

// Arrival is one thing that reached a sink.
type Arrival struct {
	Sink string // "tcp 151.101.1.69:9000"
	Kind string // "accept", "data", "query", "hello" or "request"
	Text string // the bytes, the name asked for, the SNI, the request
}

// recorder keeps every arrival of the whole run.
type recorder struct {
	mu       sync.Mutex
	arrivals []Arrival
	open     int           // accepted connections that are still read
	changed  chan struct{} // closed and replaced with every change
}

var record = newRecorder()

func newRecorder() *recorder { return &recorder{changed: make(chan struct{})} }

// change does f under the lock and wakes those who wait.
func (r *recorder) change(f func()) {
	r.mu.Lock()
	defer r.mu.Unlock()
	f()
	close(r.changed)
	r.changed = make(chan struct{})
}

func (r *recorder) add(sink, kind, text string) {
	r.change(func() { r.arrivals = append(r.arrivals, Arrival{sink, kind, text}) })
}

func (r *recorder) opened(n int) { r.change(func() { r.open += n }) }

// again is the time between two nudges of a wait.
const again = 50 * time.Millisecond

// wait blocks until done says so, called under the lock, or the guard passed.
// nudge, unless nil, is called first and then again and again, without the lock.
func (r *recorder) wait(done func() bool, nudge func()) bool {
	if nudge == nil {
		nudge = func() {}
	}
	nudge()
	end := time.Now().Add(guard)
	t := time.NewTicker(again)
	defer t.Stop()
	for {
		r.mu.Lock()
		ok, changed := done(), r.changed
		r.mu.Unlock()
		if ok || time.Now().After(end) {
			return ok
		}
		select {
		case <-changed:
		case <-t.C:
			nudge()
		}
	}
}

// holds reports, under the lock, whether a sink saw the text.
func (r *recorder) holds(text string) bool {
	for i := len(r.arrivals) - 1; i >= 0; i-- {
		if strings.Contains(r.arrivals[i].Text, text) {
			return true
		}
	}
	return false
}

// Mark is a point in the record.
type Mark int

// Now returns the present end of the record.
func Now() Mark {
	record.mu.Lock()
	defer record.mu.Unlock()
	return Mark(len(record.arrivals))
}

// Since returns what reached any sink after m. Everything that was sent before
// the call by processes that have ended is included: each sink is first sent a
// mark of our own, which it takes after all that came before.
func (m Mark) Since(t testing.TB) []Arrival {
	t.Helper()
	fence(t)
	record.mu.Lock()
	defer record.mu.Unlock()
	var out []Arrival
	for _, a := range record.arrivals[m:] {
		if !strings.HasPrefix(a.Text, fenceText) && a.Kind != "fence" {
			out = append(out, a)
		}
	}
	return out
}

// Arrived waits until a sink saw the text after m and fails the test if none does.
func (m Mark) Arrived(t testing.TB, text string) Arrival {
	t.Helper()
	var found Arrival
	ok := record.wait(func() bool {
		for _, a := range record.arrivals[m:] {
			if strings.Contains(a.Text, text) {
				found = a
				return true
			}
		}
		return false
	}, nil)
	if !ok {
		t.Fatalf("nothing with %q reached a sink", text)
	}
	return found
}
