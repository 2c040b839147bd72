package resolver

import (
	"fmt"
	"net/netip"
	"testing"

	"github.com/miekg/dns"
	"github.com/sandlock/sandlock/netfilter/endpoint"
)

func addr(i int) netip.Addr {
	return netip.AddrFrom4([4]byte{203, byte(i >> 16), byte(i >> 8), byte(i)})
}

func TestBindingsAreBounded(t *testing.T) {
	var b bindings
	name := func(i int) endpoint.Name { n, _ := endpoint.ParseName(fmt.Sprintf("n%d.test", i)); return n }
	for i := range maxPerName {
		for range 2 { // the second time it is bound already and takes no room
			if !b.add(name(0), addr(i)) {
				t.Fatalf("address %d is refused", i)
			}
		}
	}
	if b.add(name(0), addr(maxPerName)) || len(b.names(addr(maxPerName))) > 0 {
		t.Error("a name has too many addresses")
	}
	for i := maxPerName; i < maxBindings; i++ {
		if !b.add(name(i), addr(7)) {
			t.Fatalf("binding %d is refused", i)
		}
	}
	if b.add(name(maxBindings), addr(7)) || b.size() != maxBindings {
		t.Error("a run has too many bindings")
	}
	if !b.add(name(0), addr(3)) {
		t.Error("what is bound is not bound any more")
	}
}

func TestHandedOutNamesNeverChange(t *testing.T) {
	var b bindings
	one, _ := endpoint.ParseName("one.test")
	two, _ := endpoint.ParseName("two.test")
	b.add(one, addr(1))
	first := b.names(addr(1))
	_ = append(first, two)
	b.add(two, addr(1))
	if second := b.names(addr(1)); len(first) != 1 || first[0] != one || len(second) != 2 || second[1] != two {
		t.Errorf("%v %v", first, second)
	}
}

func TestNamesDoesNotAllocate(t *testing.T) {
	var b bindings
	n, _ := endpoint.ParseName("a.test")
	b.add(n, addr(1))
	mapped := netip.AddrFrom16(addr(1).As16())
	if got := testing.AllocsPerRun(100, func() { b.names(addr(1)); b.names(mapped); b.names(addr(2)) }); got != 0 {
		t.Errorf("%v allocations", got)
	}
	if len(b.names(mapped)) != 1 || len(b.names(addr(2))) != 0 {
		t.Error("wrong names")
	}
}

// A name that rotates through more addresses than it may have keeps working
// with those that it has.
func TestRotatingNameKeepsItsAddresses(t *testing.T) {
	up := newAuthority(t)
	l := newLab(t, up, nil, "a.test:443")
	for i := range maxPerName + 1 {
		up.set(t, fmt.Sprintf("a.test. 0 IN A %v", addr(i)))
		m := l.ask(t, "a.test", dns.TypeA)
		if i < maxPerName && (len(m.Answer) != 1 || m.Answer[0].(*dns.A).A.String() != addr(i).String()) {
			t.Fatalf("%d: %v", i, m)
		}
		if i == maxPerName && (len(m.Answer) != 0 && !m.Truncated && len(m.Answer) != maxPerName || len(m.Answer) == 0) {
			t.Errorf("after the last: %v", m)
		}
	}
	l.wantNames(t, addr(maxPerName).String())
}

func TestFullRunFailsVisibly(t *testing.T) {
	up := newAuthority(t, "a.test. 60 IN A 203.0.113.5")
	l := newLab(t, up, nil, "*.test:443")
	for i := range maxBindings {
		n, _ := endpoint.ParseName(fmt.Sprintf("n%d.test", i))
		l.bound.add(n, addr(i))
	}
	wantText(t, l.ask(t, "a.test", dns.TypeA), "SERVFAIL")
	l.wantNames(t, "203.0.113.5")
}

func BenchmarkNames(b *testing.B) {
	var t bindings
	for i := range maxBindings {
		n, _ := endpoint.ParseName(fmt.Sprintf("n%d.test", i))
		t.add(n, addr(i))
	}
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		for a := addr(5); pb.Next(); {
			t.names(a)
		}
	})
}
