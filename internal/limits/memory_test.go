package limits

import (
	"os/exec"
	"syscall"
	"testing"

	"github.com/sandlock/sandlock/internal/event"
)

// A process that is a member only while it is measured has a number that was
// used again by the time of the kill: it is somebody else's.
func TestMemoryKillsMembersOnly(t *testing.T) {
	for _, c := range []struct {
		still bool // a member when it is killed
		want  syscall.Signal
	}{{true, syscall.SIGKILL}, {false, syscall.SIGTERM}} {
		child := exec.Command("sleep", "600")
		if err := child.Start(); err != nil {
			t.Fatal(err)
		}
		asked, said := 0, 0
		members := func() ([]int, error) {
			if asked++; asked > 1 && !c.still {
				return nil, nil
			}
			return []int{child.Process.Pid}, nil
		}
		NewMemory(0, members, func(event.Event) { said++ }).measure(false)
		_ = child.Process.Signal(syscall.SIGTERM)
		_ = child.Wait()
		if got := child.ProcessState.Sys().(syscall.WaitStatus).Signal(); got != c.want {
			t.Errorf("still a member %v: ended by %v, want %v", c.still, got, c.want)
		}
		if (said == 1) != c.still {
			t.Errorf("still a member %v: reported %d times", c.still, said)
		}
	}
}
