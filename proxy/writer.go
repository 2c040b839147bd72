package proxy

import (
	"bufio"
	"io"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
)

// chunk is how much of a body is moved at once, in bytes.
const chunk = 64 << 10

var chunks = sync.Pool{New: func() any { return new([chunk]byte) }}

// writer is the client's side of an answer.
type writer struct {
	http.ResponseWriter
	x        *exchange
	status   int
	down     atomic.Int64
	flush    bool // the length is unknown: it may be a stream of events
	hijacked net.Conn
}

// Unwrap lets http.ResponseController reach the connection.
func (w *writer) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// WriteHeader sends the header.
func (w *writer) WriteHeader(status int) {
	w.status = status
	if h := w.x.f.head; h != nil && status != http.StatusSwitchingProtocols && (h.isRaw() || h.fault() != nil) {
		w.Header()["Connection"] = []string{"close"} // what follows was not looked at
	}
	w.ResponseWriter.WriteHeader(status)
	if w.flush && status != http.StatusSwitchingProtocols {
		w.Flush() // the header, before the first event
	}
}

// Write sends a part of the body.
func (w *writer) Write(b []byte) (int, error) {
	n, err := w.ResponseWriter.Write(b)
	w.down.Add(int64(n))
	if w.flush && err == nil {
		err = http.NewResponseController(w.ResponseWriter).Flush()
	}
	return n, err
}

// ReadFrom sends a body.
func (w *writer) ReadFrom(src io.Reader) (total int64, err error) {
	buf := chunks.Get().(*[chunk]byte)
	defer chunks.Put(buf)
	for {
		n, rerr := src.Read(buf[:])
		if n > 0 {
			m, werr := w.Write(buf[:n])
			total += int64(m)
			if werr != nil {
				return total, werr
			}
		}
		if rerr == io.EOF {
			return total, nil
		}
		if rerr != nil {
			return total, rerr
		}
	}
}

// Flush sends what is buffered.
func (w *writer) Flush() { _ = http.NewResponseController(w.ResponseWriter).Flush() }

// Hijack gives out the connection, which closeHijacked closes.
func (w *writer) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	c, rw, err := http.NewResponseController(w.ResponseWriter).Hijack()
	if err == nil {
		w.hijacked = c
	}
	return c, rw, err
}

func (w *writer) closeHijacked() {
	if w.hijacked != nil {
		w.hijacked.Close()
	}
}
