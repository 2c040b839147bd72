package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/sandlock/sandlock/sandbox"
	"github.com/spf13/cobra"
)

const exitFailure = 125 // the sandbox could not be made, as with env(1)

func netCommand(exit *int) *cobra.Command {
	c := &cobra.Command{
		Use:                   "net [flags] [--] COMMAND...",
		Short:                 "Run a command that reaches only the allowed endpoints",
		Example:               "  sandlock net --allow example.com:443 -- curl https://example.com",
		DisableFlagsInUseLine: true,
	}
	f := c.Flags()
	f.SetInterspersed(false)
	flags := newPolicyFlags(f, "")
	chains := f.Bool("chains", false, "print the handler chains of this policy and exit")
	c.RunE = func(_ *cobra.Command, args []string) error { return execute(c, exit, flags, *chains, args) }
	return c
}

// execute runs the command in args, or lists the chains of its policy.
func execute(c *cobra.Command, exit *int, flags *policyFlags, chains bool, args []string) error {
	if len(args) == 0 && !chains {
		return errors.New("no command; write it behind the flags, as in: " + strings.TrimSpace(c.Example))
	}
	compiled, err := flags.compile(args)
	if err != nil {
		return err
	}
	if !compiled.Policy.Quiet {
		for _, line := range compiled.Warnings() {
			fmt.Fprintln(os.Stderr, "sandlock: warning: "+line)
		}
	}
	if chains {
		text, err := sandbox.Chains(compiled)
		if err != nil {
			*exit = exitFailure
			return err
		}
		_, err = fmt.Print(text)
		return err
	}
	*exit, err = sandbox.Run(context.Background(), compiled, sandbox.Options{
		Stdin: os.Stdin, Stdout: os.Stdout, Stderr: os.Stderr, Messages: os.Stderr, Control: true, OwnProcess: true,
		Exited: flags.run.report,
	})
	var launch *sandbox.LaunchError
	switch {
	case err == nil:
	case errors.As(err, &launch):
		*exit = launch.Code
	case *exit == 0:
		*exit = exitFailure
	}
	if err != nil && *exit == exitFailure {
		// Nothing was started: say what this host lacks, if that is why.
		err = sandbox.Diagnose(err)
	}
	return err
}
