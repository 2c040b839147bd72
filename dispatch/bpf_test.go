package dispatch

import (
	"encoding/binary"
	"errors"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/sandlock/sandlock/internal/sys"
	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"
)

func machine(t *testing.T, table *Table) func(arch uint32, nr uint32, args [6]uint64) uint32 {
	t.Helper()
	prog, err := table.Program()
	if err != nil {
		t.Fatal(err)
	}
	ins := make([]bpf.Instruction, len(prog))
	for i, p := range prog {
		ins[i] = bpf.RawInstruction{Op: p.Code, Jt: p.Jt, Jf: p.Jf, K: p.K}.Disassemble()
	}
	vm, err := bpf.NewVM(ins)
	if err != nil {
		t.Fatal(err)
	}
	return func(arch, nr uint32, args [6]uint64) uint32 {
		// The interpreter loads in network byte order, the kernel in its own.
		var d [64]byte
		binary.BigEndian.PutUint32(d[0:], nr)
		binary.BigEndian.PutUint32(d[4:], arch)
		for i, a := range args {
			binary.BigEndian.PutUint32(d[16+8*i:], uint32(a))
			binary.BigEndian.PutUint32(d[20+8*i:], uint32(a>>32))
		}
		r, err := vm.Run(d[:])
		if err != nil {
			t.Fatal(err)
		}
		return uint32(r)
	}
}

func table() *Table {
	h := HandlerFunc(func(*Call) Action { return Continue() })
	t := &Table{}
	t.Deny(
		Denial{unix.SYS_PTRACE, nil, unix.EPERM},
		Denial{unix.SYS_SOCKET, When(Ne(0, 1), Ne(0, 2)), unix.EAFNOSUPPORT},
		Denial{unix.SYS_SENDTO, When(AnyBit(3, unix.MSG_FASTOPEN)), unix.EOPNOTSUPP},
		Denial{unix.SYS_PRLIMIT64, When(Ne(0, 0), NonNull(2)), unix.EPERM},
	)
	t.Builtin(Registration{"connect", []int{unix.SYS_CONNECT}, nil, h})
	t.Builtin(Registration{"send", []int{unix.SYS_SENDTO}, When(NonNull(4)), h})
	return t
}

func TestProgramOverEveryNumber(t *testing.T) {
	run := machine(t, table())
	for nr := uint32(0); nr <= sys.MaxSyscall+64; nr++ {
		want := uint32(sys.RetAllow)
		if nr > sys.MaxSyscall {
			want = sys.RetErrno | uint32(unix.ENOSYS)
		}
		switch nr {
		case unix.SYS_PTRACE:
			want = sys.RetErrno | uint32(unix.EPERM)
		case unix.SYS_SOCKET:
			want = sys.RetErrno | uint32(unix.EAFNOSUPPORT)
		case unix.SYS_CONNECT:
			want = sys.RetUserNotif
		}
		if got := run(sys.AuditArch, nr, [6]uint64{}); got != want {
			t.Errorf("%d %s: %#x, want %#x", nr, sys.SyscallName(int(nr)), got, want)
		}
		if got := run(0x40000003, nr, [6]uint64{}); got != sys.RetKillProcess {
			t.Errorf("%d on a foreign architecture: %#x", nr, got)
		}
		if sys.X32Bit != 0 {
			if got := run(sys.AuditArch, nr|sys.X32Bit, [6]uint64{}); got != sys.RetErrno|uint32(unix.ENOSYS) {
				t.Errorf("%d in x32: %#x", nr, got)
			}
		}
	}
}

