package entropy

import (
	"context"
	"encoding/binary"
	"fmt"
	"strings"

	"github.com/sandlock/sandlock/dispatch"
	"github.com/sandlock/sandlock/fsvirt/open"
	"github.com/sandlock/sandlock/fsvirt/walk"
	"github.com/sandlock/sandlock/internal/sys"
	"golang.org/x/sys/unix"
)

// Limits of getrandom(2): the most that one call gives, what is written to the
// caller's memory at once, and what is made on the loop.
const (
	maxGet    = 1<<25 - 1
	chunk     = 64 << 10
	maxInline = 256 << 10
)

// Config is what a Source works with.
type Config struct {
	Seed   uint64
	Walker *walk.Walker
	Fault  func(error) // never blocks
}

// Source answers all that asks for randomness.
type Source struct {
	Config
	streams streams
	devices devices
}

// New returns the source of a seed. Close ends what it started.
func New(c Config) *Source {
	return &Source{Config: c, streams: streams{root: key{}.from("seed", binary.LittleEndian.AppendUint64(nil, c.Seed))}}
}

// Close ends the devices. It blocks until they ended.
func (s *Source) Close() { s.devices.close() }

// Overlook makes a text in the arguments of programs have no effect on their
// streams. It is to be called before the command starts.
func (s *Source) Overlook(text string) { s.streams.overlooked = []byte(text) }

// Image starts the streams of the caller's process anew after an exec and returns
// its AT_RANDOM.
func (s *Source) Image(c *dispatch.Call) (out [16]byte) {
	k := s.streams.image(c.TGID()).key.from("auxv")
	copy(out[:], k[:])
	return out
}

// Register puts the handlers into the table: getrandom, opens, lseek of the
// devices, and a call that follows a fork, which sets parent and child apart.
func (s *Source) Register(t *dispatch.Table) {
	reg := func(name string, h dispatch.HandlerFunc, g dispatch.Guard, nrs ...int) {
		t.Builtin(dispatch.Registration{Name: name, Syscalls: nrs, Guard: g, Handler: h})
	}
	reg("random.born", s.born, nil, unix.SYS_SET_ROBUST_LIST)
	reg("random.exit", s.exit, nil, unix.SYS_EXIT_GROUP)
	reg("random.get", s.get, nil, unix.SYS_GETRANDOM)
	reg("random.open", s.open, nil, open.Syscalls()...)
	reg("random.seek", s.seek, nil, unix.SYS_LSEEK)
}

// born sees each process right after a fork: glibc's fork makes this call then.
// A process of another library is noted when it first asks for something.
func (s *Source) born(c *dispatch.Call) dispatch.Action {
	if pid := c.TGID(); pid == c.PID() {
		s.streams.born(pid)
	}
	return dispatch.Continue()
}

func (s *Source) exit(c *dispatch.Call) dispatch.Action {
	s.streams.exit(c.TGID())
	return dispatch.Continue()
}

// get answers getrandom(2).
func (s *Source) get(c *dispatch.Call) dispatch.Action {
	const known = unix.GRND_NONBLOCK | unix.GRND_RANDOM | unix.GRND_INSECURE
	flags := c.Int(2)
	if flags&^known != 0 || flags&(unix.GRND_RANDOM|unix.GRND_INSECURE) == unix.GRND_RANDOM|unix.GRND_INSECURE {
		return dispatch.Errno(unix.EINVAL)
	}
	n := int(min(c.Arg(1), maxGet))
	if n > maxInline {
		return dispatch.Defer(func(context.Context) dispatch.Action { return s.fill(c, n) })
	}
	return s.fill(c, n)
}

func (s *Source) fill(c *dispatch.Call, n int) dispatch.Action {
	buf := make([]byte, min(n, chunk))
	pid := c.TGID()
	for done := 0; done < n; {
		part := buf[:min(n-done, len(buf))]
		s.streams.read(pid, part)
		if err := c.Write(c.Arg(0)+uint64(done), part); err != nil {
			if done > 0 {
				return dispatch.Return(int64(done))
			}
			return dispatch.Fail(err)
		}
		done += len(part)
	}
	return dispatch.Return(int64(n))
}

// Devices of mem(4) and random(4), in major and minor number.
const (
	memMajor     = 1
	minorRandom  = 8
	minorURandom = 9
)

// open answers opens of the random devices, whatever path leads to them, and of
// the kernel's lists of random numbers in /proc.
func (s *Source) open(c *dispatch.Call) dispatch.Action {
	r, err := open.Decode(c)
	const others = unix.O_PATH | unix.O_DIRECTORY
	if err != nil || r.Flags&others != 0 || r.Flags&unix.O_ACCMODE == unix.O_WRONLY {
		return dispatch.Continue()
	}
	o, err := s.Walker.Walk(c, r.How())
	if err != nil {
		return dispatch.Continue()
	}
	defer o.Close()
	cloexec := r.Flags&unix.O_CLOEXEC != 0
	switch {
	case o.Stat.Mode&unix.S_IFMT == unix.S_IFCHR && unix.Major(o.Stat.Rdev) == memMajor &&
		(unix.Minor(o.Stat.Rdev) == minorRandom || unix.Minor(o.Stat.Rdev) == minorURandom):
		fd, err := s.devices.open(s.streams.device(c.TGID()), r.Flags&unix.O_NONBLOCK != 0)
		if err != nil {
			s.Fault(fmt.Errorf("a random device of the seed: %w", err))
			return dispatch.Errno(unix.EMFILE)
		}
		return dispatch.InjectFD(fd, cloexec)
	case o.InProc() && !r.Writes():
		names, err := o.ProcName()
		if err != nil {
			return dispatch.Continue()
		}
		switch strings.Join(names, "/") {
		case "sys/kernel/random/uuid":
			var b [16]byte
			s.streams.read(c.TGID(), b[:])
			return dispatch.InjectBytes("uuid", uuid(b), cloexec)
		case "sys/kernel/random/boot_id":
			k := s.streams.root.from("boot")
			return dispatch.InjectBytes("boot_id", uuid([16]byte(k[:16])), cloexec)
		}
	}
	return dispatch.Continue()
}

// uuid is a random UUID as RFC 9562 section 5.4 has it, and a line's end.
func uuid(b [16]byte) []byte {
	b[6], b[8] = b[6]&0x0f|0x40, b[8]&0x3f|0x80
	return fmt.Appendf(nil, "%x-%x-%x-%x-%x\n", b[:4], b[4:6], b[6:8], b[8:10], b[10:])
}

// seek answers lseek(2) on a random device, where it has no effect.
func (s *Source) seek(c *dispatch.Call) dispatch.Action {
	if !s.devices.live() {
		return dispatch.Continue()
	}
	fd, err := c.FD(c.Int(0))
	if err != nil {
		return dispatch.Continue()
	}
	defer unix.Close(fd)
	if cookie, err := sys.Cookie(fd); err != nil || !s.devices.has(cookie) {
		return dispatch.Continue()
	}
	return dispatch.Return(0)
}
