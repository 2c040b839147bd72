package event

import (
	"io"
	"net/netip"
	"strconv"
	"time"
)

const (
	// schema is the version of the fields, raised when one changes its meaning.
	schema = 1
	// maxText is how much of a text goes into a line: PATH_MAX of linux/limits.h,
	// the longest text that a command can choose.
	maxText = 4096
)

// jsonLines writes one JSON object a line. docs/events.md describes the fields.
type jsonLines struct {
	w       io.Writer
	buf     []byte
	torn    bool  // the last line was not written to its end
	missing int64 // events that could not be written since
}

// JSONLines returns a sink that writes each event to w as one JSON object on a
// line, in one Write; docs/events.md describes the fields. It does not own w; for
// a nil w it returns nil. An *os.File is written to with write(2), waiting up to
// 5 seconds on EAGAIN.
func JSONLines(w io.Writer) Sink {
	if w == nil {
		return nil
	}
	return &jsonLines{w: wrap(w)}
}

// Write writes an event. After an error it goes on with the next event, on a
// line of its own, and first says how many are missing.
func (j *jsonLines) Write(e Event) error {
	b := j.buf[:0]
	if j.torn {
		b = append(b, '\n')
	}
	if j.missing > 0 {
		b = appendEvent(b, j.gap(e.Time, e.Run))
	}
	b = appendEvent(b, e)
	j.buf = b
	n, err := j.w.Write(b)
	if err != nil {
		j.torn = j.torn && n == 0 || n > 0 && b[n-1] != '\n'
		j.missing++
		return err
	}
	j.torn, j.missing = false, 0
	return nil
}

// Close tries once more to say how many events are missing.
func (j *jsonLines) Close() error {
	if j.missing == 0 {
		return nil
	}
	var b []byte
	if j.torn {
		b = append(b, '\n')
	}
	_, err := j.w.Write(appendEvent(b, j.gap(time.Now(), "")))
	return err
}

func (j *jsonLines) gap(at time.Time, run string) Event {
	return Event{Time: at, Kind: Lost, Run: run, Count: j.missing, Reason: "the log could not be written"}
}

// appendEvent appends the line of an event. Field names and their order are
// fixed; texts are escaped first, so a decoded value is printable ASCII too.
func appendEvent(b []byte, e Event) []byte {
	o := object{b: append(b, '{')}
	o.num("v", schema)
	o.text("time", e.Time.UTC().Format(time.RFC3339Nano))
	o.text("kind", e.Kind.String())
	o.text("verdict", e.Kind.Verdict())
	o.text("run", e.Run)
	o.num("pid", int64(e.PID))
	o.num("tid", int64(e.TID))
	o.text("comm", e.Comm)
	o.text("exe", e.Exe)
	o.text("syscall", e.Syscall)
	o.text("protocol", e.Protocol)
	o.text("name", e.Name)
	o.addr("addr", e.Addr)
	o.num("port", int64(e.Port))
	o.text("method", e.Method)
	o.text("path", e.Path)
	o.num("status", int64(e.Status))
	o.text("reason", e.Reason)
	o.text("rule", e.Rule)
	o.text("source", e.Source)
	o.text("allow_with", e.AllowWith)
	moves := e.Kind == Flow || e.Kind == Request
	o.numIf(moves, "bytes_up", e.BytesUp)
	o.numIf(moves, "bytes_down", e.BytesDown)
	o.num("duration_ns", int64(e.Duration))
	o.num("count", e.Count)
	o.numIf(e.Kind == Exit, "code", int64(e.Code))
	return append(o.b, '}', '\n')
}

// object builds a JSON object. Empty values are left out.
type object struct{ b []byte }

func (o *object) key(k string) {
	if o.b[len(o.b)-1] != '{' {
		o.b = append(o.b, ',')
	}
	o.b = append(o.b, '"')
	o.b = append(o.b, k...)
	o.b = append(o.b, '"', ':')
}

func (o *object) num(k string, n int64) { o.numIf(false, k, n) }

// numIf also writes a zero when always is set.
func (o *object) numIf(always bool, k string, n int64) {
	if n != 0 || always {
		o.key(k)
		o.b = strconv.AppendInt(o.b, n, 10)
	}
}

func (o *object) addr(k string, a netip.Addr) {
	if a.IsValid() {
		o.text(k, a.String())
	}
}

func (o *object) text(k, s string) {
	if s == "" {
		return
	}
	o.key(k)
	o.b = append(o.b, '"')
	// What Escape returns is printable ASCII: of that JSON escapes two bytes
	// (RFC 8259, section 7).
	for _, c := range []byte(Escape(s, maxText)) {
		if c == '"' || c == '\\' {
			o.b = append(o.b, '\\')
		}
		o.b = append(o.b, c)
	}
	o.b = append(o.b, '"')
}
