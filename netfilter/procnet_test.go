package netfilter

import (
	"net/netip"
	"testing"
)

func TestProcNetLine(t *testing.T) {
	f := &Filter{}
	f.served.add(0x1F90)
	f.served.add(0xA001)
	f.remap.put(netip.MustParseAddr("127.0.0.1"), 0x18EB, 0xA001)
	for _, c := range []struct{ line, want string }{
		{"   0: 0100007F:1F90 00000000:0000 0A 00000000", "   0: 0100007F:1F90 00000000:0000 0A 00000000"},
		{"  10: 0100007F:A001 0100007F:C350 01", "  10: 0100007F:18EB 0100007F:C350 01"},
		{"   1: 00000000000000000000000001000000:A001 00000000000000000000000001000000:A001 01", "   1: 00000000000000000000000001000000:18EB 00000000000000000000000001000000:18EB 01"},
		{"   2: 0100007F:0050 00000000:0000 0A", ""},
		{"", ""}, {"   3:", ""}, {"   4: 0100007F", ""}, {"   5: 0100007F:xyz 0:0", ""},
	} {
		got, ok := f.procNetLine([]byte(c.line))
		if ok != (c.want != "") || ok && string(got) != c.want {
			t.Errorf("%q: %q %v, want %q", c.line, got, ok, c.want)
		}
	}
}
