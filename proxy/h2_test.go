package proxy_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"testing"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// h2 is an HTTP/2 client that sends whatever it is told.
type h2 struct {
	t    testing.TB
	w    io.Writer
	f    *http2.Framer
	enc  *hpack.Encoder
	buf  bytes.Buffer
	next uint32
}

func newH2(t testing.TB, c io.ReadWriter) *h2 {
	t.Helper()
	h := &h2{t: t, w: c, f: http2.NewFramer(c, c), next: 1}
	h.enc = hpack.NewEncoder(&h.buf)
	h.f.ReadMetaHeaders = hpack.NewDecoder(4096, nil)
	h.f.AllowIllegalWrites = true
	if _, err := io.WriteString(c, http2.ClientPreface); err != nil {
		t.Fatal(err)
	}
	if err := h.f.WriteSettings(); err != nil {
		t.Fatal(err)
	}
	return h
}

// block encodes header fields: name and value by turns.
func (h *h2) block(fields ...string) []byte {
	h.buf.Reset()
	for i := 0; i+1 < len(fields); i += 2 {
		if err := h.enc.WriteField(hpack.HeaderField{Name: fields[i], Value: fields[i+1]}); err != nil {
			h.t.Fatal(err)
		}
	}
	return bytes.Clone(h.buf.Bytes())
}

// send begins a stream with a header, and ends it when there is no body to come.
func (h *h2) send(end bool, fields ...string) uint32 {
	id := h.next
	h.next += 2
	// An error shows in the answer, or in its absence.
	_ = h.f.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: h.block(fields...), EndHeaders: true, EndStream: end})
	return id
}

// request is the header of a request.
func request(method, authority, path string, more ...string) []string {
	return append([]string{":method", method, ":scheme", "https", ":authority", authority, ":path", path}, more...)
}

// answer reads until a stream is over and returns its status, or why there is none.
func (h *h2) answer(id uint32) string { return h.answers([]uint32{id})[id] }

// answers reads until all the streams are over.
func (h *h2) answers(ids []uint32) map[uint32]string {
	out, open := map[uint32]string{}, map[uint32]bool{}
	for _, id := range ids {
		open[id] = true
	}
	end := func(why string) map[uint32]string {
		for id := range open {
			out[id] = why
		}
		return out
	}
	for len(open) > 0 {
		f, err := h.f.ReadFrame()
		if err != nil {
			var stream http2.StreamError
			if errors.As(err, &stream) {
				continue
			}
			return end("closed")
		}
		id := f.Header().StreamID
		over := f.Header().Flags.Has(http2.FlagDataEndStream)
		switch f := f.(type) {
		case *http2.SettingsFrame:
			if !f.IsAck() {
				_ = h.f.WriteSettingsAck()
			}
			continue
		case *http2.GoAwayFrame:
			if f.ErrCode == http2.ErrCodeNo {
				continue // what is under way goes on
			}
			return end(fmt.Sprintf("goaway %v", f.ErrCode))
		case *http2.MetaHeadersFrame:
			if out[id] == "" {
				out[id] = f.PseudoValue("status")
			}
		case *http2.RSTStreamFrame:
			if over = true; out[id] == "" {
				out[id] = fmt.Sprintf("reset %v", f.ErrCode)
			}
		case *http2.DataFrame:
		default:
			continue
		}
		if over {
			delete(open, id)
		}
	}
	return out
}
