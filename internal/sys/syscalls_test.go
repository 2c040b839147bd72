package sys

import "testing"

func TestEveryNameIsFound(t *testing.T) {
	n := 0
	for nr, name := range syscallNames {
		if name == "" {
			continue
		}
		n++
		if got, ok := SyscallNumber(name); !ok || got != nr {
			t.Errorf("%s: %d, %v, want %d", name, got, ok, nr)
		}
	}
	if n != len(syscallOrder) {
		t.Errorf("%d names, %d in order", n, len(syscallOrder))
	}
	for _, name := range []string{"", "aaa", "nosuchcall", "zzz"} {
		if nr, ok := SyscallNumber(name); ok {
			t.Errorf("%q is %d", name, nr)
		}
	}
}
