package endpoint

import (
	"math/rand/v2"
	"testing"
)

func TestParsePorts(t *testing.T) {
	for in, want := range map[string]string{
		"443": "443", "443,80": "80,443", "80, 81 ,82": "80-82", "8000-8010,8005-8020": "8000-8020", "*": "*", "*,*": "*",
		"1-65535": "*", "1-5,6-65535": "*", "2-65535": "2-65535", "65535": "65535", "7-7": "7", "22,22": "22",
	} {
		s, err := ParsePorts(in)
		if err != nil || s.String() != want {
			t.Errorf("%q: %q, %v; want %q", in, s, err, want)
			continue
		}
		if again, err := ParsePorts(s.String()); err != nil || !again.Covers(s) || !s.Covers(again) {
			t.Errorf("%q: %v, %v", in, again, err)
		}
	}
	for _, in := range []string{"", " ", ",", "80,", ",80", "0", "0-80", "007", "65536", "91337", "-12", "80-", "9-8", "+80", "x", "http", "0x50", "8 0", "80,*", "*-80", "80-*", "1-2-3", "８０"} {
		if s, err := ParsePorts(in); err == nil || !s.IsEmpty() {
			t.Errorf("%q became %q", in, s)
		}
	}
}

// The set operations are held against sets of single ports.
func TestPortSetsAgreeWithSinglePorts(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	draw := func() (PortSet, map[uint16]bool) {
		var ranges []portRange
		in := map[uint16]bool{}
		for range r.IntN(4) {
			lo := uint16(1 + r.IntN(20))
			hi := lo + uint16(r.IntN(6))
			ranges = append(ranges, portRange{lo, hi})
			for p := lo; p <= hi; p++ {
				in[p] = true
			}
		}
		return newPorts(ranges), in
	}
	for range 5000 {
		a, inA := draw()
		b, inB := draw()
		covers := true
		for p := range uint16(30) {
			covers = covers && (!inB[p] || inA[p])
			if a.Has(p) != inA[p] || a.union(b).Has(p) != (inA[p] || inB[p]) {
				t.Fatalf("%v, %v: port %d", a, b, p)
			}
		}
		if a.Covers(b) != covers {
			t.Fatalf("%v covers %v: %v", a, b, a.Covers(b))
		}
	}
}

func TestBindPolicy(t *testing.T) {
	allow, err := ParsePorts("8000-8010")
	if err != nil {
		t.Fatal(err)
	}
	b := BindPolicy{Allow: allow, Deny: Ports(8005)}
	for port, want := range map[uint16]BindVerdict{8000: {Allowed: true}, 8005: {Denied: true}, 9000: {}, 0: {}} {
		if got := b.Listen(port); got != want {
			t.Errorf("%d: %+v", port, got)
		}
	}
	if got := (BindPolicy{Allow: AllPorts()}).Listen(0); !got.Allowed {
		t.Errorf("any port: %+v", got)
	}
	if got := (BindPolicy{}).Listen(80); got != (BindVerdict{}) {
		t.Errorf("no rule: %+v", got)
	}
}
