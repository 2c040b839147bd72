package netfilter

import (
	"slices"
	"testing"

	"github.com/sandlock/sandlock/dispatch"
	"github.com/sandlock/sandlock/netfilter/endpoint"
	"golang.org/x/sys/unix"
)

// Contained datagrams need no call trapped that carries messages; mediated ones
// need every one.
func TestTrappedMessages(t *testing.T) {
	messages := []int{unix.SYS_SENDMSG, unix.SYS_SENDMMSG, unix.SYS_RECVMSG, unix.SYS_RECVMMSG, unix.SYS_RECVFROM}
	policy, err := endpoint.NewPolicy(nil, endpoint.Options{})
	if err != nil {
		t.Fatal(err)
	}
	for _, mode := range []Mode{Contained, Mediated} {
		f, err := New(Config{Policy: policy, Datagrams: mode})
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		table := &dispatch.Table{}
		f.Register(table)
		for _, nr := range messages {
			if got := slices.Contains(table.Trapped(), nr); got != (mode == Mediated) {
				t.Errorf("%s: system call %d is trapped: %v", mode, nr, got)
			}
		}
	}
}
