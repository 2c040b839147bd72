package hello

import (
	"bytes"
	"crypto/tls"
	"encoding/binary"
	"fmt"
	"net"
	"strings"
	"testing"
)

// realHello is the first flight of crypto/tls as a client.
func realHello(t testing.TB, cfg *tls.Config) []byte {
	t.Helper()
	c, s := net.Pipe()
	defer s.Close()
	go func() {
		_ = tls.Client(c, cfg).Handshake()
		c.Close()
	}()
	buf := make([]byte, Max)
	n := 0
	for {
		m, err := s.Read(buf[n:])
		n += m
		if err != nil {
			t.Fatal(err)
		}
		if n >= 5 && n >= 5+int(binary.BigEndian.Uint16(buf[3:])) {
			return buf[:n]
		}
	}
}

// bytewise gives a parser one byte more each time and checks that nothing is
// decided before the last one.
func bytewise(t *testing.T, msg []byte) (Hello, error) {
	t.Helper()
	var p Parser
	for i := range msg {
		if h, err := p.Parse(msg[:i]); err != ErrIncomplete {
			t.Fatalf("after %d of %d bytes: %+v, %v", i, len(msg), h, err)
		}
	}
	return p.Parse(msg)
}

func TestRealClientHellos(t *testing.T) {
	for _, cfg := range []*tls.Config{
		{ServerName: "Api.Example.com"},
		{ServerName: "Api.Example.com", MaxVersion: tls.VersionTLS12},
		{ServerName: "Api.Example.com", NextProtos: []string{"h2", "http/1.1"}, CurvePreferences: []tls.CurveID{tls.X25519}},
	} {
		msg := realHello(t, cfg)
		h, err := bytewise(t, msg)
		if err != nil || h != (Hello{Kind: TLS, Name: "Api.Example.com"}) {
			t.Errorf("%+v, %v", h, err)
		}
		for i := range msg { // two segments, and Parse alone at each length
			if _, err := Parse(msg[:i]); err != ErrIncomplete {
				t.Fatalf("%d bytes: %v", i, err)
			}
		}
		if h2, err := Parse(append(msg, 20, 3, 3, 0, 1, 1)); err != nil || h2 != h {
			t.Errorf("with a second record: %+v, %v", h2, err)
		}
		for _, size := range []int{1, 2, 3, 7, 100} {
			if h2, err := bytewise(t, records(msg[5:], size)); err != nil || h2 != h {
				t.Errorf("records of %d: %+v, %v", size, h2, err)
			}
		}
	}
	if h, err := Parse(realHello(t, &tls.Config{InsecureSkipVerify: true})); err != NoName || h.Kind != TLS {
		t.Errorf("without SNI: %+v, %v", h, err)
	}
}

func records(message []byte, size int) []byte {
	var out []byte
	for len(message) > 0 {
		n := min(size, len(message))
		out = append(out, 22, 3, 1, byte(n>>8), byte(n))
		out = append(out, message[:n]...)
		message = message[n:]
	}
	return out
}

func vec16(parts ...[]byte) []byte {
	b := bytes.Join(parts, nil)
	return append([]byte{byte(len(b) >> 8), byte(len(b))}, b...)
}

func ext(kind uint16, data []byte) []byte {
	return append([]byte{byte(kind >> 8), byte(kind)}, vec16(data)...)
}

func entry(kind byte, name string) []byte { return append([]byte{kind}, vec16([]byte(name))...) }
func sni(entries ...[]byte) []byte        { return ext(0, vec16(entries...)) }

func message(body []byte) []byte {
	return append([]byte{1, byte(len(body) >> 16), byte(len(body) >> 8), byte(len(body))}, body...)
}

func clientHelloBody(exts ...[]byte) []byte {
	b := append([]byte{3, 3}, make([]byte, 32)...)
	b = append(b, 0)
	b = append(b, vec16([]byte{0x0a, 0x0a, 0x13, 0x01})...)
	b = append(b, 1, 0)
	return append(b, vec16(exts...)...)
}

func made(exts ...[]byte) []byte { return records(message(clientHelloBody(exts...)), recordMax) }

