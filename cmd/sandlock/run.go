package main

import (
	"github.com/sandlock/sandlock/sandbox"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// runFlags are the flags that only `run` has.
type runFlags struct {
	set               *pflag.FlagSet
	read, write, deny []string
}

func newRunFlags(f *pflag.FlagSet) *runFlags {
	r := &runFlags{set: f}
	f.StringArrayVarP(&r.read, "fs-read", "r", nil, "let the command read and execute the file or tree at `PATH`; repeatable")
	f.StringArrayVarP(&r.write, "fs-write", "w", nil, "let the command change the file or tree at `PATH` too; repeatable")
	f.StringArrayVar(&r.deny, "fs-deny", nil, "close the file or tree at `PATH`, whatever else is open; repeatable")
	return r
}

// add puts the flags into a policy that may come from a file.
func (r *runFlags) add(p *sandbox.Policy) {
	if p.Files == nil {
		p.Files = &sandbox.Files{}
	}
	p.Files.Read = append(p.Files.Read, r.read...)
	p.Files.Write = append(p.Files.Write, r.write...)
	p.Files.Deny = append(p.Files.Deny, r.deny...)
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
	c.RunE = func(_ *cobra.Command, args []string) error { return execute(c, exit, flags, *chains, args) }
	return c
}
