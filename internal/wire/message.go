// Package wire is what the supervisor and the interceptor say to each other: typed
// messages over one pair of sequenced-packet sockets, with descriptors beside
// them. The supervisor takes nothing for granted that the interceptor says: it
// parses what strangers send, and may be theirs.
package wire

import (
	"net/netip"
	"time"

	"github.com/sandlock/sandlock/netfilter/endpoint"
	"golang.org/x/sys/unix"
)

// Bounds of what a message may hold, in bytes.
const (
	MaxMessage = 96 << 10 // a first message of 64 KiB with room for the rest; below the default SO_SNDBUF
	MaxFirst   = 64 << 10 // hello.Max
	MaxText    = 4096     // of a path, a reason, a rule
	MaxPEM     = 16 << 10 // a certificate or a key
	maxNames   = 64       // names of one address in a flow
	maxNameLen = 253      // RFC 1035, section 2.3.4, as text
	maxFDs     = 2
)

// Message is one of the types below.
type Message interface {
	kind() byte
	encode(*encoder)
}

// The kinds, as bytes on the wire. Those from the supervisor have the top bit.
const (
	kindSetup     = 0x80
	kindFlow      = 0x81
	kindDialed    = 0x82
	kindStore     = 0x83
	kindAuthority = 0x01
	kindDial      = 0x02
	kindEnded     = 0x03
	kindRequest   = 0x04
	kindFault     = 0x05
	kindStored    = 0x06
)

// SetupReady is the supervisor's first message. Its descriptors are a file with a
// Setup and, after a restart, one with the Authority of the run.
type SetupReady struct{}

// Flow is a connection to look into. Its descriptors are the client's socket and,
// with Upstream, a socket that is connected to Dst.
type Flow struct {
	ID       uint64
	Dst      netip.AddrPort  // where the client wanted to go
	Names    []endpoint.Name // bound to that address: the client may ask for these
	First    []byte          // what the client has sent and the supervisor has read
	Upstream bool
}

// Dialed answers a Dial. Its descriptor is the connected socket, unless Errno or
// Reason says why there is none.
type Dialed struct {
	ID     uint64
	Errno  unix.Errno // of the network; 0 when Reason is a refusal
	Reason string
}

// Store asks for a copy of a Java key store with the CA in it. Its descriptors
// are the original, to read, and a file for the copy, to write.
type Store struct{ ID uint64 }

// Authority is the CA of the run, which the first interceptor makes.
type Authority struct{ Cert, Key []byte } // PEM

// Dial asks for another connection to an upstream of a flow: to the name, or to
// the flow's own address where Name is zero.
type Dial struct {
	ID   uint64
	Flow uint64
	Name endpoint.Name
	Port uint16
}

// Ended says that a flow is over, and how many bytes its client sent and got.
type Ended struct {
	Flow     uint64
	Up, Down int64
}

// Verdict is what became of a request.
type Verdict uint8

// The verdicts. The zero Verdict is a denial.
const (
	Denied Verdict = iota
	Audited
	Allowed
)

// Request reports an HTTP request that is over. Texts are as the client sent
// them.
type Request struct {
	Flow      uint64
	Verdict   Verdict
	TLS       bool
	Method    string
	Host      string
	Port      uint16
	Path      string // without the query
	Status    uint16
	Up, Down  int64 // bytes of the bodies
	Duration  time.Duration
	Reason    string
	Rule      string
	Source    string
	AllowWith string
}

// Fault says that something went wrong inside the interceptor.
type Fault struct{ Text string }

// Stored answers a Store: the copy has Size bytes, or Error says why there is none.
type Stored struct {
	ID    uint64
	Size  uint32
	Error string
}

func (SetupReady) kind() byte { return kindSetup }
func (Flow) kind() byte       { return kindFlow }
func (Dialed) kind() byte     { return kindDialed }
func (Store) kind() byte      { return kindStore }
func (Authority) kind() byte  { return kindAuthority }
func (Dial) kind() byte       { return kindDial }
func (Ended) kind() byte      { return kindEnded }
func (Request) kind() byte    { return kindRequest }
func (Fault) kind() byte      { return kindFault }
func (Stored) kind() byte     { return kindStored }