func TestProgramAtTheBoundariesOfGuards(t *testing.T) {
	run := machine(t, table())
	const high = uint64(1) << 40
	errno := func(e unix.Errno) uint32 { return sys.RetErrno | uint32(e) }
	for _, c := range []struct {
		name string
		nr   uint32
		args [6]uint64
		want uint32
	}{
		{"unix socket", unix.SYS_SOCKET, [6]uint64{1}, sys.RetAllow},
		{"unix socket with high bits", unix.SYS_SOCKET, [6]uint64{1 | high}, sys.RetAllow},
		{"netlink with high bits", unix.SYS_SOCKET, [6]uint64{16 | high}, errno(unix.EAFNOSUPPORT)},
		{"send without address", unix.SYS_SENDTO, [6]uint64{}, sys.RetAllow},
		{"send with address", unix.SYS_SENDTO, [6]uint64{4: 8}, sys.RetUserNotif},
		{"send with an address of high bits only", unix.SYS_SENDTO, [6]uint64{4: high}, sys.RetUserNotif},
		{"fast open", unix.SYS_SENDTO, [6]uint64{3: unix.MSG_FASTOPEN | high, 4: 8}, errno(unix.EOPNOTSUPP)},
		{"own limit", unix.SYS_PRLIMIT64, [6]uint64{0, 7, 8}, sys.RetAllow},
		{"own limit, high bits", unix.SYS_PRLIMIT64, [6]uint64{high, 7, 8}, sys.RetAllow},
		{"read another's limit", unix.SYS_PRLIMIT64, [6]uint64{5, 7, 0}, sys.RetAllow},
		{"set another's limit", unix.SYS_PRLIMIT64, [6]uint64{5, 7, high}, errno(unix.EPERM)},
	} {
		if got := run(sys.AuditArch, c.nr, c.args); got != c.want {
			t.Errorf("%s: %#x, want %#x", c.name, got, c.want)
		}
	}
}

func TestRegistrationErrors(t *testing.T) {
	h := HandlerFunc(func(*Call) Action { return Continue() })
	tb := table()
	if err := tb.Handle(Registration{"u", []int{unix.SYS_PTRACE}, nil, h}); !errors.Is(err, ErrDeniedSyscall) {
		t.Errorf("denied: %v", err)
	}
	for _, nr := range []int{-1, 100000} {
		if err := tb.Handle(Registration{"u", []int{nr}, nil, h}); !errors.Is(err, ErrInvalidSyscall) {
			t.Errorf("%d: %v", nr, err)
		}
	}
	if err := tb.Handle(Registration{"u", []int{unix.SYS_GETPID}, nil, h}); err != nil {
		t.Errorf("allowed: %v", err)
	}
}

// Whatever the guards are, the kernel's program and the loop read them alike,
// and a program with more than a jump's reach between its parts is right too.
func TestProgramAgreesWithTheTable(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	h := HandlerFunc(func(*Call) Action { return Continue() })
	values := []uint64{0, 1, 2, 1 << 31, 1 << 32, 1<<32 | 1, ^uint64(0)}
	pick := func() uint64 { return values[r.IntN(len(values))] }
	guard := func() Guard {
		var g Guard
		for range r.IntN(4) {
			var all []Test
			for range 1 + r.IntN(3) {
				all = append(all, Test{Arg: r.IntN(6), Wide: r.IntN(2) == 0, Mask: pick(), Value: pick(), Not: r.IntN(2) == 0})
			}
			g = append(g, all)
		}
		return g
	}
	nrs := []int{unix.SYS_READ, unix.SYS_WRITE, unix.SYS_SOCKET, unix.SYS_CONNECT, unix.SYS_SENDTO, unix.SYS_EXECVE, sys.MaxSyscall}
	for round := range 60 {
		tb := &Table{}
		for range r.IntN(40) {
			tb.Deny(Denial{nrs[r.IntN(len(nrs))], guard(), unix.Errno(r.IntN(3))})
		}
		for range r.IntN(40) {
			tb.Builtin(Registration{"h", []int{nrs[r.IntN(len(nrs))]}, guard(), h})
		}
		run := machine(t, tb)
		for range 300 {
			nr := nrs[r.IntN(len(nrs))]
			args := [6]uint64{pick(), pick(), pick(), pick(), pick(), pick()}
			want := uint32(sys.RetAllow)
			for _, l := range tb.chains()[nr] {
				if l.guard.Holds(&args) {
					want = sys.RetUserNotif
				}
			}
			for _, d := range slices.Backward(tb.denials) {
				if d.Syscall == nr && d.Guard.Holds(&args) {
					want = sys.RetErrno | uint32(d.Errno)
				}
			}
			if got := run(sys.AuditArch, uint32(nr), args); got != want {
				t.Fatalf("round %d, %s%x: %#x, want %#x", round, sys.SyscallName(nr), args, got, want)
			}
		}
	}
}
