// Package image changes a program's memory once after each exec, before code of
// its own runs: what the kernel hands to a program without a system call is then
// what the run wants it to be.
//
// There is no event for an exec that leaves a process waiting. But every C library
// and Go's runtime make certain calls before anything else; they are trapped, with
// guards that hold at a program's start only.
package image

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"strconv"

	"github.com/sandlock/sandlock/dispatch"
	"github.com/sandlock/sandlock/internal/sys"
	"golang.org/x/sys/unix"
)

// Watcher changes each new image. Its fields are not changed after Register.
type Watcher struct {
	Layout *Layout // nil where the kernel has no vDSO
	// Offset, if not 0, is what the vDSO adds to the wall clock, in nanoseconds.
	Offset int64
	// Random, if not nil, is told of a new image and returns the 16 bytes of
	// AT_RANDOM (getauxval(3)) for it; vDSO's getrandom is then without effect.
	Random func(c *dispatch.Call) [16]byte
	Fault  func(error) // never blocks

	edits []edit
}

// mark stands at the end of a changed vDSO.
var mark = binary.LittleEndian.AppendUint64(nil, 0x6b636f6c646e6173) // "sandlock"

// Prepare works out the changes. It fails where the vDSO leaves no room for them.
func (w *Watcher) Prepare() error {
	if w.Layout == nil {
		return nil
	}
	var err error
	if w.Offset != 0 {
		if w.edits, err = clocks(w.Layout, w.Offset); err != nil {
			return fmt.Errorf("the wall clock of the vDSO: %w", err)
		}
	}
	if s, ok := w.Layout.symbols["__vdso_getrandom"]; ok && w.Random != nil {
		if s.size < uint64(len(noRandom)) {
			return errors.New("the vDSO's getrandom is too short to be replaced")
		}
		w.edits = append(w.edits, edit{s.value, noRandom})
	}
	w.edits = append(w.edits, edit{w.Layout.end, mark})
	return nil
}

const archSetFS = 0x1002 // ARCH_SET_FS of asm/prctl.h

// Register traps the calls that stand at a program's start: brk(0) and
// set_tid_address of C libraries, arch_prctl(ARCH_SET_FS) of all on x86-64,
// sched_getaffinity of Go.
func (w *Watcher) Register(t *dispatch.Table) {
	zero := dispatch.Test{Arg: 0, Wide: true}
	for _, s := range []struct {
		name  string
		guard dispatch.Guard
	}{
		{"brk", dispatch.When(zero)}, {"arch_prctl", dispatch.When(dispatch.Eq(0, archSetFS))},
		{"set_tid_address", nil}, {"sched_getaffinity", dispatch.When(dispatch.Eq(0, 0))},
	} {
		if nr, ok := sys.SyscallNumber(s.name); ok {
			t.Builtin(dispatch.Registration{Name: "image", Syscalls: []int{nr}, Guard: s.guard, Handler: dispatch.HandlerFunc(w.start)})
		}
	}
}

// start changes the caller's image if that was not yet done. The call goes on in
// any case: nothing was decided.
func (w *Watcher) start(c *dispatch.Call) dispatch.Action {
	if err := w.change(c); err != nil && !errors.Is(err, dispatch.ErrGone) {
		w.Fault(fmt.Errorf("process %d sees the host's time or randomness: %w", c.PID(), err))
	}
	return dispatch.Continue()
}

func (w *Watcher) change(c *dispatch.Call) error {
	vdso, random, err := auxiliary(c.PID())
	if err != nil {
		return err
	}
	if w.Layout != nil && vdso != 0 {
		now := make([]byte, markSize)
		if err := c.Read(vdso+w.Layout.end, now); err != nil {
			return err
		}
		if string(now) == string(mark) {
			return nil
		}
	}
	if w.Random != nil && random != 0 {
		bytes := w.Random(c)
		if err := c.Write(random, bytes[:]); err != nil {
			return err
		}
	}
	if w.Layout == nil || vdso == 0 {
		return nil
	}
	return w.write(c, vdso)
}

// write edits a vDSO. The pages cannot be written to by the program itself, so
// this goes by /proc/pid/mem, which copies them (proc(5)).
func (w *Watcher) write(c *dispatch.Call, vdso uint64) error {
	fd, err := unix.Open("/proc/"+strconv.Itoa(c.PID())+"/mem", unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	if err := c.Valid(); err != nil {
		return err
	}
	for _, e := range w.edits {
		if _, err := unix.Pwrite(fd, e.to, int64(vdso+e.at)); err != nil {
			return fmt.Errorf("write the vDSO: %w", err)
		}
	}
	return nil
}

// auxiliary returns the addresses of a process's vDSO and AT_RANDOM, 0 for none,
// from /proc/pid/auxv.
func auxiliary(pid int) (vdso, random uint64, err error) {
	const atRandom, atVDSO, pair = 25, 33, 16
	b, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/auxv")
	if err != nil {
		return 0, 0, err
	}
	for ; len(b) >= pair; b = b[pair:] {
		switch v := binary.NativeEndian.Uint64(b[8:]); binary.NativeEndian.Uint64(b) {
		case atRandom:
			random = v
		case atVDSO:
			vdso = v
		}
	}
	return vdso, random, nil
}

// Holds tells whether an address is in the caller's vDSO: a system call from
// there is the vDSO's own, which adds the offset itself.
func (w *Watcher) Holds(c *dispatch.Call, addr uint64) bool {
	vdso, _, err := auxiliary(c.PID())
	return err == nil && w.Layout != nil && vdso != 0 && addr >= vdso && addr < vdso+w.Layout.size
}
