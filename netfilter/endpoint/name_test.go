package endpoint

import (
	"strings"
	"testing"
)

func mustName(t testing.TB, s string) Name {
	t.Helper()
	n, err := ParseName(s)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func TestParseName(t *testing.T) {
	long := strings.Repeat("a", 63)
	for in, want := range map[string]string{
		"EXAMPLE.com.": "example.com", "🔐.example.com": "xn--jv8h.example.com", "faß.de": "xn--fa-hia.de",
		"ａllowed.test": "allowed.test", "allowed。test": "allowed.test", "allowed.test。": "allowed.test",
		"аllowed.test": "xn--llowed-2nf.test", // Cyrillic а: another name, and seen to be one
		"İ.test":       "xn--i-9bb.test", "K.test": "k.test", "XN--JV8H.example.com": "xn--jv8h.example.com",
		"_srv._TCP.a.test": "_srv._tcp.a.test", "_ü.test": "xn--_-eha.test", "a-b.test": "a-b.test",
		"r3---sn-4g5e.googlevideo.com": "r3---sn-4g5e.googlevideo.com", "localhost": "localhost", "3com.com": "3com.com",
		"1.0.0.127.in-addr.arpa": "1.0.0.127.in-addr.arpa", "0x.test": "0x.test", "beef": "beef",
		long + ".test":                   long + ".test",
		strings.Repeat("a.", 126) + "b":  strings.Repeat("a.", 126) + "b",
		strings.Repeat("a.", 126) + "b.": strings.Repeat("a.", 126) + "b",
	} {
		if n, err := ParseName(in); err != nil || n.String() != want {
			t.Errorf("%q: %q, %v; want %q", in, n, err, want)
		}
	}
	for _, in := range []string{
		"", ".", "..", "a..b", ".a.test", "a.test..", "a b", " a.test", "a.test ", "a\tb", "a.test\n", "a.test\x00", "evil.test\x00.allowed.test", "a\x7f.test",
		"2130706433", "0x7f.1", "0x7f000001", "0X7F.1", "0177.0.0.1", "127.1", "127.0.0.1", "127.0.0.1.", "1.2.3.4.5", "a.test.1", "0x", "a.0x", "１２７.1", "a.①",
		"::1", "[::1]", "[a.test]", "[[a.test]]", "a.test:80", "-a.test", "a-.test", "a@b.test", "u:p@a.test", "*.test", "*", "a.test/", "a／b.test", "a.test\\b", "a#b", "a?b",
		"a%2e.test", "a%00.test", "a\u200db.test", "xn--a.test", "xn--.test", "xn--abc-.test", "\xff.test", "\ufffd.test", "a\u0338=b.test",
		long + "a.test", strings.Repeat("a.", 126) + "bc", strings.Repeat("ü", 4000), strings.Repeat("a", 1<<20),
	} {
		n, err := ParseName(in)
		if err == nil || !n.IsZero() {
			t.Errorf("%.60q became %q, %v", in, n, err)
			continue
		}
		if len(err.Error()) > 700 || strings.ContainsAny(err.Error(), "\n\x00\x1b") {
			t.Errorf("error: %q", err)
		}
	}
}

func FuzzParseName(f *testing.F) {
	for _, s := range []string{"Example.com.", "evil.test\x00.allowed.test", "ａ。test", "xn--jv8h.test", "İ.test", "a_b.ü", "0x7f.1", "ß.test.", "\u00ad.test"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		n, err := ParseName(s)
		if err != nil {
			if !n.IsZero() {
				t.Fatalf("%q: %q with %v", s, n, err)
			}
			return
		}
		if again, err := ParseName(n.String()); err != nil || again != n {
			t.Fatalf("%q became %q, then %q, %v", s, n, again, err)
		}
		if dotted, err := ParseName(n.String() + "."); err != nil || dotted != n {
			t.Fatalf("%q with a dot: %q, %v", n, dotted, err)
		}
		if len(n.String()) > maxName || n.String() == "" {
			t.Fatalf("%q became %q", s, n)
		}
		for _, c := range n.String() {
			if !strings.ContainsRune("abcdefghijklmnopqrstuvwxyz0123456789-_.", c) {
				t.Fatalf("%q became %q", s, n)
			}
		}
	})
}

func BenchmarkParseName(b *testing.B) {
	for b.Loop() {
		if _, err := ParseName("api.example.com"); err != nil {
			b.Fatal(err)
		}
	}
}
