// Package clock lets a run begin at another time: the wall clock that a program
// sees is the host's and an offset. Clocks that do not tell the date (monotonic,
// boot, CPU time) are the host's, and time passes as it does outside.
package clock

import (
	"encoding/binary"
	"time"

	"github.com/sandlock/sandlock/dispatch"
	"github.com/sandlock/sandlock/internal/sys"
	"golang.org/x/sys/unix"
)

// Clocks that tell the date, of linux/time.h.
var wall = []uint32{unix.CLOCK_REALTIME, unix.CLOCK_REALTIME_COARSE, unix.CLOCK_TAI}

// Config is what a Clock works with.
type Config struct {
	Offset time.Duration // what the program sees less what the host has
	// Inside tells whether an address is in the caller's vDSO, which adds the
	// offset by itself to what its system calls return.
	Inside func(c *dispatch.Call, addr uint64) bool
}

// Clock answers the system calls that tell the wall clock and moves the ones that
// wait for it.
type Clock struct {
	Config
	moved moved
}

// New returns the clock.
func New(c Config) *Clock { return &Clock{Config: c} }

// Register puts the handlers into the table.
func (k *Clock) Register(t *dispatch.Table) {
	var g dispatch.Guard
	for _, id := range wall {
		g = append(g, dispatch.When(dispatch.Eq(0, id))...)
	}
	reg := func(name string, h dispatch.HandlerFunc, g dispatch.Guard, call string) {
		if nr, ok := sys.SyscallNumber(call); ok {
			t.Builtin(dispatch.Registration{Name: name, Syscalls: []int{nr}, Guard: g, Handler: h})
		}
	}
	reg("time.get", k.gettime, g, "clock_gettime")
	reg("time.get", k.timeofday, dispatch.When(dispatch.NonNull(0)), "gettimeofday")
	reg("time.get", k.seconds, nil, "time")
	for i := range deadlines {
		d := &deadlines[i]
		reg("time.deadline", func(c *dispatch.Call) dispatch.Action { return k.deadline(c, d) }, d.guard, d.call)
	}
}

// gettime answers clock_gettime(2) that a program makes without the vDSO.
func (k *Clock) gettime(c *dispatch.Call) dispatch.Action {
	if k.Inside(c, c.IP()) {
		return dispatch.Continue()
	}
	var now unix.Timespec
	if err := unix.ClockGettime(int32(c.Int(0)), &now); err != nil {
		return dispatch.Fail(err)
	}
	return answer(c, c.Arg(1), encode(shift(now, k.Offset)))
}

func (k *Clock) timeofday(c *dispatch.Call) dispatch.Action {
	if k.Inside(c, c.IP()) {
		return dispatch.Continue()
	}
	now := time.Now().Add(k.Offset)
	b := binary.NativeEndian.AppendUint64(nil, uint64(now.Unix()))
	b = binary.NativeEndian.AppendUint64(b, uint64(now.Nanosecond()/1000))
	if zone := c.Arg(1); zone != 0 { // struct timezone, which Linux keeps at 0
		if err := c.Write(zone, make([]byte, 8)); err != nil {
			return dispatch.Fail(err)
		}
	}
	return answer(c, c.Arg(0), b)
}

func (k *Clock) seconds(c *dispatch.Call) dispatch.Action {
	if k.Inside(c, c.IP()) {
		return dispatch.Continue()
	}
	now := time.Now().Add(k.Offset).Unix()
	if to := c.Arg(0); to != 0 {
		if err := c.Write(to, binary.NativeEndian.AppendUint64(nil, uint64(now))); err != nil {
			return dispatch.Fail(err)
		}
	}
	return dispatch.Return(now)
}

func answer(c *dispatch.Call, to uint64, b []byte) dispatch.Action {
	return dispatch.Result(0, c.Write(to, b))
}

const (
	second       = int64(time.Second)
	timespecSize = 16 // struct timespec of 64-bit machines
)

func encode(t unix.Timespec) []byte {
	b := binary.NativeEndian.AppendUint64(nil, uint64(t.Sec))
	return binary.NativeEndian.AppendUint64(b, uint64(t.Nsec))
}

// shift adds d to a valid t.
func shift(t unix.Timespec, d time.Duration) unix.Timespec {
	secs, nanos := int64(d)/second, int64(d)%second
	t.Sec, t.Nsec = t.Sec+secs, t.Nsec+nanos
	switch {
	case t.Nsec < 0:
		t.Sec, t.Nsec = t.Sec-1, t.Nsec+second
	case t.Nsec >= second:
		t.Sec, t.Nsec = t.Sec+1, t.Nsec-second
	}
	return t
}
