package clock

import (
	"bytes"
	"encoding/binary"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/sandlock/sandlock/dispatch"
	"github.com/sandlock/sandlock/internal/sys"
	"golang.org/x/sys/unix"
)

// Of linux/futex.h; the operation is in the low bits of the second argument.
const (
	futexRealtime      = 256
	futexOp            = 0x7f
	futexWaitBitset    = 9
	futexRequeuePI     = 11
	futexLockPI        = 6
	futexLockPI2       = 13
	timerAbsolute      = 1  // TIMER_ABSTIME, TFD_TIMER_ABSTIME
	valueInTimer       = 16 // it_value of struct itimerspec
	realtimeAlarmClock = 8
)

// absolute is a call that may wait until a time of the wall clock.
type absolute struct {
	call  string
	guard dispatch.Guard
	arg   int    // points to the time
	at    uint64 // offset of the time there
	// clock, if not nil, returns the clock that the time is of.
	clock func(c *dispatch.Call) (id int, ok bool)
}

func absoluteFutex(op uint64) dispatch.Guard {
	return dispatch.When(dispatch.Test{Arg: 1, Mask: futexOp | futexRealtime, Value: op | futexRealtime}, dispatch.NonNull(3))
}

// deadlines are all of them. Waits of a duration are no matter of the date, nor
// are those by another clock.
var deadlines = []absolute{
	{call: "clock_nanosleep", arg: 2, guard: dispatch.When(dispatch.Eq(0, unix.CLOCK_REALTIME), dispatch.AnyBit(1, timerAbsolute)).Or(
		dispatch.When(dispatch.Eq(0, unix.CLOCK_TAI), dispatch.AnyBit(1, timerAbsolute)))},
	{call: "futex", arg: 3, guard: absoluteFutex(futexWaitBitset).Or(absoluteFutex(futexRequeuePI)).Or(absoluteFutex(futexLockPI2)).Or(
		dispatch.When(dispatch.Test{Arg: 1, Mask: futexOp, Value: futexLockPI}, dispatch.NonNull(3)))},
	{call: "futex_waitv", arg: 3, guard: dispatch.When(dispatch.Eq(4, unix.CLOCK_REALTIME), dispatch.NonNull(3))},
	{call: "mq_timedsend", arg: 4, guard: dispatch.When(dispatch.NonNull(4))},
	{call: "mq_timedreceive", arg: 4, guard: dispatch.When(dispatch.NonNull(4))},
	{call: "timer_settime", arg: 2, at: valueInTimer, guard: dispatch.When(dispatch.AnyBit(1, timerAbsolute)), clock: timerClock},
	{call: "timerfd_settime", arg: 2, at: valueInTimer, guard: dispatch.When(dispatch.AnyBit(1, timerAbsolute)), clock: timerfdClock},
}

// deadline moves a time in the caller's memory to the host's clock, lets the
// kernel read it there, and puts it back. A supervisor cannot wait in the caller's
// stead: a futex is the caller's alone. It protects nothing.
func (k *Clock) deadline(c *dispatch.Call, d *absolute) dispatch.Action {
	if d.clock != nil {
		if id, ok := d.clock(c); !ok || id != unix.CLOCK_REALTIME && id != unix.CLOCK_TAI && id != realtimeAlarmClock {
			return dispatch.Continue()
		}
	}
	addr := c.Arg(d.arg) + d.at
	b := make([]byte, timespecSize)
	if err := c.Read(addr, b); err != nil {
		return dispatch.Continue() // the kernel answers EFAULT
	}
	t := unix.Timespec{Sec: int64(binary.NativeEndian.Uint64(b)), Nsec: int64(binary.NativeEndian.Uint64(b[8:]))}
	if t.Nsec < 0 || t.Nsec >= second || t.Sec < 0 || t == (unix.Timespec{}) {
		return dispatch.Continue()
	}
	host := shift(t, -k.Offset)
	if host.Sec < 0 || host == (unix.Timespec{}) {
		host = unix.Timespec{Nsec: 1} // long past
	}
	m := move{tid: c.PID(), addr: addr, seen: b, host: encode(host)}
	k.moved.begin(c, m)
	return dispatch.Continue()
}

// move is a time that stands changed in a thread's memory.
type move struct {
	tid        int
	addr       uint64
	seen, host []byte // as the program has it, and as the kernel is to read it
}

type place struct {
	tid  int
	addr uint64
}

// moved are the times that are changed at the moment.
type moved struct {
	mu  sync.Mutex
	all map[place]move
}

// maxMoved bounds them; further ones are not moved.
const maxMoved = 4096

// begin changes a time. It does nothing when the time still stands changed from
// an earlier call, which a signal interrupted.
func (x *moved) begin(c *dispatch.Call, m move) {
	x.mu.Lock()
	defer x.mu.Unlock()
	at := place{m.tid, m.addr}
	if old, ok := x.all[at]; ok && bytes.Equal(old.host, m.seen) {
		return
	}
	if len(x.all) >= maxMoved || c.Write(m.addr, m.host) != nil {
		return
	}
	if x.all == nil {
		x.all = map[place]move{}
	}
	x.all[at] = m
	go x.end(c, m)
}

// Pauses between the looks at a thread whose call goes on, and how many there are.
const (
	firstLook = 100 * time.Microsecond
	looks     = 16
)

// end puts a time back once the kernel has read it: the call was answered, and
// the thread sleeps again or is done.
func (x *moved) end(c *dispatch.Call, m move) {
	for i, pause := 0, firstLook; i < looks; i, pause = i+1, min(2*pause, 256*firstLook) {
		time.Sleep(pause)
		if c.Valid() != nil && !running(m.tid) {
			break
		}
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	now := make([]byte, len(m.host))
	if n, err := sys.ReadMemory(m.tid, m.addr, now); err == nil && n == len(now) && bytes.Equal(now, m.host) {
		sys.WriteMemory(m.tid, m.addr, m.seen)
	}
	delete(x.all, place{m.tid, m.addr})
}

// running tells whether a thread is on a processor or waits for one.
func running(tid int) bool {
	text, err := os.ReadFile("/proc/" + strconv.Itoa(tid) + "/stat")
	i := bytes.LastIndexByte(text, ')')
	return err == nil && i >= 0 && i+2 < len(text) && text[i+2] == 'R'
}

// timerClock returns the clock of a POSIX timer, from /proc/pid/timers (proc(5)).
func timerClock(c *dispatch.Call) (int, bool) {
	text, err := os.ReadFile("/proc/" + strconv.Itoa(c.PID()) + "/timers")
	if err != nil {
		return 0, false
	}
	_, rest, ok := strings.Cut("\n"+string(text), "\nID: "+strconv.Itoa(c.Int(0))+"\n")
	if !ok {
		return 0, false
	}
	return field(rest, "ClockID: ")
}

// timerfdClock returns the clock of a timerfd, from /proc/pid/fdinfo.
func timerfdClock(c *dispatch.Call) (int, bool) {
	text, err := os.ReadFile("/proc/" + strconv.Itoa(c.PID()) + "/fdinfo/" + strconv.Itoa(c.Int(0)))
	if err != nil {
		return 0, false
	}
	return field(string(text), "clockid: ")
}

func field(text, name string) (int, bool) {
	_, rest, ok := strings.Cut("\n"+text, "\n"+name)
	line, _, _ := strings.Cut(rest, "\n")
	n, err := strconv.Atoi(strings.TrimSpace(line))
	return n, ok && err == nil
}