func TestMadeClientHellos(t *testing.T) {
	good := sni(entry(0, "a.test"))
	body := clientHelloBody(good)
	grease := ext(0x0a0a, nil)
	for _, c := range []struct {
		what string
		msg  []byte
		err  error
		name string
	}{
		{"plain", made(good), nil, "a.test"},
		{"GREASE around", made(grease, good, ext(0xfafa, []byte{0})), nil, "a.test"},
		{"20 KiB before", made(ext(21, make([]byte, 20<<10)), good), nil, "a.test"},
		{"nearly all", made(ext(21, make([]byte, 65000)), good), nil, "a.test"},
		{"over the limit", made(ext(21, make([]byte, 65510)), good), TooLarge, ""},
		{"in records of one byte over the limit", records(message(clientHelloBody(ext(21, make([]byte, 20<<10)), good)), 1), TooLarge, ""},
		{"no extensions", records(message(body[:2+32+1+6+2]), 100), NoName, ""},
		{"no SNI", made(grease), NoName, ""},
		{"empty list", made(sni()), NoName, ""},
		{"empty name", made(sni(entry(0, ""))), NoName, ""},
		{"two names", made(sni(entry(0, "a.test"), entry(0, "b.test"))), TwoNames, "a.test"},
		{"same name twice", made(sni(entry(0, "a.test"), entry(0, "a.test"))), TwoNames, "a.test"},
		{"two extensions", made(good, grease, good), DuplicateExtension, "a.test"},
		{"GREASE twice", made(grease, grease, good), DuplicateExtension, ""},
		{"other name type", made(sni(entry(1, "a.test"))), NameType, ""},
		{"IPv4", made(sni(entry(0, "192.0.2.1"))), NameIsAddress, "192.0.2.1"},
		{"IPv4 with dot", made(sni(entry(0, "192.0.2.1."))), NameIsAddress, "192.0.2.1."},
		{"IPv6", made(sni(entry(0, "2001:db8::1"))), NameIsAddress, "2001:db8::1"},
		{"IPv6 in brackets", made(sni(entry(0, "[::1]"))), NameIsAddress, "[::1]"},
		{"short IPv4", made(sni(entry(0, "127.1"))), NameIsAddress, "127.1"},
		{"number", made(sni(entry(0, "2130706433"))), NameIsAddress, "2130706433"},
		{"hex", made(sni(entry(0, "0x7f.0x1"))), NameIsAddress, "0x7f.0x1"},
		{"trailing dot", made(sni(entry(0, "a.test."))), NameTrailingDot, "a.test."},
		{"NUL", made(sni(entry(0, "a.test\x00.evil.test"))), NameBytes, "a.test\x00.evil.test"},
		{"space", made(sni(entry(0, " a.test"))), NameBytes, " a.test"},
		{"not ASCII", made(sni(entry(0, "ä.test"))), NameBytes, "ä.test"},
		{"empty label", made(sni(entry(0, "a..test"))), NameBytes, "a..test"},
		{"dot", made(sni(entry(0, "."))), NameBytes, "."},
		{"port", made(sni(entry(0, "a.test:443"))), NameBytes, "a.test:443"},
		{"long", made(sni(entry(0, strings.Repeat("a.", 126)+"ab"))), NameTooLong, strings.Repeat("a.", 126) + "ab"},
		{"bytes after the list", made(ext(0, append(vec16(entry(0, "a.test")), 0))), Malformed, ""},
		{"bytes after the extensions", records(message(append(clientHelloBody(good), 0)), recordMax), Malformed, ""},
		{"short body", records(message(body[:len(body)-1]), recordMax), Malformed, ""},
		{"second message in the record", records(append(message(body), 1, 0, 0, 0), recordMax), TrailingData, ""},
		{"server hello", []byte{22, 3, 3, 0, 4, 2}, NotClientHello, ""},
		{"empty record", []byte{22, 3, 1, 0, 0}, BadRecord, ""},
		{"long record", []byte{22, 3, 1, 0x40, 1}, BadRecord, ""},
		{"wrong version", []byte{22, 2}, BadRecord, ""},
		{"alert between", append(records(message(body)[:9], 9), 21), BadRecord, ""},
		{"SSLv2", []byte{0x80, 0x2e, 1, 0, 2}, SSLv2, ""},
		{"garbage", []byte{0, 1, 2}, NotRecognised, ""},
		{"high garbage", []byte{0xff, 1, 2}, NotRecognised, ""},
	} {
		h, err := Parse(c.msg)
		if err != c.err || h.Name != c.name {
			t.Errorf("%s: %q, %v; want %q, %v", c.what, h.Name, err, c.name, c.err)
		}
		var p Parser
		for i := range c.msg {
			if _, err = p.Parse(c.msg[:i+1]); err != ErrIncomplete {
				break
			}
		}
		if err != c.err {
			t.Errorf("%s, byte by byte: %v; want %v", c.what, err, c.err)
		}
	}
	for _, kind := range []uint16{0xfe0d, 0xffce} {
		if h, err := Parse(made(good, ext(kind, []byte{0}))); err != nil || !h.ECH || h.Name != "a.test" {
			t.Errorf("ECH %x: %+v, %v", kind, h, err)
		}
	}
}

