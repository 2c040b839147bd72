package dispatch

// Test is a condition on one register of a system call that the BPF filter can
// evaluate: (args[Arg] & Mask) == Value, or != with Not. A zero Mask means all
// bits. Unless Wide is set only the low 32 bits are looked at, as the kernel
// does for arguments of type int; pointers and unsigned longs are Wide.
type Test struct {
	Arg   int
	Wide  bool
	Mask  uint64
	Value uint64
	Not   bool
}

// Guard is a disjunction of conjunctions of tests. The empty guard always holds.
type Guard [][]Test

// When returns the guard that holds when all the tests hold.
func When(tests ...Test) Guard { return Guard{tests} }

// Or returns the guard that holds when either does.
func (g Guard) Or(other Guard) Guard {
	if len(g) == 0 || len(other) == 0 {
		return nil
	}
	return append(append(Guard{}, g...), other...)
}

// Holds evaluates the guard as the kernel's filter does.
func (g Guard) Holds(args *[6]uint64) bool {
	if len(g) == 0 {
		return true
	}
	for _, all := range g {
		ok := true
		for _, t := range all {
			if !t.holds(args) {
				ok = false
				break
			}
		}
		if ok {
			return true
		}
	}
	return false
}

func (t Test) holds(args *[6]uint64) bool {
	mask, arg := t.mask(), args[t.Arg]
	return (arg&mask == t.Value&mask) != t.Not
}

func (t Test) mask() uint64 {
	mask := t.Mask
	if mask == 0 {
		mask = ^uint64(0)
	}
	if !t.Wide {
		mask &= 0xffffffff
	}
	return mask
}

// Eq tests that an int argument has the value v.
func Eq(arg int, v uint32) Test { return Test{Arg: arg, Value: uint64(v)} }

// Ne tests that an int argument differs from v.
func Ne(arg int, v uint32) Test { return Test{Arg: arg, Value: uint64(v), Not: true} }

// AnyBit returns the guard that holds when an int argument has one of the bits.
func AnyBit(arg int, bits uint32) Test {
	return Test{Arg: arg, Mask: uint64(bits), Value: 0, Not: true}
}

// NonNull tests that a pointer argument is not null.
func NonNull(arg int) Test { return Test{Arg: arg, Wide: true, Not: true} }