func (SetupReady) encode(*encoder) {}

func (m Flow) encode(e *encoder) {
	e.u64(m.ID)
	e.addr(m.Dst.Addr())
	e.u16(m.Dst.Port())
	names := m.Names[:min(len(m.Names), maxNames)]
	e.u32(uint32(len(names)))
	for _, n := range names {
		e.name(n)
	}
	e.bytes(m.First)
	e.flag(m.Upstream)
}

func (m Dialed) encode(e *encoder) {
	e.u64(m.ID)
	e.u16(uint16(m.Errno))
	e.text(clip(m.Reason))
}

func (m Store) encode(e *encoder) { e.u64(m.ID) }

func (m Authority) encode(e *encoder) { e.bytes(m.Cert); e.bytes(m.Key) }

func (m Dial) encode(e *encoder) {
	e.u64(m.ID)
	e.u64(m.Flow)
	e.name(m.Name)
	e.u16(m.Port)
}

func (m Ended) encode(e *encoder) {
	e.u64(m.Flow)
	e.u64(uint64(m.Up))
	e.u64(uint64(m.Down))
}

func (m Request) encode(e *encoder) {
	e.u64(m.Flow)
	e.u8(uint8(m.Verdict))
	e.flag(m.TLS)
	for _, s := range []string{m.Method, m.Host, m.Path, m.Reason, m.Rule, m.Source, m.AllowWith} {
		e.text(clip(s))
	}
	e.u16(m.Port)
	e.u16(m.Status)
	e.u64(uint64(m.Up))
	e.u64(uint64(m.Down))
	e.u64(uint64(m.Duration))
}

func (m Fault) encode(e *encoder) { e.text(clip(m.Text)) }

func (m Stored) encode(e *encoder) {
	e.u64(m.ID)
	e.u32(m.Size)
	e.text(clip(m.Error))
}

// clip keeps a text that somebody else chose within the bounds.
func clip(s string) string { return s[:min(len(s), MaxText)] }

// decode reads a message, with its kind in the first byte.
func decode(b []byte) (Message, error) {
	if len(b) == 0 {
		return nil, ErrMalformed
	}
	d := &decoder{b: b[1:]}
	var m Message
	switch b[0] {
	case kindSetup:
		m = SetupReady{}
	case kindFlow:
		m = decodeFlow(d)
	case kindDialed:
		m = Dialed{ID: d.u64(), Errno: unix.Errno(d.u16()), Reason: d.text(MaxText)}
	case kindStore:
		m = Store{ID: d.u64()}
	case kindAuthority:
		m = Authority{Cert: d.bytes(MaxPEM), Key: d.bytes(MaxPEM)}
	case kindDial:
		m = Dial{ID: d.u64(), Flow: d.u64(), Name: d.name(), Port: d.u16()}
	case kindEnded:
		m = Ended{Flow: d.u64(), Up: d.size(), Down: d.size()}
	case kindRequest:
		m = decodeRequest(d)
	case kindFault:
		m = Fault{Text: d.text(MaxText)}
	case kindStored:
		m = Stored{ID: d.u64(), Size: d.u32(), Error: d.text(MaxText)}
	default:
		return nil, ErrMalformed
	}
	if err := d.end(); err != nil {
		return nil, err
	}
	return m, nil
}

func decodeFlow(d *decoder) Flow {
	m := Flow{ID: d.u64()}
	m.Dst = netip.AddrPortFrom(d.addr(), d.u16())
	for range d.count(maxNames) {
		m.Names = append(m.Names, d.name())
	}
	m.First = d.bytes(MaxFirst)
	m.Upstream = d.flag()
	return m
}

func decodeRequest(d *decoder) Request {
	m := Request{Flow: d.u64(), Verdict: Verdict(d.u8()), TLS: d.flag()}
	d.bad = d.bad || m.Verdict > Allowed
	for _, s := range []*string{&m.Method, &m.Host, &m.Path, &m.Reason, &m.Rule, &m.Source, &m.AllowWith} {
		*s = d.text(MaxText)
	}
	m.Port, m.Status = d.u16(), d.u16()
	m.Up, m.Down, m.Duration = d.size(), d.size(), time.Duration(d.size())
	return m
}
