package message

import (
	"bytes"
	"encoding/binary"
	"slices"
	"testing"

	"github.com/sandlock/sandlock/internal/sys"
	"golang.org/x/sys/unix"
)

// What leaves InetControl is on the list, whatever goes in, and reads back as it
// is.
func FuzzInetControl(f *testing.F) {
	f.Add(AppendControl(AppendControl(nil, Control{unix.SOL_IP, unix.IP_TOS, []byte{4}}), Control{unix.SOL_IPV6, unix.IPV6_PKTINFO, make([]byte, 20)}))
	f.Add(AppendControl(nil, Control{unix.SOL_IPV6, unix.IPV6_RTHDR, make([]byte, 24)}))
	f.Add(make([]byte, 40))
	f.Fuzz(func(t *testing.T, b []byte) {
		before := bytes.Clone(b)
		out, _, err := InetControl(b)
		if !bytes.Equal(b, before) {
			t.Fatal("the input was changed")
		}
		if err != nil {
			return
		}
		in, err1 := ParseControl(b)
		got, err2 := ParseControl(out)
		if err1 != nil || err2 != nil || len(in) != len(got) {
			t.Fatalf("%d in, %d out, %v, %v", len(in), len(got), err1, err2)
		}
		for i, m := range got {
			known := false
			for _, h := range harmless {
				known = known || h.level == m.Level && h.kind == m.Type
			}
			if !known || m.Level != in[i].Level || m.Type != in[i].Type || len(m.Data) != len(in[i].Data) {
				t.Fatalf("%+v became %+v", in[i], m)
			}
			if m.Level == unix.SOL_IP && m.Type == unix.IP_PKTINFO && binary.NativeEndian.Uint32(m.Data) != 0 {
				t.Fatal("an interface was left")
			}
		}
		if again, _, err := InetControl(out); err != nil || !bytes.Equal(again, out) {
			t.Fatalf("not the same again: %v", err)
		}
	})
}

// Each number of a descriptor that reaches the kernel came from fetch.
func FuzzUnixControl(f *testing.F) {
	f.Add(AppendControl(nil, Control{unix.SOL_SOCKET, unix.SCM_RIGHTS, []byte{5, 0, 0, 0, 7, 0, 0, 0}}))
	f.Add(AppendControl(nil, Control{unix.SOL_SOCKET, unix.SCM_CREDENTIALS, make([]byte, 12)}))
	f.Fuzz(func(t *testing.T, b []byte) {
		given := map[uint32]bool{}
		out, err := UnixControl(b, func(int) (int, error) {
			n := 1000 + len(given)
			given[uint32(n)] = true
			return n, nil
		})
		if err != nil {
			return
		}
		all, err := ParseControl(out)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range all {
			if m.Level != unix.SOL_SOCKET || m.Type != unix.SCM_RIGHTS || len(m.Data)%4 != 0 {
				t.Fatalf("%+v", m)
			}
			for d := m.Data; len(d) > 0; d = d[4:] {
				if !given[binary.NativeEndian.Uint32(d)] {
					t.Fatalf("descriptor %d was not fetched", binary.NativeEndian.Uint32(d))
				}
			}
		}
	})
}

// Headers and vectors never lead beyond the limits.
func FuzzHeader(f *testing.F) {
	f.Add(header(8, 16, 24, 2, 32, 48), slices.Concat(vector(1, 10), vector(2, 1<<63)), uint16(7))
	f.Fuzz(func(t *testing.T, h, v []byte, n uint16) {
		if p, err := ParseHeader(h); err == nil {
			if p.NameLen < 0 || p.NameLen > sys.SockaddrMax || p.VectorsLen > MaxVectors || p.ControlLen < 0 || p.ControlLen > MaxControl+1 || (p.Name == 0) != (p.NameLen == 0) {
				t.Fatalf("%+v", p)
			}
		}
		pieces, total, err := ParseVectors(v)
		if err != nil {
			return
		}
		if total < 0 || total >= maxInOne {
			t.Fatalf("%d bytes", total)
		}
		head, rest := Cut(pieces, int(n))
		if sum(head)+sum(rest) != uint64(total) || sum(head) > uint64(n) {
			t.Fatalf("%d and %d of %d bytes", sum(head), sum(rest), total)
		}
	})
}
