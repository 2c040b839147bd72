package endpoint

import (
	"bytes"
	"net/netip"
)

// maxEmbedded is the most addresses that views finds behind one: the four layouts
// of the local NAT64 range.
const maxEmbedded = 4

// forms are the IPv6 ranges whose addresses carry an IPv4 address, with the
// places of its four bytes.
var forms = [...]struct {
	prefix string // bytes
	at     [][4]uint8
	invert bool
}{
	{"\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00", [][4]uint8{{12, 13, 14, 15}}, false},                         // compatible, RFC 4291
	{"\x00\x00\x00\x00\x00\x00\x00\x00\xff\xff\x00\x00", [][4]uint8{{12, 13, 14, 15}}, false},                         // translated, RFC 2765
	{"\x00\x64\xff\x9b\x00\x00\x00\x00\x00\x00\x00\x00", [][4]uint8{{12, 13, 14, 15}}, false},                         // NAT64, RFC 6052
	{"\x00\x64\xff\x9b\x00\x01", [][4]uint8{{6, 7, 9, 10}, {7, 9, 10, 11}, {9, 10, 11, 12}, {12, 13, 14, 15}}, false}, // local NAT64, RFC 8215
	{"\x20\x02", [][4]uint8{{2, 3, 4, 5}}, false},                                                                     // 6to4, RFC 3056
	{"\x20\x01\x00\x00", [][4]uint8{{12, 13, 14, 15}}, true},                                                          // Teredo, RFC 4380
}

// embedded adds the IPv4 addresses that b may lead to.
func (v *views) embedded(b [16]byte) {
	for i := range forms {
		f := &forms[i]
		if !bytes.HasPrefix(b[:], []byte(f.prefix)) {
			continue
		}
		for _, at := range f.at {
			var v4 [4]byte
			for i, p := range at {
				v4[i] = b[p]
				if f.invert {
					v4[i] ^= 0xff
				}
			}
			// Which of several layouts a network uses cannot be seen. Those that
			// it does not use read zeros, mostly; the last is always looked at.
			if v4[0] == 0 && at != f.at[len(f.at)-1] {
				continue
			}
			v.add(netip.AddrFrom4(v4))
		}
		return
	}
}
