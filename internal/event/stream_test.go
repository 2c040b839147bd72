package event

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"
)

// recorder keeps what it gets. With a gate it takes an event per token.
type recorder struct {
	gate   chan struct{}
	inside chan struct{} // a token for each Write that has begun
	fail   error
	events []Event
	closed bool
}

func (r *recorder) Write(e Event) error {
	if r.gate != nil {
		r.inside <- struct{}{}
		<-r.gate
	}
	r.events = append(r.events, e)
	return r.fail
}

func (r *recorder) Close() error { r.closed = true; return r.fail }

func TestEmitDoesNotWaitForASinkThatBlocks(t *testing.T) {
	r := &recorder{gate: make(chan struct{}), inside: make(chan struct{}, 1)}
	s := NewNamed("run", r)
	s.Emit(Event{Name: "first"})
	<-r.inside // the sink holds the first event and does not return
	go func() {
		for range r.inside { // lets the later ones in
		}
	}()
	const more = 10
	for i := range queueLen + more {
		s.Emit(Event{Name: fmt.Sprint(i)}) // would hang here, and the test with it
	}
	close(r.gate)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	close(r.inside)
	if got, want := len(r.events), 1+queueLen+1; got != want {
		t.Fatalf("%d events arrived, want %d: the first, the queue and the report of the loss", got, want)
	}
	for i, e := range r.events[1 : 1+queueLen] {
		if e.Name != fmt.Sprint(i) {
			t.Fatalf("event %d is %q: out of order", i, e.Name)
		}
	}
	last := r.events[len(r.events)-1]
	if last.Kind != Lost || last.Count != more || last.Run != "run" {
		t.Errorf("the last event is %+v, want %d lost", last, more)
	}
	if !r.closed {
		t.Error("the sink was not closed")
	}
}

func TestCloseGivesUpOnASinkThatTakesNothing(t *testing.T) {
	r := &recorder{gate: make(chan struct{}), inside: make(chan struct{}, 1)}
	s := New(r)
	s.patience = time.Millisecond
	s.Emit(Event{})
	<-r.inside
	if err := s.Close(); !errors.Is(err, ErrStuck) {
		t.Errorf("Close returned %v", err)
	}
	close(r.gate)
	<-s.done // the writer still ends
}

func TestEmitFromManyGoroutinesAndAfterClose(t *testing.T) {
	r := &recorder{}
	s := New(r)
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 100 {
				s.Emit(Event{Kind: Allow})
			}
		})
	}
	wg.Wait()
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s.Emit(Event{}) // must not panic
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	var got, lost int64
	for _, e := range r.events {
		if e.Kind == Lost {
			lost += e.Count
		} else {
			got++
		}
	}
	if got+lost != 800 {
		t.Errorf("%d arrived and %d were lost, of 800", got, lost)
	}
}

// Between the first look at the queue and the second, others may fill it.
func TestTheQueueIsBoundedWhileEmittersRace(t *testing.T) {
	r := &recorder{gate: make(chan struct{}), inside: make(chan struct{}, 2*queueLen)}
	s := New(r)
	s.Emit(Event{})
	<-r.inside // the sink is busy; what comes now waits
	s.process = func(int32) (string, string) {
		for range queueLen {
			s.Emit(Event{})
		}
		return "late", ""
	}
	s.Emit(Event{PID: 1})
	close(r.gate)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	for _, e := range r.events {
		if e.Comm == "late" {
			t.Error("an event was queued beyond the bound")
		}
	}
	if last := r.events[len(r.events)-1]; last.Kind != Lost || last.Count != 1 {
		t.Errorf("the last event is %+v, want 1 lost", last)
	}
}

func TestEmitFillsIn(t *testing.T) {
	r := &recorder{}
	s := NewNamed("build", r)
	s.process = func(pid int32) (string, string) { return fmt.Sprintf("comm%d", pid), "/bin/x" }
	at := time.Unix(1, 2)
	s.Emit(Event{PID: 7})
	s.Emit(Event{PID: 7, Comm: "known", Exe: "/known", Time: at, Run: "other"})
	s.Close()
	if e := r.events[0]; e.Comm != "comm7" || e.Exe != "/bin/x" || e.Time.IsZero() || e.Run != "build" {
		t.Errorf("filled in: %+v", e)
	}
	if e := r.events[1]; e.Comm != "known" || e.Exe != "/known" || !e.Time.Equal(at) || e.Run != "other" {
		t.Errorf("overwrote what was given: %+v", e)
	}
}

