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
	for _, r := range t.rulings() {
		if sys.SyscallName(r.nr) == "" {
			return nil, fmt.Errorf("%w: %d", ErrInvalidSyscall, r.nr)
		}
		to := notify
		if r.denies {
			to = errno(r.errno)
		}
		places[r.nr] = a.anyOf(r.when, to, places[r.nr])
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

// ruling is what the program does with a call when one of the alternatives holds.
type ruling struct {
	nr     int
	denies bool // with errno; else somebody is asked
	errno  unix.Errno
	when   [][]Test
}

// rulings are those of the table, of each call from the last to the first that
// counts: denials come before handlers. Neighbours with one answer are joined.
func (t *Table) rulings() []ruling {
	out := make([]ruling, 0, len(t.denials)+64)
	for _, list := range [][]Registration{t.user, t.builtin} {
		for _, r := range list {
			for _, nr := range r.Syscalls {
				out = append(out, ruling{nr: nr, when: r.Guard.alternatives()})
			}
		}
	}
	for _, d := range slices.Backward(t.denials) {
		out = append(out, ruling{nr: d.Syscall, denies: true, errno: d.Errno, when: d.Guard.alternatives()})
	}
	slices.SortStableFunc(out, func(x, y ruling) int { return cmp.Compare(x.nr, y.nr) })
	joined := out[:0]
	for _, r := range out {
		if n := len(joined); n > 0 && joined[n-1].nr == r.nr && joined[n-1].denies == r.denies && joined[n-1].errno == r.errno {
			joined[n-1].when = append(joined[n-1].when, r.when...)
		} else {
			joined = append(joined, r)
		}
	}
	return joined
}

// alternatives is a copy of the guard in which the one that always holds is an
// empty alternative.
func (g Guard) alternatives() [][]Test {
	if len(g) == 0 {
		return make([][]Test, 1)
	}
	return append(make([][]Test, 0, len(g)), g...)
}
