package passthrough

import (
	"net/netip"
	"time"

	"github.com/sandlock/sandlock/mitm/hello"
	"github.com/sandlock/sandlock/netfilter/endpoint"
)

// Flow is one connection to pass through.
type Flow struct {
	// Client and Upstream are connected stream sockets. The engine owns both
	// from Add on, also when Add fails, and makes them non-blocking; nobody
	// else may hold a descriptor of the same sockets.
	Client, Upstream int
	// Names are the names that the first message may ask for.
	Names []endpoint.Name
	// Inspect asks for the first message to be read and compared with Names.
	Inspect bool
	// First is what was read from the client before; it goes upstream ahead of the
	// rest. Only without Inspect.
	First []byte
	// Audit lets a flow pass that would have been refused. The Result says so.
	Audit bool
	// Forbidden, if not nil, stands in place of Names: the first message may ask for
	// no name, for any name but those that it tells, or be of another protocol. It
	// runs on the engine's goroutine and must not block.
	Forbidden func(endpoint.Name) bool
	// Divert, if not nil, is offered the flow when its first message was good. If
	// it returns true, it owns both descriptors and the flow is not reported. It
	// runs on the engine's goroutine and must not block.
	Divert func(Diverted) bool
	// Dst is the address and port that the client asked for.
	Dst netip.AddrPort
	// PID and Tag are the caller's; Tag is what Abort takes.
	PID int32
	Tag uint64
}

// Outcome is how the inspection of a flow ended.
type Outcome uint8

// The outcomes.
const (
	// Unseen: the flow ended before a whole first message came. Nothing was
	// relayed in either direction.
	Unseen Outcome = iota
	// Passed: the first message was good, or was not to be inspected.
	Passed
	// Refused: the first message was not acceptable (Result.Reason). Without
	// Flow.Audit nothing was relayed in either direction.
	Refused
)

// String returns "unseen", "passed" or "refused".
func (o Outcome) String() string {
	switch o {
	case Passed:
		return "passed"
	case Refused:
		return "refused"
	}
	return "unseen"
}

// Result is the end of a flow.
type Result struct {
	// Flow is as given to Add, but Client and Upstream are -1.
	Flow
	Outcome Outcome
	// Reason is set when Outcome is Refused: a hello.Reason or a Mismatch.
	Reason error
	// AllowWith is the flag that would have allowed a refused flow, "" if none.
	AllowWith string
	// Kind, ECH and Seen are of the first message. Seen is the SNI or Host,
	// escaped to printable ASCII.
	Kind hello.Kind
	ECH  bool
	Seen string
	// BytesUp and BytesDown count what the receiving socket accepted.
	BytesUp, BytesDown int64
	// Err is nil after an orderly end (both sides finished, or a refusal).
	// Otherwise it wraps an errno, ErrAborted or ErrClosed, and the other side
	// was reset.
	Err error
	// Duration is the time since Add.
	Duration time.Duration
}

const (
	client   = 0
	upstream = 1
)

type phase uint8

const (
	inspecting phase = iota
	relaying
	lingering // refused and reported; waits for the client to read the answer
	ended
)

// stream is one direction, from side i to side 1-i.
type stream struct {
	pipe  *pipe
	held  int // bytes in pipe
	moved int64
	eof   bool // the source has ended
	done  bool // and the destination was told
}

// flow is the engine's state of a Flow: about 400 bytes while idle.
type flow struct {
	Flow
	slot      int32
	gen       int32
	fd        [2]int
	readable  [2]bool
	writable  [2]bool
	streams   [2]stream
	phase     phase
	queued    bool
	failing   bool
	outcome   Outcome
	kind      hello.Kind
	ech       bool
	first     *first // nil when there is nothing (more) to inspect or to forward
	started   time.Time
	discarded int // bytes read away after a refusal
	seen      string
	reason    error
	flag      string
}

// first is the first message under way.
type first struct {
	buf    []byte
	sent   int // bytes of buf already forwarded
	parser hello.Parser
}

func (f *flow) result(err error) Result {
	r := Result{
		Flow: f.Flow, Outcome: f.outcome, Reason: f.reason, AllowWith: f.flag,
		Kind: f.kind, ECH: f.ech, Seen: f.seen,
		BytesUp: f.streams[client].moved, BytesDown: f.streams[upstream].moved,
		Err: err, Duration: time.Since(f.started),
	}
	r.Client, r.Upstream = -1, -1
	return r
}
