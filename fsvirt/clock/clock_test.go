package clock

import (
	"runtime"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func TestShift(t *testing.T) {
	for _, c := range []struct {
		from unix.Timespec
		by   time.Duration
		want unix.Timespec
	}{
		{unix.Timespec{Sec: 5, Nsec: 1}, 0, unix.Timespec{Sec: 5, Nsec: 1}},
		{unix.Timespec{Sec: 5, Nsec: 999999999}, 1, unix.Timespec{Sec: 6}},
		{unix.Timespec{Sec: 5}, -1, unix.Timespec{Sec: 4, Nsec: 999999999}},
		{unix.Timespec{Sec: 5, Nsec: 5e8}, -1500 * time.Millisecond, unix.Timespec{Sec: 4}},
		{unix.Timespec{Sec: 5, Nsec: 7e8}, 1500 * time.Millisecond, unix.Timespec{Sec: 7, Nsec: 2e8}},
		{unix.Timespec{}, -time.Hour, unix.Timespec{Sec: -3600}},
	} {
		if got := shift(c.from, c.by); got != c.want {
			t.Errorf("%v + %v: %v, want %v", c.from, c.by, got, c.want)
		}
		if back := shift(shift(c.from, c.by), -c.by); back != c.from {
			t.Errorf("%v + %v and back: %v", c.from, c.by, back)
		}
	}
}

func TestField(t *testing.T) {
	const timers = "ID: 0\nsignal: 14/0000\nnotify: signal/pid.1\nClockID: 0\nID: 1\nsignal: 14/0\nnotify: signal/pid.1\nClockID: 1\n"
	if n, ok := field(timers, "ClockID: "); n != 0 || !ok {
		t.Fatal(n, ok)
	}
	for _, text := range []string{"", "ClockID: ", "ClockID: x\n", "xClockID: 1\n"} {
		if n, ok := field(text, "ClockID: "); ok {
			t.Errorf("%q: %d", text, n)
		}
	}
}

func TestRunning(t *testing.T) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	if !running(unix.Gettid()) {
		t.Fatal("the thread that asks does not run")
	}
	if running(1 << 30) {
		t.Fatal("a thread that is not there runs")
	}
}
