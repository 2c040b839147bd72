package resolver

import (
	"fmt"
	"testing"
)

func TestReadHost(t *testing.T) {
	const none = "[127.0.0.1:53]"
	for _, c := range []struct{ conf, want string }{
		{"", none},
		{"# nameserver 192.0.2.1\n; nameserver 192.0.2.2\n#nameserver 192.0.2.3\nsearch x\n", none},
		{"nameserver\nnameserver x\n", none},
		{"nameserver 192.0.2.1\nnameserver\t2001:db8::1 # comment\r\n", "[192.0.2.1:53 [2001:db8::1]:53]"},
		{"nameserver fe80::1%eth0", "[[fe80::1%eth0]:53]"},
		{"nameserver 192.0.2.1\nnameserver 192.0.2.2\nnameserver 192.0.2.3\nnameserver 192.0.2.4\n", "[192.0.2.1:53 192.0.2.2:53 192.0.2.3:53]"},
	} {
		if got, _, _, _ := ReadHost([]byte(c.conf), nil); fmt.Sprint(got) != c.want {
			t.Errorf("%q: %v, want %s", c.conf, got, c.want)
		}
	}
	_, _, _, names := ReadHost(nil, []byte("127.0.0.1 localhost\n# 192.0.2.9 no.test\n192.0.2.1 A.test b.test # c.test\n2001:db8::1\ta.test\n"+
		"::ffff:192.0.2.2 a.test\nfe80::1%lo z.test\nx y.test\n192.0.2.3\n192.0.2.4 1.2.3.4 bad/name d.test"))
	want := "map[{a.test}:[192.0.2.1 2001:db8::1 192.0.2.2] {b.test}:[192.0.2.1] {d.test}:[192.0.2.4] {localhost}:[127.0.0.1]]"
	got := map[string]any{}
	for n, a := range names {
		got["{"+n.String()+"}"] = a
	}
	if fmt.Sprint(got) != want {
		t.Errorf("%v, want %s", got, want)
	}
}

func TestReadSearch(t *testing.T) {
	for _, c := range []struct{ conf, want string }{
		{"", "[] 1"},
		{"domain a.test\nsearch B.test. c.test\noptions timeout:1 ndots:5\n", "[b.test c.test] 5"},
		{"search a.test\ndomain b.test\noptions ndots:99", "[b.test] 15"},
		{"search a.test\nsearch\n#search b.test\noptions ndots:x ndots:-1", "[] 1"},
		{"options ndots:0", "[] 0"},
	} {
		_, search, ndots, _ := ReadHost([]byte(c.conf), nil)
		if got := fmt.Sprint(search, " ", ndots); got != c.want {
			t.Errorf("%q: %s, want %s", c.conf, got, c.want)
		}
	}
}

func FuzzReadHost(f *testing.F) {
	f.Add([]byte("nameserver 192.0.2.1\noptions ndots:3\nsearch x"), []byte("192.0.2.1 a b\n"))
	f.Fuzz(func(t *testing.T, conf, hosts []byte) {
		up, search, ndots, names := ReadHost(conf, hosts)
		if len(up) == 0 || len(up) > maxNameservers || len(search) > maxSearch || ndots < 0 || ndots > maxNDots {
			t.Errorf("%v %v %d", up, search, ndots)
		}
		for n := range names {
			if n.IsZero() {
				t.Error("the zero name has addresses")
			}
		}
	})
}