func TestRequestHeads(t *testing.T) {
	for _, c := range []struct {
		msg  string
		err  error
		name string
		port uint16
	}{
		{"GET / HTTP/1.1\r\nHost: A.test\r\n\r\nrest\n", nil, "A.test", 0},
		{"GET / HTTP/1.0\r\nX: y\r\nhOST:a.test:8080 \r\n\r\n", nil, "a.test", 8080},
		{"OPTIONS * HTTP/1.1\r\nHost: a.test\r\n\r\n", nil, "a.test", 0},
		{"GET http://a.test/x HTTP/1.1\r\nHost: A.test\r\n\r\n", nil, "A.test", 0},
		{"GET HTTP://a.test:80?q HTTP/1.1\r\nHost: a.test:80\r\n\r\n", nil, "a.test", 80},
		{"GET //evil.test/ HTTP/1.1\r\nHost: a.test\r\n\r\n", nil, "a.test", 0},
		{"GET http://evil.test/ HTTP/1.1\r\nHost: a.test\r\n\r\n", TargetNotHost, "a.test", 0},
		{"GET http://a.test:81/ HTTP/1.1\r\nHost: a.test\r\n\r\n", TargetNotHost, "a.test", 0},
		{"GET http://a.test@evil.test/ HTTP/1.1\r\n", BadTarget, "a.test@evil.test", 0},
		{"GET http://evil.test\\@a.test/ HTTP/1.1\r\n", BadTarget, "evil.test\\@a.test", 0},
		{"GET http:/// HTTP/1.1\r\n", BadTarget, "", 0},
		{"GET https://a.test/ HTTP/1.1\r\n", BadTarget, "", 0},
		{"GET * HTTP/1.1\r\n", BadTarget, "", 0},
		{"GET a.test HTTP/1.1\r\n", BadTarget, "", 0},
		{"GET / HTTP/1.1\r\n\r\n", NoName, "", 0},
		{"GET / HTTP/1.1\r\nHost:\r\n\r\n", NoName, "", 0},
		{"GET http://a.test/ HTTP/1.1\r\n\r\n", NoName, "a.test", 0},
		{"GET / HTTP/1.1\r\nHost: a.test\r\nhost: a.test\r\n", TwoNames, "a.test", 0},
		{"GET / HTTP/1.1\r\nHost: a.test, b.test\r\n\r\n", NameBytes, "a.test, b.test", 0},
		{"GET / HTTP/1.1\r\nHost: a.test.\r\n\r\n", NameTrailingDot, "a.test.", 0},
		{"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n", NameIsAddress, "127.0.0.1", 0},
		{"GET / HTTP/1.1\r\nHost: [::1]:80\r\n\r\n", NameBytes, "[::1]:80", 0},
		{"GET / HTTP/1.1\r\nHost: [::1]\r\n\r\n", NameIsAddress, "[::1]", 0},
		{"GET / HTTP/1.1\r\nHost: a.test:\r\n\r\n", BadPort, "a.test", 0},
		{"GET / HTTP/1.1\r\nHost: a.test:0\r\n\r\n", BadPort, "a.test", 0},
		{"GET / HTTP/1.1\r\nHost: a.test:65536\r\n\r\n", BadPort, "a.test", 0},
		{"GET / HTTP/1.1\r\nHost: a.test:+80\r\n\r\n", BadPort, "a.test", 0},
		{"GET / HTTP/1.1\r\nHost: a.test:80:80\r\n\r\n", BadPort, "a.test", 0},
		{"GET / HTTP/1.1\nHost: a.test\n\n", BareLF, "", 0},
		{"GET / HTTP/1.1\r\nHost: a.test\r\n\n", BareLF, "a.test", 0},
		{"GET / HTTP/1.1\r\nHost: a.test\rX: y\r\n", BareCR, "", 0},
		{"GET / HTTP/1.1\r\r\n", BareCR, "", 0},
		{"GET / HTTP/1.1\r\nHost: a.test\x00\r\n", ControlByte, "", 0},
		{"GET / HTTP/1.1\r\n Host: a.test\r\n", ObsFold, "", 0},
		{"GET / HTTP/1.1\r\nHost: a.test\r\n\tx\r\n", ObsFold, "a.test", 0},
		{"GET / HTTP/1.1\r\nHost : a.test\r\n", SpaceBeforeColon, "", 0},
		{"GET / HTTP/1.1\r\nHost\t: a.test\r\n", SpaceBeforeColon, "", 0},
		{"GET / HTTP/1.1\r\nHost\r\n", BadHeader, "", 0},
		{"GET / HTTP/1.1\r\n: a.test\r\n", BadHeader, "", 0},
		{"GET / HTTP/1.1\r\nHo(st: a.test\r\n", BadHeader, "", 0},
		{"CONNECT a.test:443 HTTP/1.1\r\n", Connect, "a.test", 443},
		{"PRI * HTTP/2.0\r\n", HTTP2Preface, "", 0},
		{"GET / HTTP/2.0\r\n", BadVersion, "", 0},
		{"GET / HTTP/1.10\r\n", BadVersion, "", 0},
		{"GET /\r\n", BadRequestLine, "", 0},
		{"GET  / HTTP/1.1\r\n", BadRequestLine, "", 0},
		{"GET / x HTTP/1.1\r\n", BadRequestLine, "", 0},
		{"GET\t/ HTTP/1.1\r\n", BadRequestLine, "", 0},
		{"GE(T / HTTP/1.1\r\n", BadRequestLine, "", 0},
		{"\r\nGET / HTTP/1.1\r\n", NotRecognised, "", 0},
		{"GET /" + strings.Repeat("a", Max) + " HTTP/1.1\r\nHost: a.test\r\n\r\n", TooLarge, "", 0},
	} {
		label := fmt.Sprintf("%.60q", c.msg)
		h, err := Parse([]byte(c.msg))
		if err != c.err || h.Name != c.name || err == nil && h.Port != c.port {
			t.Errorf("%s: %+v, %v; want %q:%d, %v", label, h, err, c.name, c.port, c.err)
		}
		var p Parser
		for i := range len(c.msg) {
			if _, err = p.Parse([]byte(c.msg)[:i+1]); err != ErrIncomplete {
				break
			}
		}
		if err != c.err {
			t.Errorf("%s, byte by byte: %v; want %v", label, err, c.err)
		}
	}
}

