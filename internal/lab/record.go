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
	cond     *sync.Cond
	arrivals []Arrival
	open     int // accepted connections that are still read
}

var record = newRecorder()

func newRecorder() *recorder {
	r := &recorder{}
	r.cond = sync.NewCond(&r.mu)
	return r
}

func (r *recorder) add(sink, kind, text string) {
	r.mu.Lock()
	r.arrivals = append(r.arrivals, Arrival{sink, kind, text})
	r.mu.Unlock()
	r.cond.Broadcast()
}

func (r *recorder) opened(n int) {
	r.mu.Lock()
	r.open += n
	r.mu.Unlock()
	r.cond.Broadcast()
}

// wait blocks until done says so, called under the lock, or the guard passed.
func (r *recorder) wait(done func() bool) bool {
	late := false
	t := time.AfterFunc(guard, func() {
		r.mu.Lock()
		late = true
		r.mu.Unlock()
		r.cond.Broadcast()
	})
	defer t.Stop()
	r.mu.Lock()
	defer r.mu.Unlock()
	for !done() {
		if late {
			return false
		}
		r.cond.Wait()
	}
	return true
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
	})
	if !ok {
		t.Fatalf("nothing with %q reached a sink", text)
	}
	return found
}
