package dispatch

import (
	"cmp"
	"fmt"
	"slices"

	"golang.org/x/sys/unix"
)

// maxInstructions is BPF_MAXINSNS of linux/bpf_common.h, maxOffset the longest
// conditional jump: its fields have 8 bits.
const (
	maxInstructions = 4096
	maxOffset       = 255
	maxArgs         = 6 // registers of a system call
)

const (
	offNr   = 0
	offArch = 4
	offArgs = 16

	ldAbs = unix.BPF_LD | unix.BPF_W | unix.BPF_ABS
	andK  = unix.BPF_ALU | unix.BPF_AND | unix.BPF_K
	jeqK  = unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K
	jgeK  = unix.BPF_JMP | unix.BPF_JGE | unix.BPF_K
	jmpJA = unix.BPF_JMP | unix.BPF_JA
	retK  = unix.BPF_RET | unix.BPF_K
)

// at is a place in a program: the number of instructions that follow it. So it
// stays right while instructions are put in front.
type at int

// assembler emits classic BPF from its end to its beginning: every jump leads
// to what is there already, and its distance is known. The kernel translates and
// compiles the program in each start, so it should be short; a label assembler
// such as that of go-seccomp-bpf costs 0.3 ms by its initialisation alone.
type assembler struct {
	code []unix.SockFilter // in reverse
}

// emit puts an instruction in front and returns its place.
func (a *assembler) emit(code uint16, k uint32) at {
	a.code = append(a.code, unix.SockFilter{Code: code, K: k})
	return at(len(a.code) - 1)
}

// offset of a jump to a place, from an instruction that is put in front now.
func (a *assembler) offset(to at) int { return len(a.code) - 1 - int(to) }

// near returns a place with the same effect as to that a conditional jump can
// reach, even if room more instructions come between.
func (a *assembler) near(to at, room int) at {
	if a.offset(to)+room <= maxOffset {
		return to
	}
	return a.emit(jmpJA, uint32(a.offset(to)))
}

// branch goes to yes when (A op k) holds, and to no otherwise.
func (a *assembler) branch(op uint16, k uint32, yes, no at) at {
	no = a.near(no, 1)
	yes = a.near(yes, 0)
	a.code = append(a.code, unix.SockFilter{Code: op, K: k, Jt: uint8(a.offset(yes)), Jf: uint8(a.offset(no))})
	return at(len(a.code) - 1)
}

// follow makes a place the one that is executed next.
func (a *assembler) follow(to at) at {
	if a.offset(to) == 0 {
		return to
	}
	return a.emit(jmpJA, uint32(a.offset(to)))
}

// test goes to yes when t holds, and to no otherwise.
func (a *assembler) test(t Test, yes, no at) at {
	mask := t.mask()
	value := t.Value & mask
	if t.Not {
		yes, no = no, yes
	}
	place := yes
	if high := uint32(mask >> 32); high != 0 {
		place = a.half(t.word()+4, high, uint32(value>>32), place, no)
	}
	if uint32(mask) != 0 {
		place = a.half(t.word(), uint32(mask), uint32(value), place, no)
	}
	return place
}

// half goes to yes when (word & mask) == value, and to no otherwise.
func (a *assembler) half(word, mask, value uint32, yes, no at) at {
	a.branch(jeqK, value, yes, no)
	if mask != 0xffffffff {
		a.emit(andK, mask)
	}
	return a.emit(ldAbs, word)
}

// word is where the low half of the register is.
func (t Test) word() uint32 { return offArgs + uint32(t.Arg)*8 }

// whole tells whether the test compares one word as it is.
func (t Test) whole() bool { return t.mask() == 0xffffffff }

// anyOf goes to hit when all tests of one of the alternatives hold, and to miss
// otherwise. Alternatives that compare the same word share its load, and those
// that begin alike share their beginning. It uses up the slice.
func (a *assembler) anyOf(alternatives [][]Test, hit, miss at) at {
	slices.SortFunc(alternatives, byFirst)
	for n := len(alternatives); n > 0; {
		// From the last on: what is emitted first is executed last.
		last := alternatives[n-1]
		switch {
		case len(last) == 0:
			return hit
		case !last[0].plain():
			miss = a.allOf(last, hit, miss)
			n--
		default:
			from := n - 1
			for from > 0 && alternatives[from-1][0].plain() && alternatives[from-1][0].Arg == last[0].Arg {
				from--
			}
			miss = a.oneOf(alternatives[from:n], hit, miss)
			n = from
		}
	}
	return miss
}

// oneOf is anyOf for alternatives that begin with a comparison of one word: at
// most one value fits, so what fails behind it fails as a whole.
func (a *assembler) oneOf(same [][]Test, hit, miss at) at {
	word, next := same[0][0].word(), miss
	for n := len(same); n > 0; {
		value := same[n-1][0].Value
		from := n
		for from > 0 && same[from-1][0].Value == value {
			from--
			same[from] = same[from][1:]
		}
		next = a.branch(jeqK, uint32(value), a.anyOf(same[from:n], hit, miss), next)
		n = from
	}
	return a.emit(ldAbs, word)
}

// plain tells whether the test is one that oneOf can take.
func (t Test) plain() bool { return t.whole() && !t.Not }

// byFirst puts plain comparisons of one word next to each other, in the order of
// their values, and alternatives that always hold last.
func byFirst(x, y []Test) int {
	rank := func(alt []Test) int {
		switch {
		case len(alt) == 0:
			return maxArgs + 1
		case alt[0].plain():
			return alt[0].Arg
		}
		return maxArgs
	}
	if c := cmp.Compare(rank(x), rank(y)); c != 0 || rank(x) >= maxArgs {
		return c
	}
	return cmp.Compare(x[0].Value, y[0].Value)
}

// allOf goes to hit when all tests hold.
func (a *assembler) allOf(tests []Test, hit, miss at) at {
	place := hit
	for j := len(tests) - 1; j >= 0; j-- {
		if j+1 < len(tests) && tests[j].whole() && tests[j+1].whole() && tests[j].Arg == tests[j+1].Arg {
			// The word is loaded already: only this test leads to that load.
			a.code = a.code[:len(a.code)-1]
			place--
		}
		place = a.test(tests[j], place, miss)
	}
	return place
}

// finish returns the program that begins at a place.
func (a *assembler) finish(start at) ([]unix.SockFilter, error) {
	a.follow(start)
	if len(a.code) > maxInstructions {
		return nil, fmt.Errorf("bpf: %d instructions, the kernel takes %d", len(a.code), maxInstructions)
	}
	out := make([]unix.SockFilter, len(a.code))
	for i, ins := range a.code {
		out[len(out)-1-i] = ins
	}
	return out, nil
}
