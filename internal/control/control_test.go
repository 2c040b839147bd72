package control

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
)

func serve(t *testing.T, name string) *Server {
	t.Helper()
	s, err := Reserve(name)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	s.Serve(func(verb string) (any, error) {
		if verb == "fail" {
			return nil, errors.New("on purpose")
		}
		return verb + " done", nil
	})
	return s
}

func TestAsk(t *testing.T) {
	name := fmt.Sprintf("control-%d", os.Getpid())
	s := serve(t, name)
	var got string
	if err := Ask(name, "this", &got); err != nil || got != "this done" {
		t.Errorf("%q, %v", got, err)
	}
	if err := Ask(name, "fail", nil); err == nil || err.Error() != "on purpose" {
		t.Errorf("%v", err)
	}
	if _, err := Reserve(name); !errors.Is(err, ErrInUse) {
		t.Errorf("taken twice: %v", err)
	}
	if all, err := Names(); err != nil || !slices.Contains(all, name) {
		t.Errorf("%q, %v", all, err)
	}
	s.Close()
	if err := Ask(name, "this", nil); !errors.Is(err, ErrNoRun) {
		t.Errorf("after the end: %v", err)
	}
	if all, _ := Names(); slices.Contains(all, name) {
		t.Error("listed after the end")
	}
}

func TestNamesAreThoseOfListenersOfOneUser(t *testing.T) {
	const text = `Num       RefCount Protocol Flags    Type St Inode Path
0000000000000000: 00000002 00000000 00010000 0001 01 17 @sandlock/7/b
0000000000000000: 00000003 00000000 00000000 0001 03 18 @sandlock/7/b
0000000000000000: 00000003 00000000 00000000 0001 03 19 @sandlock/7/client
0000000000000000: 00000002 00000000 00010000 0001 01 20 @sandlock/7/a
0000000000000000: 00000002 00000000 00010000 0001 01 21 @sandlock/77/c
0000000000000000: 00000002 00000000 00010000 0001 01 22 /run/d
0000000000000000: 00000002 00000000 00010000 0001 01 23
`
	got, err := names(strings.NewReader(text), "@sandlock/7/")
	if err != nil || !slices.Equal(got, []string{"a", "b"}) {
		t.Errorf("%q, %v", got, err)
	}
}
