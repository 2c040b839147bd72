// Package event carries what happens in a sandbox to those who log it: one
// typed stream, whose Emit never blocks, and the sinks at its end.
package event

import (
	"net/netip"
	"time"
)

// Kind says what an event is about.
type Kind uint8

// The kinds of events. The zero Kind is a denial, so an event that was filled
// in carelessly alarms somebody.
const (
	// Deny: a call or a message was refused.
	Deny Kind = iota
	// Audit: it was let through, and would be refused without --audit.
	Audit
	// Fault: something of sandlock's own went wrong. It is no verdict.
	Fault
	// Flow: an allowed connection that was passed through has ended.
	Flow
	// Allow: a name was resolved, or a direct connection was made.
	Allow
	// Start: the command was started.
	Start
	// Exit: the command has ended; Code holds its exit code.
	Exit
	// Request: an allowed HTTP request is over.
	Request
	// Lost: Count events did not reach the sinks.
	Lost
)

// kinds is the data about every kind: its word in the log, the verdict that it
// stands for, and whether a person is told at once.
var kinds = [...]struct {
	name, verdict string
	explained     bool
}{
	Deny:  {"deny", "denied", true},
	Audit: {"audit", "would deny", true},
	Fault: {"fault", "", true},
	Flow:  {"flow", "allowed", false},
	Allow: {"allow", "allowed", false},
	Start: {"start", "", false},
	Exit:  {"exit", "", false},
	Lost:  {"lost", "", true},

	Request: {"request", "allowed", false},
}

// String is the word of the kind in the log, "unknown" for none of them.
func (k Kind) String() string {
	if int(k) < len(kinds) {
		return kinds[k].name
	}
	return "unknown"
}

// Verdict is "denied", "would deny", "allowed", or "" for a kind that is none.
func (k Kind) Verdict() string {
	if int(k) < len(kinds) {
		return kinds[k].verdict
	}
	return ""
}

// denial tells whether the kind is a refusal, real or reported only.
func (k Kind) denial() bool { return k == Deny || k == Audit }

// explained tells whether a person is told at once. An unknown kind is shown.
func (k Kind) explained() bool { return int(k) >= len(kinds) || kinds[k].explained }

// Event is one thing that happened. A zero field is unknown or does not apply.
// Strings are as they were found, hostile bytes included: the sinks escape
// them. No field ever holds an environment or an argument vector, which may
// hold secrets.
type Event struct {
	Time time.Time // when; Emit fills it in
	Kind Kind
	Run  string // name of the run; the stream fills it in

	PID  int32  // process (thread group) that caused it, in the supervisor's PID namespace
	TID  int32  // thread of it
	Comm string // its name, proc(5) /proc/PID/comm; Emit fills it in from PID
	Exe  string // its program, proc(5) /proc/PID/exe; Emit fills it in from PID

	Syscall  string     // name of the system call
	Protocol string     // "tcp", "udp", "icmp", "dns", "unix", "http", "https"
	Name     string     // host name: of the rule, the query, the SNI or the Host
	Addr     netip.Addr // destination, or local address of a bind
	Port     uint16     // host byte order; 0 is none
	Path     string     // of a unix socket, or of a request, without its query
	Method   string     // of an HTTP request
	Status   int        // of the answer to it

	Reason    string // why, in words
	Rule      string // text of the rule behind the verdict, as the user wrote it
	Source    string // where that rule stands: "--deny", "policy.toml:12"
	AllowWith string // flag, a space and its value that would allow it; not quoted for a shell

	BytesUp, BytesDown int64         // moved from the command, to the command
	Duration           time.Duration // how long a flow or a command lasted
	Count              int64         // how many things the event stands for; 0 is one
	Code               int           // exit code of the command, for Exit
}

// Sink takes events, one at a time, from one goroutine. It may block. Write
// reports an event that it could not keep. Close ends the sink and may write a
// summary; it does not close what the sink writes to. A sink that was given no
// event has nothing to say at its end, and its Close must not block.
type Sink interface {
	Write(Event) error
	Close() error
}
