package main

import (
	"encoding/json"
	"fmt"
	"os"

	"github.com/sandlock/sandlock/sandbox"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"golang.org/x/sys/unix"
)

// defaultProcesses is how many processes a command of `run` may have at once.
const defaultProcesses = 64

// runFlags are the flags that only `run` has.
type runFlags struct {
	set                                *pflag.FlagSet
	read, write, deny                  []string
	memory                             string
	limits                             sandbox.Limits
	denySyscalls, allowSyscalls        []string
	noCoreDump, noHugePages, fixedASLR bool
	sortedDirs                         bool
	shell                              string
	statusFD                           int
	seed                               uint64
	start                              string
}

func newRunFlags(f *pflag.FlagSet) *runFlags {
	r := &runFlags{set: f}
	f.StringArrayVarP(&r.read, "fs-read", "r", nil, "let the command read and execute the file or tree at `PATH`; repeatable")
	f.StringArrayVarP(&r.write, "fs-write", "w", nil, "let the command change the file or tree at `PATH` too; repeatable")
	f.StringArrayVar(&r.deny, "fs-deny", nil, "close the file or tree at `PATH`, whatever else is open; repeatable")
	f.IntVarP(&r.limits.Processes, "max-processes", "P", defaultProcesses, "`N` processes at once, threads not counted; 0 for any number")
	f.StringVarP(&r.memory, "max-memory", "m", "", "memory of all processes together that is really used: `SIZE` such as 512M or 2G")
	f.Uint64Var(&r.limits.OpenFiles, "max-open-files", 0, "`N` descriptors for each process")
	f.IntVarP(&r.limits.CPU, "cpu", "c", 0, "run `PERCENT` of the time, 1 to 100")
	f.IntSliceVar(&r.limits.Cores, "cpu-cores", nil, "run on these processors only: `N,N...`, from 0 on")
	f.IntVar(&r.limits.ShowCPUs, "num-cpus", 0, "show `N` processors")
	f.BoolVar(&r.noCoreDump, "no-coredump", false, "write no core dumps")
	f.BoolVar(&r.noHugePages, "no-huge-pages", false, "use no huge pages")
	f.BoolVar(&r.fixedASLR, "no-randomize-memory", false, "lay out memory the same way each time")
	f.BoolVar(&r.sortedDirs, "deterministic-dirs", false, "list directories in the order of their names")
	f.StringArrayVar(&r.denySyscalls, "extra-deny-syscall", nil, "refuse the system call or group `NAME` too; repeatable")
	f.StringArrayVar(&r.allowSyscalls, "extra-allow-syscall", nil, "do not refuse the group `NAME`: sysv_ipc; repeatable")
	f.StringVarP(&r.shell, "exec-shell", "e", "", "run `COMMAND` with /bin/sh -c")
	f.IntVar(&r.statusFD, "status-fd", -1, "write how the command ended as JSON to descriptor `N`")
	f.Uint64Var(&r.seed, "random-seed", 0, "make all randomness that the kernel gives follow from the number `N`")
	f.StringVar(&r.start, "time-start", "", "let the wall clock begin at `TIME`, such as 2000-01-01T00:00:00Z")
	return r
}

// command is what is to be run: the arguments, or a line for the shell.
func (r *runFlags) command(args []string) ([]string, error) {
	switch {
	case !r.set.Changed("exec-shell"):
		return args, nil
	case len(args) > 0:
		return nil, fmt.Errorf("--exec-shell: %q stands behind it as another command; remove one of the two", args[0])
	}
	return []string{"/bin/sh", "-c", r.shell}, nil
}

