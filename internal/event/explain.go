package event

import (
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"strconv"
	"strings"
)

const (
	maxDistinct = 1000 // distinct denials that are told apart; the rest is counted
	maxListed   = 20   // denials and flags that the summary lists
	maxWord     = 256  // bytes of a text that somebody else chose, in a line
	maxReason   = 512  // bytes of a reason, which may quote such texts
)

// explainer is the sink that people read: one line for each distinct denial or
// fault, and at the end, when something was denied, a summary with the flags
// that would have allowed it. With nothing denied it writes nothing at the end.
type explainer struct {
	w          io.Writer
	start, end string // around every line

	counts Counts
	seen   map[key]int // index into list
	list   []denial
	rest   int64 // denials beyond maxDistinct
}

// key is what makes denials equal: who, where to, why. Not the process number,
// for a build may start a thousand of the same program, and not the address of
// a name, for a name may have many.
type key struct {
	kind                         Kind
	comm, protocol, place, cause string
}

type denial struct {
	key
	allowWith string
	count     int64
}

// Explain returns a sink for people: it writes to w one line, in one Write, for
// each distinct denial or fault, and a summary at the end when something was
// denied. It does not own w; for a nil w it returns nil. Bytes that others chose
// are escaped. An *os.File is written to with write(2), waiting up to 5 seconds
// on EAGAIN; on a terminal every line starts at the left edge, over what a
// progress bar or a prompt left there.
func Explain(w io.Writer) Sink {
	if w == nil {
		return nil
	}
	return newExplainer(w)
}

func newExplainer(w io.Writer) *explainer {
	x := &explainer{w: wrap(w), end: "\n", seen: map[key]int{}}
	if isTerminal(w) {
		x.asTerminal(os.Getenv("TERM"))
	}
	return x
}

// asTerminal makes lines start at column 0 and end there too when the command
// has put the terminal into raw mode. EL (ECMA-48, 8.3.41) clears what is left
// of the line that is written over.
func (x *explainer) asTerminal(term string) {
	x.start, x.end = "\r", "\r\n"
	if term != "" && term != "dumb" {
		x.end = "\x1b[K\r\n"
	}
}

// Write explains an event, or counts it when an equal one was explained before.
func (x *explainer) Write(e Event) error {
	x.counts.add(e)
	if !e.Kind.explained() {
		return nil
	}
	k := key{e.Kind, e.Comm, e.Protocol, place(e, false), e.Reason}
	if i, ok := x.seen[k]; ok {
		x.list[i].count += times(e)
		return nil
	}
	if len(x.list) >= maxDistinct {
		x.rest += times(e)
		if x.rest == times(e) {
			return x.line("more than %d different messages; the rest is only counted", maxDistinct)
		}
		return nil
	}
	x.seen[k] = len(x.list)
	x.list = append(x.list, denial{k, e.AllowWith, times(e)})
	return x.line("%s", explain(e))
}

// Close writes the summary when something was denied.
func (x *explainer) Close() error {
	denied := x.counts.Denied + x.counts.Audited
	if denied == 0 {
		return nil
	}
	verdict, errs := "denied", []error(nil)
	if x.counts.Denied == 0 {
		verdict = "would be denied"
	}
	allowed := plural(x.counts.Allowed, "connection")
	if x.counts.Requests > 0 {
		allowed += " and " + plural(x.counts.Requests, "request")
	}
	errs = append(errs, x.line("summary: %s allowed, %s %s", allowed, plural(denied, "attempt"), verdict))
	listed, left := 0, x.rest
	var flags []string
	unflagged := map[string]bool{}
	for _, d := range x.list {
		if !d.kind.denial() {
			continue
		}
		if flag := shellFlag(d.allowWith); flag != "" && !unflagged[flag] {
			unflagged[flag] = true
			flags = append(flags, flag)
		}
		if listed == maxListed {
			left += d.count
			continue
		}
		listed++
		errs = append(errs, x.line("  %dx %s%s: %s", d.count, target(d.protocol, d.place), by(d.comm, 0), Escape(d.cause, maxReason)))
	}
	if left > 0 {
		errs = append(errs, x.line("  %dx others", left))
	}
	if len(flags) > 0 {
		more := ""
		if len(flags) > maxListed {
			more = fmt.Sprintf(" (and %d more)", len(flags)-maxListed)
			flags = flags[:maxListed]
		}
		errs = append(errs, x.line("to allow this, add: %s%s", strings.Join(flags, " "), more))
	}
	return errors.Join(errs...)
}

func (x *explainer) line(format string, args ...any) error {
	_, err := fmt.Fprintf(x.w, x.start+"sandlock: "+format+x.end, args...)
	return err
}

// explain is the line of an event, without a line break.
func explain(e Event) string {
	reason := Escape(e.Reason, maxReason)
	if e.Kind == Lost {
		return fmt.Sprintf("%s lost: %s", plural(times(e), "event"), reason)
	}
	head := e.Kind.Verdict()
	if head == "" {
		head = e.Kind.String()
	}
	if t := target(e.Protocol, place(e, true)); t != "" {
		head += " " + t
	}
	head += by(e.Comm, e.PID) + ": " + reason
	if e.Rule != "" {
		head += " (" + strings.TrimSpace(Escape(e.Source, maxWord)+" "+word(e.Rule, maxWord)) + ")"
	}
	if flag := shellFlag(e.AllowWith); flag != "" {
		head += "; allow with " + flag
	}
	return head
}

// place is where an event points to, escaped; full adds the address of a name.
func place(e Event, full bool) string {
	switch {
	case e.Method != "":
		at := e
		at.Method, at.Path, at.Addr = "", "", netip.Addr{}
		if e.Port == schemePorts[e.Protocol] {
			at.Port = 0
		}
		if at.Name == "" {
			at.Addr = e.Addr
		}
		s := word(e.Method, maxWord) + " " + e.Protocol + "://" + place(at, false) + word(e.Path, maxWord)
		if full && e.Name != "" && e.Addr.IsValid() {
			s += " (" + e.Addr.String() + ")"
		}
		return s
	case e.Path != "":
		return word(e.Path, maxWord)
	case e.Name != "":
		s := word(e.Name, maxWord)
		if e.Port != 0 {
			s += ":" + strconv.Itoa(int(e.Port))
		}
		if full && e.Addr.IsValid() {
			s += " (" + word(e.Addr.String(), maxWord) + ")"
		}
		return s
	case e.Addr.IsValid() && e.Port != 0:
		return netip.AddrPortFrom(e.Addr.WithZone(""), e.Port).String()
	case e.Addr.IsValid():
		return e.Addr.WithZone("").String()
	case e.Port != 0:
		return "port " + strconv.Itoa(int(e.Port))
	}
	return ""
}

// schemePorts are the ports that need not be written (RFC 9110 section 4.2).
var schemePorts = map[string]uint16{"http": 80, "https": 443}

func target(protocol, place string) string {
	if schemePorts[protocol] != 0 {
		return place // which is a URL
	}
	return strings.TrimSpace(Escape(protocol, maxWord) + " " + place)
}

// by names a process, with its number when that is known.
func by(comm string, pid int32) string {
	switch {
	case comm == "" && pid == 0:
		return ""
	case comm == "":
		return fmt.Sprintf(" by process %d", pid)
	case pid == 0:
		return " by " + word(comm, maxWord)
	}
	return fmt.Sprintf(" by %s[%d]", word(comm, maxWord), pid)
}

func plural(n int64, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}
