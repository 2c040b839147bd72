package dispatch

import (
	"fmt"
	"sort"

	"github.com/sandlock/sandlock/internal/sys"
	"golang.org/x/sys/unix"
)

// maxInstructions is BPF_MAXINSNS of linux/bpf_common.h.
const maxInstructions = 4096

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

// assembler emits classic BPF with labels. It exists beside the label assembler
// of go-seccomp-bpf because that package's start-up costs 0.3 ms in every run.
// Far targets are reached by BPF_JA, whose offset has 32 bits: no conditional
// jump ever spans more than one instruction, so none can overflow its 8 bits.
type assembler struct {
	code   []unix.SockFilter
	jumps  map[int]int // instruction -> label
	labels []int
}

func (a *assembler) label() int {
	a.labels = append(a.labels, -1)
	return len(a.labels) - 1
}
func (a *assembler) place(l int) { a.labels[l] = len(a.code) }
func (a *assembler) emit(code uint16, k uint32) {
	a.code = append(a.code, unix.SockFilter{Code: code, K: k})
}
func (a *assembler) jump(l int) {
	a.jumps[len(a.code)] = l
	a.emit(jmpJA, 0)
}

// unless falls through when (A op k) holds and jumps to l when it does not.
func (a *assembler) unless(op uint16, k uint32, l int) {
	a.code = append(a.code, unix.SockFilter{Code: op, K: k, Jt: 1, Jf: 0})
	a.jump(l)
}

// when jumps to l when (A op k) holds.
func (a *assembler) when(op uint16, k uint32, l int) {
	a.code = append(a.code, unix.SockFilter{Code: op, K: k, Jt: 0, Jf: 1})
	a.jump(l)
}

func (a *assembler) finish() ([]unix.SockFilter, error) {
	for at, l := range a.jumps {
		target := a.labels[l]
		if target <= at {
			return nil, fmt.Errorf("bpf: label %d of instruction %d lies at %d", l, at, target)
		}
		a.code[at].K = uint32(target - at - 1)
	}
	if len(a.code) > maxInstructions {
		return nil, fmt.Errorf("bpf: %d instructions, the kernel takes %d", len(a.code), maxInstructions)
	}
	return a.code, nil
}

// test falls through when t holds and jumps to fail when it does not.
func (a *assembler) test(t Test, fail int) {
	mask := t.mask()
	value := t.Value & mask
	type half struct {
		off         uint32
		mask, value uint32
	}
	halves := []half{{offArgs + uint32(t.Arg)*8, uint32(mask), uint32(value)}}
	if t.Wide {
		halves = append(halves, half{offArgs + uint32(t.Arg)*8 + 4, uint32(mask >> 32), uint32(value >> 32)})
	}
	holds := a.label()
	for _, h := range halves {
		if h.mask == 0 {
			continue
		}
		a.emit(ldAbs, h.off)
		if h.mask != 0xffffffff {
			a.emit(andK, h.mask)
		}
		if t.Not {
			differs := a.label()
			a.unless(jeqK, h.value, differs)
			skip := a.label()
			a.jump(skip)
			a.place(differs)
			a.jump(holds)
			a.place(skip)
			continue
		}
		a.unless(jeqK, h.value, fail)
	}
	if t.Not {
		a.jump(fail)
	}
	a.place(holds)
}

// guard jumps to hit when g holds and falls through when it does not.
func (a *assembler) guard(g Guard, hit int) {
	if len(g) == 0 {
		a.jump(hit)
		return
	}
	for _, all := range g {
		fail := a.label()
		for _, t := range all {
			a.test(t, fail)
		}
		a.jump(hit)
		a.place(fail)
	}
}

// Program assembles the seccomp filter: a foreign architecture is killed, x32
// numbers and calls newer than our list answer ENOSYS, as on an older kernel, then
// a balanced search over the numbers leads to the denials and after them to the
// guards of each system call.
func (t *Table) Program() ([]unix.SockFilter, error) {
	chains := t.chains()
	denials := map[int][]Denial{}
	set := map[int]bool{}
	for _, d := range t.denials {
		denials[d.Syscall] = append(denials[d.Syscall], d)
		set[d.Syscall] = true
	}
	for nr := range chains {
		set[nr] = true
	}
	nrs := make([]int, 0, len(set))
	for nr := range set {
		if sys.SyscallName(nr) == "" {
			return nil, fmt.Errorf("%w: %d", ErrInvalidSyscall, nr)
		}
		nrs = append(nrs, nr)
	}
	sort.Ints(nrs)

	a := &assembler{jumps: map[int]int{}}
	allow, notify, kill, nosys := a.label(), a.label(), a.label(), a.label()
	errnos := map[unix.Errno]int{}
	errno := func(e unix.Errno) int {
		if _, ok := errnos[e]; !ok {
			errnos[e] = a.label()
		}
		return errnos[e]
	}

	a.emit(ldAbs, offArch)
	a.unless(jeqK, sys.AuditArch, kill)
	a.emit(ldAbs, offNr)
	if sys.X32Bit != 0 {
		a.when(jgeK, sys.X32Bit, nosys)
	}
	a.when(jgeK, sys.MaxSyscall+1, nosys)
	leaf := func(nr int) {
		for _, d := range denials[nr] {
			a.guard(d.Guard, errno(d.Errno))
			if len(d.Guard) == 0 {
				return
			}
		}
		for _, l := range chains[nr] {
			a.guard(l.guard, notify)
			if len(l.guard) == 0 {
				return
			}
		}
		a.jump(allow)
	}
	var search func(part []int)
	search = func(part []int) {
		switch len(part) {
		case 0:
			a.jump(allow)
		case 1:
			a.unless(jeqK, uint32(part[0]), allow)
			leaf(part[0])
		default:
			mid := len(part) / 2
			right := a.label()
			a.when(jgeK, uint32(part[mid]), right)
			search(part[:mid])
			a.place(right)
			search(part[mid:])
		}
	}
	search(nrs)

	a.place(allow)
	a.emit(retK, sys.RetAllow)
	a.place(notify)
	a.emit(retK, sys.RetUserNotif)
	a.place(kill)
	a.emit(retK, sys.RetKillProcess)
	a.place(nosys)
	a.emit(retK, sys.RetErrno|uint32(unix.ENOSYS))
	order := make([]int, 0, len(errnos))
	for e := range errnos {
		order = append(order, int(e))
	}
	sort.Ints(order)
	for _, e := range order {
		a.place(errnos[unix.Errno(e)])
		a.emit(retK, sys.RetErrno|uint32(e))
	}
	return a.finish()
}
