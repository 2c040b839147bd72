package hello

// Numbers of RFC 8446 (§4, §4.2, §5.1), RFC 6066 §3, and the extension numbers
// that IANA lists for ECH and for its abandoned forerunner.
const (
	recordHandshake  = 22
	recordHeader     = 5
	recordMax        = 1 << 14
	clientHello      = 1
	messageHeader    = 4
	sessionIDMax     = 32
	extServerName    = 0
	extECH           = 0xfe0d
	extEncryptedSNI  = 0xffce
	serverNameIsHost = 0
)

// tlsState gathers the ClientHello from its records.
type tlsState struct {
	next    int    // offset of the first record that was not yet taken
	message []byte // payload of the records before next
}

func (t *tlsState) parse(buf []byte) (Hello, error) {
	h := Hello{Kind: TLS}
	for {
		size, err := recordSize(buf[t.next:])
		if err != nil {
			return h, err
		}
		start := t.next + recordHeader
		have := min(len(buf), start+size)
		if t.next == 0 {
			// Refuse what is no ClientHello without waiting for all of it.
			if err := firstBytes(buf[start:have]); err != nil {
				return h, err
			}
		}
		if have < start+size {
			return h, ErrIncomplete
		}
		payload := buf[start:have]
		if t.next > 0 || !messageFits(payload) {
			t.message = append(t.message, payload...)
			payload = t.message
		}
		t.next = have
		if len(payload) < messageHeader {
			continue
		}
		if err := firstBytes(payload); err != nil {
			return h, err
		}
		switch want := messageHeader + u24(payload[1:]); {
		case len(payload) < want:
			continue
		case len(payload) > want:
			return h, TrailingData
		}
		return parseClientHello(payload[messageHeader:])
	}
}

// recordSize checks a record header as far as it is there and returns the
// payload's size.
func recordSize(b []byte) (int, error) {
	if len(b) > 0 && b[0] != recordHandshake || len(b) > 1 && b[1] != 3 {
		return 0, BadRecord
	}
	if len(b) < recordHeader {
		return 0, ErrIncomplete
	}
	size := u16(b[3:])
	if size == 0 || size > recordMax {
		return 0, BadRecord
	}
	return size, nil
}

// firstBytes checks the type and the length of a handshake message as far as
// they are there.
func firstBytes(b []byte) error {
	if len(b) > 0 && b[0] != clientHello {
		return NotClientHello
	}
	if len(b) >= messageHeader && messageHeader+u24(b[1:]) > Max-recordHeader {
		return TooLarge
	}
	return nil
}

func messageFits(b []byte) bool {
	return len(b) >= messageHeader && len(b) >= messageHeader+u24(b[1:])
}

func parseClientHello(body []byte) (Hello, error) {
	h := Hello{Kind: TLS}
	r := reader{b: body}
	version := r.take(2)
	r.take(32)
	session := r.vector8()
	ciphers := r.vector16()
	compression := r.vector8()
	if r.bad || version[0] != 3 || len(session) > sessionIDMax || len(ciphers) < 2 || len(ciphers)%2 != 0 || len(compression) == 0 {
		return h, Malformed
	}
	if len(r.b) == 0 {
		return h, NoName
	}
	extensions := reader{b: r.vector16()}
	if r.bad || len(r.b) != 0 {
		return h, Malformed
	}
	return h, h.extensions(extensions)
}

// extensions reads all of them, so that the outcome does not depend on their
// order.
func (h *Hello) extensions(r reader) error {
	var seen [1 << 16 / 64]uint64
	var nameErr error = NoName
	for len(r.b) > 0 {
		kind := r.take(2)
		data := r.vector16()
		if r.bad {
			return Malformed
		}
		n := u16(kind)
		if seen[n/64]&(1<<(n%64)) != 0 {
			return DuplicateExtension
		}
		seen[n/64] |= 1 << (n % 64)
		switch n {
		case extServerName:
			h.Name, nameErr = serverName(data)
		case extECH, extEncryptedSNI:
			h.ECH = true
		}
	}
	return nameErr
}

// serverName reads the extension of RFC 6066 §3. That RFC allows one name of
// each type and defines one type, so there is exactly one entry.
func serverName(data []byte) (string, error) {
	r := reader{b: data}
	list := reader{b: r.vector16()}
	if r.bad || len(r.b) != 0 {
		return "", Malformed
	}
	if len(list.b) == 0 {
		return "", NoName
	}
	kind := list.take(1)
	name := string(list.vector16())
	switch {
	case kind[0] != serverNameIsHost:
		return "", NameType
	case list.bad:
		return "", Malformed
	case len(list.b) != 0:
		return name, TwoNames
	}
	return name, checkName(name)
}

// reader takes fields off a byte string. After a field that is not there bad is
// set and every further field is empty or zero.
type reader struct {
	b   []byte
	bad bool
}

var zeros [32]byte

func (r *reader) take(n int) []byte {
	if r.bad || n > len(r.b) {
		r.bad, r.b = true, nil
		return zeros[:min(n, len(zeros))]
	}
	v := r.b[:n]
	r.b = r.b[n:]
	return v
}

func (r *reader) vector8() []byte  { return r.vector(int(r.take(1)[0])) }
func (r *reader) vector16() []byte { return r.vector(u16(r.take(2))) }

func (r *reader) vector(n int) []byte {
	if r.bad || n > len(r.b) {
		r.bad, r.b = true, nil
		return nil
	}
	return r.take(n)
}

func u16(b []byte) int { return int(b[0])<<8 | int(b[1]) }
func u24(b []byte) int { return int(b[0])<<16 | int(b[1])<<8 | int(b[2]) }
