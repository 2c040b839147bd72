// Command sandlock runs a program that reaches exactly the endpoints that it is
// given.
package main

import (
	"fmt"
	"os"
	"strings"

	"github.com/spf13/cobra"
)

// exitUsage is the exit code for bad input, as of the shells' builtins.
const exitUsage = 2

// subcommands build one command each. The function sets the exit code of the
// program; with an error and no code it is exitUsage.
var subcommands = [...]struct {
	name  string
	build func(exit *int) *cobra.Command
}{
	{"net", netCommand},
	{"run", runCommand},
	{"check", checkCommand},
	{"why", whyCommand},
	{"ps", psCommand},
	{"inspect", inspectCommand},
	{"kill", killCommand},
	{"version", versionCommand},
}

func main() {
	growStack()
	os.Exit(run(os.Args[1:]))
}

func run(args []string) int {
	exit := 0
	root := &cobra.Command{
		Use:           "sandlock",
		Short:         "Run a program that reaches exactly the endpoints that it is given",
		Args:          unknownCommand,
		RunE:          func(c *cobra.Command, _ []string) error { return c.Help() },
		SilenceErrors: true, SilenceUsage: true,
	}
	root.SuggestionsMinimumDistance = 2 // edits
	root.SetArgs(args)
	root.SetFlagErrorFunc(func(c *cobra.Command, err error) error {
		return fmt.Errorf("%w; %q lists the flags", err, c.CommandPath()+" --help")
	})
	// Only what was asked for is built: a run of `net` should not wait for the rest.
	wanted := ""
	if len(args) > 0 {
		wanted = args[0]
	}
	for _, s := range subcommands {
		if s.name == wanted {
			root.AddCommand(s.build(&exit))
		}
	}
	if root.HasSubCommands() {
		root.CompletionOptions.DisableDefaultCmd = true
	} else {
		for _, s := range subcommands {
			root.AddCommand(s.build(&exit))
		}
	}
	err := root.Execute()
	if err == nil {
		return exit
	}
	// Joined errors are a line each.
	for line := range strings.SplitSeq(err.Error(), "\n") {
		fmt.Fprintln(os.Stderr, "sandlock: "+line)
	}
	if exit == 0 {
		return exitUsage
	}
	return exit
}

func unknownCommand(c *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	if near := c.SuggestionsFor(args[0]); len(near) > 0 {
		return fmt.Errorf("unknown command %q; did you mean %q?", args[0], near[0])
	}
	return fmt.Errorf("unknown command %q; to run it, write: sandlock net [flags] -- %s", args[0], args[0])
}