// report writes the command's end to --status-fd.
func (r *runFlags) report(end sandbox.ExitState) {
	if r == nil || r.statusFD < 0 {
		return
	}
	status := struct {
		ExitCode int  `json:"exit_code"` // -1 where a signal ended it
		Signal   int  `json:"signal,omitempty"`
		TimedOut bool `json:"timed_out,omitempty"`
	}{ExitCode: end.ExitCode(), TimedOut: end.TimedOut}
	if end.Status.Signaled() {
		status.Signal = int(end.Status.Signal())
	}
	line, err := json.Marshal(status)
	if err == nil {
		_, err = unix.Write(r.statusFD, append(line, '\n'))
	}
	if err != nil {
		fmt.Fprintf(os.Stderr, "sandlock: --status-fd: %v\n", err)
	}
}

// add puts the flags into a policy that may come from a file.
func (r *runFlags) add(p *sandbox.Policy) error {
	if p.Files == nil {
		p.Files = &sandbox.Files{}
	}
	p.Files.Read = append(p.Files.Read, r.read...)
	p.Files.Write = append(p.Files.Write, r.write...)
	p.Files.Deny = append(p.Files.Deny, r.deny...)
	p.DenySyscalls = append(p.DenySyscalls, r.denySyscalls...)
	p.AllowSyscalls = append(p.AllowSyscalls, r.allowSyscalls...)
	l := &p.Limits
	if l.Processes == 0 || r.set.Changed("max-processes") {
		l.Processes = r.limits.Processes
	}
	override(r.set, "max-open-files", &l.OpenFiles, r.limits.OpenFiles)
	override(r.set, "cpu", &l.CPU, r.limits.CPU)
	override(r.set, "cpu-cores", &l.Cores, r.limits.Cores)
	override(r.set, "num-cpus", &l.ShowCPUs, r.limits.ShowCPUs)
	override(r.set, "no-coredump", &l.NoCoreDump, r.noCoreDump)
	override(r.set, "no-huge-pages", &l.NoHugePages, r.noHugePages)
	override(r.set, "deterministic-dirs", &p.SortedDirs, r.sortedDirs)
	override(r.set, "no-randomize-memory", &l.FixedAddresses, r.fixedASLR)
	if r.statusFD >= 0 {
		if flags, err := unix.FcntlInt(uintptr(r.statusFD), unix.F_GETFD, 0); err != nil || flags&unix.FD_CLOEXEC != 0 {
			return fmt.Errorf("--status-fd: %d was not given to sandlock; open it in the shell, as with %d>FILE", r.statusFD, r.statusFD)
		}
	}
	for _, flag := range []string{"max-open-files", "cpu", "num-cpus"} {
		if f := r.set.Lookup(flag); f.Changed && f.Value.String() == "0" {
			return fmt.Errorf("--%s: 0 is too little; leave the flag out for no limit", flag)
		}
	}
	if r.set.Changed("max-memory") {
		n, err := sandbox.ParseBytes(r.memory)
		if err != nil {
			return fmt.Errorf("--max-memory: %w", err)
		}
		l.Memory = n
	}
	if r.set.Changed("random-seed") {
		p.RandomSeed = &r.seed
	}
	if r.set.Changed("time-start") {
		t, err := sandbox.ParseTimeStart(r.start)
		if err != nil {
			return fmt.Errorf("--time-start: %w", err)
		}
		p.TimeStart = t
	}
	return nil
}

func runCommand(exit *int) *cobra.Command {
	c := &cobra.Command{
		Use:                   "run [flags] [--] COMMAND...",
		Short:                 "Run a command that reaches only the files and endpoints it is given",
		Example:               "  sandlock run -w . --net-allow example.com:443 -- make",
		DisableFlagsInUseLine: true,
	}
	f := c.Flags()
	f.SetInterspersed(false)
	own := newRunFlags(f)
	flags := newPolicyFlags(f, "net-")
	flags.run = own
	chains := f.Bool("chains", false, "print the handler chains of this policy and exit")
	c.RunE = func(_ *cobra.Command, args []string) error {
		args, err := own.command(args)
		if err != nil {
			return err
		}
		return execute(c, exit, flags, *chains, args)
	}
	return c
}
