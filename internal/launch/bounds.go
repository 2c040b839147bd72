package launch

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

// Limits are what the command may use, beside what the caller's own limits say.
// The zero value changes nothing.
type Limits struct {
	OpenFiles      uint64 // descriptors of a process; it only lowers
	CPUs           []int  // processors to run on, by number
	NoCoreDump     bool
	NoHugePages    bool
	FixedAddresses bool // no random layout of the address space
}

// MaxCPUs is how many processors a mask of 1024 bits holds (CPU_SETSIZE).
const MaxCPUs = 1024

const addrNoRandomize = 0x0040000 // ADDR_NO_RANDOMIZE, personality(2)

// bounds is what the steps of bound point to: it must live until the exec.
type bounds struct {
	files, core unix.Rlimit
	cpus        [MaxCPUs / 64]uint64
}

// bound adds the steps for the limits but OpenFiles, which comes last: the start
// itself needs descriptors.
func (p *plan) bound(l Limits) *bounds {
	b := &bounds{}
	b.files = originalNoFile
	if b.files.Max == 0 {
		b.files = unix.Rlimit{Cur: l.OpenFiles, Max: l.OpenFiles}
	}
	n := min(l.OpenFiles, b.files.Cur, b.files.Max)
	b.files = unix.Rlimit{Cur: n, Max: n}
	if len(l.CPUs) > 0 {
		for _, c := range l.CPUs {
			if c >= 0 && c < MaxCPUs {
				b.cpus[c/64] |= 1 << (c % 64)
			}
		}
		p.add("processors", unix.SYS_SCHED_SETAFFINITY, 0, unsafe.Sizeof(b.cpus), uintptr(unsafe.Pointer(&b.cpus)))
	}
	if l.NoCoreDump {
		p.add("core dumps", unix.SYS_PRLIMIT64, 0, unix.RLIMIT_CORE, uintptr(unsafe.Pointer(&b.core)))
	}
	if l.NoHugePages {
		p.add("huge pages", unix.SYS_PRCTL, unix.PR_SET_THP_DISABLE, 1, 0, 0, 0)
	}
	if l.FixedAddresses {
		p.add("address layout", unix.SYS_PERSONALITY, addrNoRandomize)
	}
	return b
}
