package endpoint

import (
	"encoding/binary"
	"net/netip"
)

// Class is the special use of an address.
type Class uint8

// The classes. Public is every address that is none of the others.
const (
	Public Class = iota
	Unspecified
	Loopback
	LinkLocal
	Private
	CarrierNAT
	Multicast
	Reserved
	Platform
)

// String returns the class for people.
func (c Class) String() string {
	switch c {
	case Unspecified:
		return "unspecified"
	case Loopback:
		return "loopback"
	case LinkLocal:
		return "link-local"
	case Private:
		return "private"
	case CarrierNAT:
		return "carrier-grade NAT"
	case Multicast:
		return "multicast"
	case Reserved:
		return "reserved"
	case Platform:
		return "cloud platform"
	}
	return "public"
}

const (
	mappedBits   = 96 // ::ffff:0:0/96, RFC 4291 section 2.5.5.2
	loopbackBits = 8  // 127.0.0.0/8, RFC 1122 section 3.2.1.3
)

// ranges4 and ranges6 are the ranges to which no public name leads, from IANA's
// registries of special-purpose addresses (RFC 6890). The documentation ranges
// are left out: they lead nowhere. The first match counts.
var ranges4 = [...]struct {
	base  uint32 // host order
	bits  int
	class Class
}{
	{0x00000000, 8, Unspecified},
	{0x0a000000, 8, Private},
	{0x64400000, 10, CarrierNAT}, // RFC 6598
	{0x7f000000, loopbackBits, Loopback},
	{0xa83f8110, 32, Platform},  // 168.63.129.16, the host of every Azure machine
	{0xa9fe0000, 16, LinkLocal}, // RFC 3927; the metadata services
	{0xac100000, 12, Private},
	{0xc0000000, 24, Reserved}, // protocol assignments, RFC 6890
	{0xc0a80000, 16, Private},
	{0xc6120000, 15, Reserved}, // benchmarks, RFC 2544
	{0xe0000000, 4, Multicast},
	{0xf0000000, 4, Reserved}, // RFC 1112, with the broadcast address
}

var ranges6 = [...]struct {
	high  uint64 // the first eight bytes, host order
	bits  int    // at most 64
	class Class
}{
	{0xfc00000000000000, 7, Private}, // RFC 4193
	{0xfe80000000000000, 10, LinkLocal},
	{0xfec0000000000000, 10, Private}, // site-local, RFC 3879
	{0xff00000000000000, 8, Multicast},
	{0x0100000000000000, 64, Reserved}, // discard, RFC 6666
}

// Special returns the special use of an address, and whether it has one. IPv4
// addresses inside IPv6 ones are looked at: mapped, compatible and translated
// (RFC 4291, RFC 2765), NAT64 (RFC 6052, RFC 8215), 6to4 (RFC 3056) and Teredo
// (RFC 4380). A zone is ignored. The invalid address is Reserved.
func Special(a netip.Addr) (Class, bool) {
	if !a.IsValid() {
		return Reserved, true
	}
	v := viewsOf(a)
	for _, a := range v.list[:v.n] {
		if c, _ := classOf(a); c != Public {
			return c, true
		}
	}
	return Public, false
}

// classOf returns the class of an address as it is, and how many leading bits the
// range that gives it has.
func classOf(a netip.Addr) (Class, int) {
	if a.Is4() {
		b := a.As4()
		n := binary.BigEndian.Uint32(b[:])
		for _, r := range ranges4 {
			if (n^r.base)>>(32-r.bits) == 0 {
				return r.class, r.bits
			}
		}
		return Public, 0
	}
	switch {
	case a.IsUnspecified():
		return Unspecified, 128
	case a.IsLoopback():
		return Loopback, 128
	}
	b := a.As16()
	n := binary.BigEndian.Uint64(b[:8])
	for _, r := range ranges6 {
		if (n^r.high)>>(64-r.bits) == 0 {
			return r.class, r.bits
		}
	}
	return Public, 0
}

// views is an address and every other one that traffic to it may end up at.
type views struct {
	list [1 + maxEmbedded]netip.Addr
	n    int
}

func (v *views) add(a netip.Addr) {
	v.list[v.n] = a
	v.n++
}

// any tells whether the rule covers one of the addresses.
func (v views) any(r *Rule) bool {
	for _, a := range v.list[:v.n] {
		if r.coversAddr(a) {
			return true
		}
	}
	return false
}

// viewsOf returns the address, unmapped and without a zone, first. Linux connects
// the unspecified address to the loopback, and :: to that of IPv4 when the socket
// is bound to a mapped address.
func viewsOf(a netip.Addr) views {
	a = a.Unmap().WithZone("")
	var v views
	v.add(a)
	switch {
	case a.IsUnspecified():
		v.add(netip.AddrFrom4([4]byte{127, 0, 0, 1}))
		if a.Is6() {
			v.add(netip.IPv6Loopback())
		}
	case a.Is6() && !a.IsLoopback():
		v.embedded(a.As16())
	}
	return v
}
