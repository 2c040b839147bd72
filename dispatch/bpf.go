package dispatch

import (
	"cmp"
	"fmt"
	"slices"

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
	type answer struct {
		errno unix.Errno
		place at
	}
	var answers []answer
	errno := func(e unix.Errno) at {
		for _, x := range answers {
			if x.errno == e {
				return x.place
			}
		}
		answers = append(answers, answer{e, a.emit(retK, sys.RetErrno|uint32(e))})
		return answers[len(answers)-1].place
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
	var alternatives [][]Test
	for all := t.rulings(); len(all) > 0; {
		// Neighbours with one answer to one call are alternatives.
		r, n := all[0], 0
		alternatives = alternatives[:0]
		for ; n < len(all) && all[n].nr == r.nr && all[n].denies == r.denies && all[n].errno == r.errno; n++ {
			if g := all[n].when; len(g) > 0 {
				alternatives = append(alternatives, g...)
			} else {
				alternatives = append(alternatives, nil) // always holds
			}
		}
		all = all[n:]
		if sys.SyscallName(r.nr) == "" {
			return nil, fmt.Errorf("%w: %d", ErrInvalidSyscall, r.nr)
		}
		to := notify
		if r.denies {
			to = errno(r.errno)
		}
		places[r.nr] = a.anyOf(alternatives, to, places[r.nr])
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

// ruling is what the program does with a call when the guard holds.
type ruling struct {
	nr     int
	denies bool // with errno; else somebody is asked
	errno  unix.Errno
	when   Guard
}

// rulings are those of the table, of each call from the last to the first that
// counts: denials come before handlers.
func (t *Table) rulings() []ruling {
	out := make([]ruling, 0, len(t.denials)+64)
	for _, list := range [][]Registration{t.user, t.builtin} {
		for _, r := range list {
			for _, nr := range r.Syscalls {
				out = append(out, ruling{nr: nr, when: r.Guard})
			}
		}
	}
	for _, d := range slices.Backward(t.denials) {
		out = append(out, ruling{nr: d.Syscall, denies: true, errno: d.Errno, when: d.Guard})
	}
	slices.SortStableFunc(out, func(x, y ruling) int { return cmp.Compare(x.nr, y.nr) })
	return out
}
