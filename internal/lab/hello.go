package lab

import (
	"crypto/rand"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"time"
)

// Numbers of RFC 8446 (§4, §5.1), RFC 6066 §3, RFC 7685, RFC 8701 and of IANA's
// list for encrypted_client_hello.
const (
	recordHandshake = 22
	extServerName   = 0
	extPadding      = 21
	extGREASE       = 0x1a1a
	extECH          = 0xfe0d
	maxRecord       = 1 << 14
)

// variant is a way to send a ClientHello: what its extensions become, and the
// pieces in which the message leaves.
type variant struct {
	extensions func(name string, e []extension) []extension
	records    int // payload of each TLS record, 0 for as much as fits
	writes     int // bytes of each write, 0 for all in one
}

type extension struct {
	kind uint16
	data []byte
}

// variants are the ways that Hello knows.
var variants = map[string]variant{
	"plain":          {},
	"byte-by-byte":   {writes: 1},
	"fragmented":     {records: 7},
	"fragments-byte": {records: 3, writes: 1},
	"padded": {extensions: func(_ string, e []extension) []extension {
		return append(e, extension{extPadding, make([]byte, 20<<10)})
	}},
	"grease": {extensions: func(_ string, e []extension) []extension {
		return slices.Concat([]extension{{extGREASE, nil}}, e, []extension{{extGREASE + 0x1010, []byte{0}}})
	}},
	"ech": {extensions: func(_ string, e []extension) []extension {
		// outer, HKDF-SHA256 and AES-128-GCM, config 7, a 32 byte key, a payload
		ech := slices.Concat([]byte{0, 0, 1, 0, 1, 7, 0, 32}, random(32), []byte{0, 200}, random(200))
		return append(e, extension{extECH, ech})
	}},
	"no-name": {extensions: func(_ string, e []extension) []extension { return without(e, extServerName) }},
	"two-names": {extensions: func(name string, e []extension) []extension {
		return append(without(e, extServerName), serverNames(name, "evil.test"))
	}},
	"two-names-evil-first": {extensions: func(name string, e []extension) []extension {
		return append(without(e, extServerName), serverNames("evil.test", name))
	}},
	"two-extensions": {extensions: func(name string, e []extension) []extension { return append(e, serverNames("evil.test")) }},
	"trailing-dot":   {extensions: renamed(func(name string) string { return name + "." })},
	"nul":            {extensions: renamed(func(name string) string { return "evil.test\x00." + name })},
	"address":        {extensions: renamed(func(string) string { return Evil4.String() })},
}

func renamed(f func(name string) string) func(string, []extension) []extension {
	return func(name string, e []extension) []extension {
		return append(without(e, extServerName), serverNames(f(name)))
	}
}

func random(n int) []byte {
	b := make([]byte, n)
	rand.Read(b)
	return b
}

func without(e []extension, kind uint16) []extension {
	return slices.DeleteFunc(e, func(x extension) bool { return x.kind == kind })
}

func serverNames(names ...string) extension {
	var list []byte
	for _, n := range names {
		list = vector16(append(list, 0), []byte(n))
	}
	return extension{extServerName, vector16(nil, list)}
}

// vector16 appends data behind its length.
func vector16(to, data []byte) []byte {
	return append(binary.BigEndian.AppendUint16(to, uint16(len(data))), data...)
}

// helloClient sends the ClientHello and waits for what comes back.
func helloClient(name, host, address string) int {
	v, ok := variants[name]
	if !ok {
		return fail(fmt.Errorf("no variant %q", name))
	}
	message, err := clientHello(host)
	if err == nil && v.extensions != nil {
		message, err = rewrite(message, func(e []extension) []extension { return v.extensions(host, e) })
	}
	if err != nil {
		return fail(err)
	}
	c, err := net.DialTimeout("tcp", address, guard)
	if err != nil {
		return fail(err)
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(guard))
	wire := records(message, v.records)
	step := v.writes
	if step == 0 {
		step = len(wire)
	}
	for piece := range slices.Chunk(wire, step) {
		if _, err := c.Write(piece); err != nil {
			return fail(err)
		}
	}
	first := make([]byte, 1)
	if _, err := io.ReadFull(c, first); err != nil {
		return fail(err)
	}
	if first[0] != recordHandshake {
		return fail(fmt.Errorf("the answer is a record of type %d", first[0]))
	}
	fmt.Println("answered")
	return 0
}

// clientHello is the handshake message that crypto/tls sends.
func clientHello(host string) ([]byte, error) {
	ours, theirs := net.Pipe()
	defer ours.Close()
	go func() {
		tls.Client(theirs, &tls.Config{ServerName: host}).Handshake()
		theirs.Close()
	}()
	head := make([]byte, 5)
	if _, err := io.ReadFull(ours, head); err != nil {
		return nil, err
	}
	message := make([]byte, binary.BigEndian.Uint16(head[3:]))
	_, err := io.ReadFull(ours, message)
	return message, err
}

// rewrite exchanges the extensions of a ClientHello.
func rewrite(message []byte, change func([]extension) []extension) ([]byte, error) {
	at := 4 + 2 + 32
	at += 1 + int(message[at])                           // session
	at += 2 + int(binary.BigEndian.Uint16(message[at:])) // cipher suites
	at += 1 + int(message[at])                           // compression
	var list []extension
	for rest := message[at+2:]; len(rest) > 0; {
		if len(rest) < 4 {
			return nil, errors.New("not the ClientHello that was expected")
		}
		n := int(binary.BigEndian.Uint16(rest[2:]))
		list = append(list, extension{binary.BigEndian.Uint16(rest), rest[4 : 4+n]})
		rest = rest[4+n:]
	}
	var all []byte
	for _, e := range change(list) {
		all = vector16(binary.BigEndian.AppendUint16(all, e.kind), e.data)
	}
	body := vector16(slices.Clone(message[4:at]), all)
	size := len(body)
	return append([]byte{message[0], byte(size >> 16), byte(size >> 8), byte(size)}, body...), nil
}

// records wraps a message into TLS records.
func records(message []byte, size int) []byte {
	if size == 0 {
		size = maxRecord
	}
	var wire []byte
	for piece := range slices.Chunk(message, size) {
		wire = vector16(append(wire, recordHandshake, 3, 1), piece)
	}
	return wire
}
