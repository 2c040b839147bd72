package dispatch

import (
	"sync/atomic"
	"testing"
)

func TestUsersReleaseOnceAfterTheLast(t *testing.T) {
	for _, n := range []int{0, 1, 20} {
		var released, running atomic.Int32
		u := users{gone: make(chan struct{})}
		u.release = func() {
			if running.Load() != 0 {
				t.Error("released while there is a user")
			}
			released.Add(1)
		}
		stay := make(chan struct{})
		for range n {
			running.Add(1)
			u.run(func() {
				<-stay
				running.Add(1)
				u.run(func() { running.Add(-1) }) // a user of a user
				running.Add(-1)
			})
		}
		gone := u.close()
		if n > 0 {
			select {
			case <-gone:
				t.Error("gone before the users")
			default:
			}
		}
		close(stay)
		<-gone
		<-u.close()
		if released.Load() != 1 {
			t.Errorf("%d users: released %d times", n, released.Load())
		}
	}
}
