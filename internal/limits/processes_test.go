package limits

import (
	"errors"
	"testing"
	"time"
)

func TestBoundFollowsTheCount(t *testing.T) {
	live, failing := 1, error(nil)
	p := NewProcesses(4, func() ([]int, error) { return make([]int, live), failing }, nil)
	for range 3 {
		if !p.grant() {
			t.Fatal("no room below the limit")
		}
	}
	if p.grant() {
		t.Fatal("room at the limit")
	}
	// A birth a moment ago may not be visible yet: it counts beside what is.
	live = 2
	if waiting, err := p.recount(); err != nil || !waiting || p.bound != 5 && p.bound != 4 {
		t.Errorf("right after the births: waiting %v, bound %d, %v", waiting, p.bound, err)
	}
	for i := range p.grants {
		p.grants[i] = time.Now().Add(-2 * settle)
	}
	if waiting, err := p.recount(); err != nil || waiting || p.bound != 2 {
		t.Errorf("later: waiting %v, bound %d, %v", waiting, p.bound, err)
	}
	failing = errors.New("no list")
	if _, err := p.recount(); err == nil || p.bound != 2 {
		t.Errorf("a count that fails: bound %d, %v", p.bound, err)
	}
}
