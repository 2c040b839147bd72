package dispatch

import (
	"fmt"

	"github.com/sandlock/sandlock/internal/sys"
	"golang.org/x/sys/unix"
)

// span is a run of system call numbers, from first up to the next span's, that
// share a place in the program.
type span struct {
	first uint32
	place at
}

// Program assembles the seccomp filter: a foreign architecture is killed, x32
// numbers and calls newer than our list answer ENOSYS, as on an older kernel, then
// a balanced search over the numbers leads to the denials and after them to the
// guards of each system call.
func (t *Table) Program() ([]unix.SockFilter, error) {
	a := &assembler{code: make([]unix.SockFilter, 0, 512)}
	errnos := map[unix.Errno]at{}
	errno := func(e unix.Errno) at {
		place, ok := errnos[e]
		if !ok {
			place = a.emit(retK, sys.RetErrno|uint32(e))
			errnos[e] = place
		}
		return place
	}
	kill := a.emit(retK, sys.RetKillProcess)
	notify := a.emit(retK, sys.RetUserNotif)
	allow := a.emit(retK, sys.RetAllow)
	nosys := errno(unix.ENOSYS)

	// Each number's answers from the last to the first that is asked.
	var places [sys.MaxSyscall + 1]at
	for nr := range places {
		places[nr] = allow
	}
	known := func(nr int) error {
		if sys.SyscallName(nr) == "" {
			return fmt.Errorf("%w: %d", ErrInvalidSyscall, nr)
		}
		return nil
	}
	for nr, chain := range t.chains() {
		if err := known(nr); err != nil {
			return nil, err
		}
		for i := len(chain) - 1; i >= 0; i-- {
			places[nr] = a.guard(chain[i].guard, notify, places[nr])
		}
	}
	for i := len(t.denials) - 1; i >= 0; i-- {
		d := t.denials[i]
		if err := known(d.Syscall); err != nil {
			return nil, err
		}
		places[d.Syscall] = a.guard(d.Guard, errno(d.Errno), places[d.Syscall])
	}

	spans := make([]span, 0, 128)
	for nr, place := range places {
		if len(spans) == 0 || spans[len(spans)-1].place != place {
			spans = append(spans, span{uint32(nr), place})
		}
	}
	spans = append(spans, span{sys.MaxSyscall + 1, nosys})
	start := a.search(spans)
	if sys.X32Bit != 0 {
		start = a.branch(jgeK, sys.X32Bit, nosys, start)
	}
	a.follow(start)
	start = a.emit(ldAbs, offNr)
	a.branch(jeqK, sys.AuditArch, start, kill)
	return a.finish(a.emit(ldAbs, offArch))
}

// search leads from the number in the accumulator to its span's place.
func (a *assembler) search(spans []span) at {
	if len(spans) == 1 {
		return spans[0].place
	}
	mid := len(spans) / 2
	right := a.search(spans[mid:])
	left := a.search(spans[:mid])
	return a.branch(jgeK, spans[mid].first, right, left)
}
