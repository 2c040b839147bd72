package sandbox

import (
	"iter"
	"sync"
	"time"

	"github.com/sandlock/sandlock/internal/event"
)

// Event is one thing that happened in a sandbox, as in docs/events.md.
type Event = event.Event

// EventKind says what an Event is about.
type EventKind = event.Kind

// The kinds of events.
const (
	EventDeny  = event.Deny  // a call or a message was refused
	EventAudit = event.Audit // it was let through, and would be refused without Audit
	EventFault = event.Fault // something of sandlock's own went wrong
	EventFlow  = event.Flow  // a connection that was passed through has ended
	EventAllow = event.Allow // a name was resolved, or a direct connection was made
	EventStart = event.Start // the command was started
	EventExit  = event.Exit  // the command has ended
	EventLost  = event.Lost  // Count events came faster than they were taken
)

// eventQueue is how many events may wait for who iterates.
const eventQueue = 1024

// Events returns the events of the run, from the start to its end. It must be
// called before Start; ranging over it blocks while there is nothing new. What
// comes faster than it is taken is lost and counted: the sandbox never waits.
func (s *Sandbox) Events() iter.Seq[Event] {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.started {
		return func(func(Event) bool) {}
	}
	if s.events == nil {
		s.events = &eventSink{queue: make(chan Event, eventQueue), stop: make(chan struct{})}
	}
	return s.events.all
}

// eventSink hands events to an iterator.
type eventSink struct {
	queue chan Event
	ended sync.Once     // closes queue
	stop  chan struct{} // closed when nobody iterates any more
	left  sync.Once     // closes stop
	lost  int64         // only the stream's writer uses it
}

func (e *eventSink) Write(ev event.Event) error {
	if e.lost > 0 {
		e.put(Event{Time: time.Now(), Kind: EventLost, Run: ev.Run, Count: e.lost})
	}
	e.put(ev)
	return nil
}

func (e *eventSink) put(ev Event) {
	select {
	case <-e.stop:
		return
	default:
	}
	select {
	case e.queue <- ev:
		if ev.Kind == EventLost {
			e.lost = 0
		}
	default:
		if ev.Kind != EventLost {
			e.lost++
		}
	}
}

func (e *eventSink) Close() error {
	e.ended.Do(func() { close(e.queue) })
	return nil
}

func (e *eventSink) all(yield func(Event) bool) {
	for ev := range e.queue {
		if !yield(ev) {
			e.left.Do(func() { close(e.stop) })
			return
		}
	}
}
