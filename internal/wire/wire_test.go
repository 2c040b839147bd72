package wire

import (
	"bytes"
	"errors"
	"io"
	"net/netip"
	"os"
	"reflect"
	"testing"
	"time"

	"github.com/sandlock/sandlock/netfilter/endpoint"
	"golang.org/x/sys/unix"
)

func name(t testing.TB, s string) endpoint.Name {
	t.Helper()
	n, err := endpoint.ParseName(s)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func samples(t testing.TB) []Message {
	a := name(t, "a.example")
	return []Message{
		SetupReady{}, Store{ID: 7}, Authority{Cert: []byte("cert"), Key: []byte("key")},
		Flow{ID: 1, Dst: netip.MustParseAddrPort("[2001:db8::1]:443"), Names: []endpoint.Name{a, name(t, "b.example")}, First: []byte{0x16, 3}, Upstream: true},
		Flow{ID: 2, Dst: netip.MustParseAddrPort("192.0.2.1:80")},
		Dialed{ID: 3, Errno: unix.ECONNREFUSED, Reason: "no"}, Dial{ID: 4, Flow: 1, Name: a, Port: 443}, Dial{ID: 5, Flow: 1, Port: 80},
		Ended{Flow: 1, Up: 1 << 40, Down: 2}, Fault{Text: "x\x00y"}, Stored{ID: 7, Size: 9, Error: "e"},
		Request{Flow: 1, Verdict: Allowed, TLS: true, Method: "GET", Host: "a.example", Port: 443, Path: "/p", Status: 200, Up: 1, Down: 2,
			Duration: time.Second, Reason: "r", Rule: "GET a.example", Source: "--http-allow", AllowWith: "--http-allow x"},
	}
}

func TestMessagesArriveAsTheyWere(t *testing.T) {
	a, fd, err := Pair()
	if err != nil {
		t.Fatal(err)
	}
	b, err := Open(fd)
	if err != nil {
		t.Fatal(err)
	}
	defer a.Close()
	for _, m := range samples(t) {
		if err := a.Send(m); err != nil {
			t.Fatal(err)
		}
		got, fds, err := b.Receive()
		if err != nil || len(fds) != 0 || !reflect.DeepEqual(got, m) {
			t.Errorf("%#v became %#v with %v, %v", m, got, fds, err)
		}
	}
	b.Close()
	if _, _, err := a.Receive(); !errors.Is(err, io.EOF) {
		t.Errorf("after the end: %v", err)
	}
}

func TestDescriptorsArrive(t *testing.T) {
	a, fd, err := Pair()
	if err != nil {
		t.Fatal(err)
	}
	b, err := Open(fd)
	if err != nil {
		t.Fatal(err)
	}
	defer a.Close()
	defer b.Close()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if err := a.Send(Fault{Text: "with"}, int(w.Fd())); err != nil {
		t.Fatal(err)
	}
	w.Close()
	_, fds, err := b.Receive()
	if err != nil || len(fds) != 1 {
		t.Fatal(fds, err)
	}
	if flags, err := unix.FcntlInt(uintptr(fds[0]), unix.F_GETFD, 0); err != nil || flags&unix.FD_CLOEXEC == 0 {
		t.Errorf("flags %#x, %v", flags, err)
	}
	if _, err := unix.Write(fds[0], []byte("x")); err != nil {
		t.Fatal(err)
	}
	CloseAll(fds)
	if text, err := io.ReadAll(r); err != nil || string(text) != "x" {
		t.Errorf("%q, %v: a copy of the descriptor is left", text, err)
	}
}

// What a compromised interceptor sends by hand: descriptors that nobody asked for,
// messages that are cut or too long. No descriptor may be left over.
func TestMalformedMessagesLeaveNothing(t *testing.T) {
	before := descriptors(t)
	for _, raw := range [][]byte{{}, {0x7f}, {kindDial, 1, 2}, bytes.Repeat([]byte{kindFault}, MaxMessage+1)} {
		a, fd, err := Pair()
		if err != nil {
			t.Fatal(err)
		}
		if err := unix.Sendmsg(fd, raw, unix.UnixRights(0, 1, 2, 0, 1, 2), nil, 0); err != nil {
			t.Fatal(err)
		}
		if m, fds, err := a.Receive(); err == nil || len(fds) != 0 {
			t.Errorf("%d bytes were taken as %#v with %v", len(raw), m, fds)
		}
		a.Close()
		unix.Close(fd)
	}
	if after := descriptors(t); after != before {
		t.Errorf("%d descriptors before, %d after", before, after)
	}
}

func descriptors(t *testing.T) int {
	t.Helper()
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(entries)
}

func TestSetupArrivesAsItWas(t *testing.T) {
	s := Setup{Rules: []Rule{{Text: "GET a.example", Source: "--http-allow"}, {Deny: true, Text: "* b.example", Source: "p.toml:3"}},
		Auth: []Rule{{Text: "* a.example bearer K", Source: "--http-auth"}}, Credentials: []Credential{{Name: "K", Secret: []byte("s")}},
		Audit: true, Authority: Authority{Cert: []byte("c"), Key: []byte("k")}}
	got, err := DecodeSetup(bytes.NewReader(s.Encode()))
	if err != nil || !reflect.DeepEqual(*got, s) {
		t.Errorf("%+v, %v", got, err)
	}
	if _, err := DecodeSetup(bytes.NewReader(s.Encode()[1:])); err == nil {
		t.Error("a setup without its first byte was taken")
	}
}

// What is read and written again is the same: so there is one form only, and
// nothing of a message is lost or made up.
func FuzzDecode(f *testing.F) {
	for _, m := range samples(f) {
		e := encoder{b: []byte{m.kind()}}
		m.encode(&e)
		f.Add(e.b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := decode(b)
		if err != nil {
			return
		}
		e := encoder{b: []byte{m.kind()}}
		m.encode(&e)
		if !bytes.Equal(e.b, b) {
			t.Errorf("%#v is written as %x, and was %x", m, e.b, b)
		}
	})
}