// A verdict is final, whatever comes later.
func TestVerdictIsFinal(t *testing.T) {
	var p Parser
	_, _ = p.Parse([]byte{22, 2})
	if _, err := p.Parse(made(sni(entry(0, "a.test")))); err != BadRecord {
		t.Errorf("%v", err)
	}
}

func TestEveryReasonHasWords(t *testing.T) {
	for r := NotRecognised; r <= BadHeader; r++ {
		if r.Error() == Reason(0).Error() {
			t.Errorf("reason %d has none", r)
		}
	}
}

// One byte at a time must not cost more scans than bytes: the parser reports how
// far it came.
func TestScansOnce(t *testing.T) {
	head := []byte("GET /" + strings.Repeat("a", 60000) + " HTTP/1.1\r\n")
	var p Parser
	for i := range head[:len(head)-2] {
		if _, err := p.Parse(head[:i+1]); err != ErrIncomplete {
			t.Fatal(err)
		}
		if p.http.scanned != i+1 {
			t.Fatalf("scanned %d of %d", p.http.scanned, i+1)
		}
	}
}

func fuzzParse(f *testing.F) {
	f.Fuzz(func(t *testing.T, b []byte, cut uint16) {
		whole, err := Parse(b)
		var p Parser
		part, perr := p.Parse(b[:int(cut)%(len(b)+1)])
		if perr == ErrIncomplete {
			part, perr = p.Parse(b)
		}
		if perr != err || err == nil && part != whole {
			t.Fatalf("whole %+v %v, in two %+v %v", whole, err, part, perr)
		}
		if err == nil && (whole.Name == "" || len(whole.Name) > MaxName || checkName(whole.Name) != nil || whole.Kind == Unknown) {
			t.Fatalf("accepted %+v", whole)
		}
		if err != nil && err != ErrIncomplete {
			if _, ok := err.(Reason); !ok {
				t.Fatalf("error %T", err)
			}
		}
	})
}

func FuzzClientHello(f *testing.F) {
	f.Add(realHello(f, &tls.Config{ServerName: "a.test"}), uint16(100))
	f.Add(records(message(clientHelloBody(ext(0x0a0a, nil), sni(entry(0, "a.test")))), 7), uint16(9))
	f.Add([]byte{0x80, 0x2e, 1}, uint16(1))
	fuzzParse(f)
}

func FuzzRequestHead(f *testing.F) {
	f.Add([]byte("GET / HTTP/1.1\r\nHost: a.test:80\r\n\r\n"), uint16(5))
	f.Add([]byte("GET http://a.test/ HTTP/1.1\r\nHost: a.test\r\n\r\n"), uint16(20))
	fuzzParse(f)
}

func BenchmarkClientHello(b *testing.B) {
	msg := realHello(b, &tls.Config{ServerName: "a.test"})
	b.ReportAllocs()
	for b.Loop() {
		if _, err := Parse(msg); err != nil {
			b.Fatal(err)
		}
	}
}
