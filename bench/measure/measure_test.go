package measure

import (
	"errors"
	"testing"
	"time"
)

func fixed(walls ...int) Subject {
	n := 0
	return func() (Sample, error) {
		w := walls[n%len(walls)]
		n++
		return Sample{Wall: time.Duration(w), CPU: time.Duration(2 * w)}, nil
	}
}

func TestInterleave(t *testing.T) {
	var order []int
	note := func(i int) Subject {
		return func() (Sample, error) {
			order = append(order, i)
			return Sample{Wall: time.Second}, nil
		}
	}
	got, err := Interleave(Limit{Rounds: 1, Busy: 2 * time.Second}, note(0), note(1))
	if err != nil || len(got) != 2 || len(got[0]) != 2 || len(got[1]) != 2 {
		t.Fatalf("%v, %v", got, err)
	}
	for i, want := range []int{0, 1, 1, 0} {
		if order[i] != want {
			t.Fatalf("order %v", order)
		}
	}
	broken := errors.New("broken")
	if _, err := Interleave(Limit{Rounds: 3}, func() (Sample, error) { return Sample{}, broken }); err != broken {
		t.Errorf("error %v", err)
	}
}

func TestMedians(t *testing.T) {
	got, err := Interleave(Limit{Rounds: 3}, fixed(10, 20, 90), fixed(20, 40, 90))
	if err != nil {
		t.Fatal(err)
	}
	if m := got[0].Median(Wall); m != 20 {
		t.Errorf("median %d", m)
	}
	if m := got[0].Median(CPU); m != 40 {
		t.Errorf("median of CPU %d", m)
	}
	if r := got[1].Ratio(got[0], Wall); r != 2 {
		t.Errorf("ratio %v", r)
	}
	if m := (Series{{Wall: 1}, {Wall: 4}}).Median(Wall); m != 2 {
		t.Errorf("median of an even number %d", m)
	}
	if (Series{}).Median(Wall) != 0 || (Series{{}}).Ratio(Series{{}}, Wall) != 0 {
		t.Error("nothing to measure is not 0")
	}
}