func TestReadProcess(t *testing.T) {
	comm, exe := Process(int32(os.Getpid()))
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	if exe != self || comm == "" || strings.ContainsRune(comm, '\n') {
		t.Errorf("%q, %q; the program is %q", comm, exe, self)
	}
	var known processes
	for range 2 { // opened, and kept open
		if c, e := known.look(int32(os.Getpid())); c != comm || e != exe {
			t.Errorf("kept open: %q, %q", c, e)
		}
	}
	known.close()
	if c, e := known.look(int32(os.Getpid())); c != comm || e != exe || len(known.known) > 0 {
		t.Errorf("after the end: %q, %q, %d open", c, e, len(known.known))
	}
	if comm, exe := Process(-1); comm != "" || exe != "" {
		t.Errorf("a process that does not exist is %q, %q", comm, exe)
	}
}

func TestAFullDiskIsReportedOnce(t *testing.T) {
	full, err := os.OpenFile("/dev/full", os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer full.Close()
	var text bytes.Buffer
	s := New(JSONLines(full), Explain(&text), JSONLines(nil), Explain(nil))
	for range 5 {
		s.Emit(Event{Kind: Flow})
	}
	if err := s.Close(); err == nil || !strings.Contains(err.Error(), "no space left") {
		t.Errorf("Close returned %v", err)
	}
	const want = "sandlock: fault: cannot write events: write /dev/full: no space left on device\n"
	if text.String() != want {
		t.Errorf("got  %q\nwant %q", text.String(), want)
	}
}

func TestTwoBrokenSinksDoNotTalkForEver(t *testing.T) {
	a, b, c := &recorder{fail: errors.New("a")}, &recorder{fail: errors.New("b")}, &recorder{}
	s := New(a, b, c)
	s.Emit(Event{Kind: Allow})
	if err := s.Close(); err == nil || err.Error() != "a\nb" {
		t.Errorf("Close returned %v", err)
	}
	var faults []string
	for _, e := range c.events {
		if e.Kind == Fault {
			faults = append(faults, e.Reason)
		}
	}
	if got := strings.Join(faults, "|"); got != "cannot write events: a|cannot write events: b" {
		t.Errorf("the sound sink heard %q", got)
	}
}

func TestMultiReachesAllAndJoinsErrors(t *testing.T) {
	a, b := &recorder{fail: errors.New("a")}, &recorder{}
	var sum Summary
	m := Multi(a, b, &sum)
	if err := m.Write(Event{Kind: Flow, BytesUp: 3, BytesDown: 4}); err == nil || err.Error() != "a" {
		t.Errorf("Write returned %v", err)
	}
	m.Write(Event{Kind: Deny, Count: 5})
	m.Write(Event{Kind: Audit})
	m.Write(Event{Kind: Allow, Protocol: "dns"})
	m.Write(Event{Kind: Allow, Protocol: "tcp"})
	m.Write(Event{Kind: Fault})
	m.Write(Event{Kind: Lost, Count: 9})
	if err := m.Close(); err == nil || !b.closed {
		t.Errorf("Close returned %v; closed the second: %v", err, b.closed)
	}
	if len(a.events) != len(b.events) {
		t.Errorf("a saw %d events, b %d", len(a.events), len(b.events))
	}
	if got, want := sum.Counts(), (Counts{Allowed: 2, Resolved: 1, Denied: 5, Audited: 1, Faults: 1, Lost: 9, BytesUp: 3, BytesDown: 4}); got != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
}

func TestEveryKindHasItsWords(t *testing.T) {
	names := map[string]bool{}
	for k := Deny; k <= Lost; k++ {
		if k.String() == "" || names[k.String()] {
			t.Errorf("kind %d is called %q", k, k)
		}
		names[k.String()] = true
	}
	if Deny.Verdict() != "denied" || Audit.Verdict() != "would deny" || Fault.Verdict() != "" {
		t.Error("the words of verdicts have changed; programs read them")
	}
	if k := Lost + 1; k.String() != "unknown" || k.Verdict() != "" || !k.explained() {
		t.Errorf("an unknown kind is %q, %q", k, k.Verdict())
	}
}

// A number that another process got is not answered with what the first one was.
func TestProcessesEndAndChange(t *testing.T) {
	var known processes
	defer known.close()
	c := exec.Command("sh", "-c", "read line; exec sleep 60")
	in, err := c.StdinPipe()
	if err == nil {
		err = c.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	pid := int32(c.Process.Pid)
	first, _ := known.look(pid)
	io.WriteString(in, "\n")
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(time.Millisecond) {
		if comm, _ := known.look(pid); comm == "sleep" && first != comm {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("an exec is not seen: first %q", first)
		}
	}
	c.Process.Kill()
	c.Wait()
	if comm, exe := known.look(pid); comm != "" || exe != "" {
		t.Errorf("a process that has ended is %q, %q", comm, exe)
	}
}
