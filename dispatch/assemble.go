package dispatch

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// maxInstructions is BPF_MAXINSNS of linux/bpf_common.h, maxOffset the longest
// conditional jump: its fields have 8 bits.
const (
	maxInstructions = 4096
	maxOffset       = 255
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
	low := offArgs + uint32(t.Arg)*8
	place := yes
	if high := uint32(mask >> 32); high != 0 {
		place = a.half(low+4, high, uint32(value>>32), place, no)
	}
	if uint32(mask) != 0 {
		place = a.half(low, uint32(mask), uint32(value), place, no)
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

// guard goes to hit when g holds, and to miss otherwise.
func (a *assembler) guard(g Guard, hit, miss at) at {
	if len(g) == 0 {
		return hit
	}
	for i := len(g) - 1; i >= 0; i-- {
		place := hit
		for j := len(g[i]) - 1; j >= 0; j-- {
			place = a.test(g[i][j], place, miss)
		}
		miss = place
	}
	return miss
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
