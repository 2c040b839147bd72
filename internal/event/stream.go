package event

import (
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"
)

const (
	// queueLen is how many events may wait for the sinks. A command that is
	// denied in a tight loop fills any queue; this one costs at most about
	// 0.5 MiB, and only while they wait.
	queueLen = 1024
	// patience is how long Close waits for sinks that take nothing, such as a
	// pipe without a reader or a terminal that was stopped with Ctrl-S.
	patience = 5 * time.Second
	// gather is how long the writer waits for more after the first event: to
	// wake a sleeping goroutine costs the one who emits as much as a system call,
	// and a denied call waits for that.
	gather = 2 * time.Millisecond
)

// ErrStuck is what Close returns when a sink took nothing for 5 seconds.
var ErrStuck = errors.New("event: a sink takes nothing; its last events are lost")

// Stream takes events from many goroutines and hands them to its sinks in one.
// All methods may be called from any goroutine.
type Stream struct {
	run      string
	sinks    []Sink
	process  func(pid int32) (comm, exe string)
	known    processes
	patience time.Duration

	mu     sync.Mutex // never held across I/O
	queue  []Event
	lost   int64
	closed bool
	writes bool // the writer was started
	err    error

	wake     chan struct{} // one token: there is something in the queue
	progress chan struct{} // one token: a sink took an event
	closing  chan struct{} // closed with the stream: do not gather
	done     chan struct{}

	failed []bool // sinks whose fault was reported; only the writer uses it
}

// New returns a stream into the sinks, which it closes when it is closed. A nil
// sink is left out, so New(JSONLines(log), Explain(text)) will do with either
// writer nil.
func New(sinks ...Sink) *Stream { return NewNamed("", sinks...) }

// NewNamed is New for a run with a name, which every event then carries.
func NewNamed(run string, sinks ...Sink) *Stream {
	sinks = slices.DeleteFunc(slices.Clone(sinks), func(s Sink) bool { return s == nil })
	s := &Stream{
		run: run, sinks: sinks, patience: patience,
		wake: make(chan struct{}, 1), progress: make(chan struct{}, 1), closing: make(chan struct{}), done: make(chan struct{}),
		failed: make([]bool, len(sinks)),
	}
	s.process = s.known.look
	return s
}

// Emit hands over an event. It never waits for a sink: when the queue is full,
// or the stream is closed, the event is lost and counted, and the verdict that
// it reports stands. It fills in Time, and Comm and Exe from PID, which must be
// done now, while the process waits for its answer.
func (s *Stream) Emit(e Event) {
	if s.full() {
		return
	}
	if e.Time.IsZero() {
		e.Time = time.Now()
	}
	if e.Run == "" {
		e.Run = s.run
	}
	if e.PID != 0 && e.Comm == "" {
		e.Comm, e.Exe = s.process(e.PID)
	}
	s.mu.Lock()
	if s.closed || len(s.queue) >= queueLen {
		s.lost++
		s.mu.Unlock()
		return
	}
	s.queue = append(s.queue, e)
	s.startWriter()
	s.mu.Unlock()
	signal(s.wake)
}

// startWriter is to be called with mu held. The first event starts the writer:
// most runs have none, and the goroutine would cost each of them a thread.
func (s *Stream) startWriter() {
	if !s.writes {
		s.writes = true
		go s.write()
	}
}

// full counts an event as lost when there is no place for it. It spares a loop
// of denials the look at the process.
func (s *Stream) full() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.closed && len(s.queue) < queueLen {
		return false
	}
	s.lost++
	return true
}

// Close hands over what waits, reports what was lost, and closes the sinks. It
// blocks for as long as they make progress, and gives up with ErrStuck when
// they take nothing for 5 seconds. Otherwise it returns what the sinks failed
// with. It may be called again and returns the same.
func (s *Stream) Close() error {
	s.mu.Lock()
	silent := !s.closed && !s.writes && s.lost == 0
	if !s.closed {
		close(s.closing)
	}
	s.closed = true
	s.known.close()
	if silent {
		s.writes = true
	} else {
		s.startWriter()
	}
	s.mu.Unlock()
	if silent {
		s.closeSinks()
		close(s.done)
	}
	signal(s.wake)
	guard := time.NewTimer(s.patience)
	defer guard.Stop()
	for {
		select {
		case <-s.done:
			return s.err
		case <-s.progress:
			guard.Reset(s.patience)
		case <-guard.C:
			return ErrStuck
		}
	}
}

// signal leaves a token unless one is there.
func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// write is the one goroutine that calls the sinks. It ends after Close.
func (s *Stream) write() {
	defer close(s.done)
	var batch []Event
	more := time.NewTimer(0)
	defer more.Stop()
	for range s.wake {
		more.Reset(gather)
		select {
		case <-more.C:
		case <-s.closing:
		}
		s.mu.Lock()
		batch, s.queue = s.queue, batch[:0]
		closed, lost := s.closed, s.lost
		s.mu.Unlock()
		for i := range batch {
			s.deliver(batch[i])
			batch[i] = Event{} // lets go of its strings
		}
		if !closed {
			continue
		}
		if lost > 0 {
			s.deliver(Event{Time: time.Now(), Kind: Lost, Run: s.run, Count: lost,
				Reason: "events came faster than they could be written"})
		}
		s.closeSinks()
		return
	}
}

func (s *Stream) closeSinks() {
	for i, sink := range s.sinks {
		if err := sink.Close(); err != nil {
			s.fault(i, err)
		}
		signal(s.progress)
	}
}

func (s *Stream) deliver(e Event) {
	for i, sink := range s.sinks {
		if err := sink.Write(e); err != nil {
			s.fault(i, err)
		}
		signal(s.progress)
	}
}

// fault tells the other sinks, once, that a sink fails. What they say to that
// is dropped, or two broken sinks would talk about each other.
func (s *Stream) fault(broken int, err error) {
	if s.failed[broken] {
		return
	}
	s.failed[broken] = true
	s.err = errors.Join(s.err, err)
	e := Event{Time: time.Now(), Kind: Fault, Run: s.run, Reason: fmt.Sprintf("cannot write events: %v", err)}
	for i, sink := range s.sinks {
		if i != broken && !s.failed[i] {
			_ = sink.Write(e)
		}
	}
}
