package main

import (
	"os"

	"github.com/sandlock/sandlock/sandbox"
	"github.com/spf13/cobra"
)

func checkCommand(exit *int) *cobra.Command {
	c := &cobra.Command{
		Use:   "check",
		Short: "Say whether this host has what sandlock needs, and what to do where it has not",
		Args:  cobra.NoArgs,
	}
	asJSON := c.Flags().Bool("json", false, "print JSON")
	c.RunE = func(*cobra.Command, []string) error {
		findings := sandbox.Check()
		if !sandbox.CanRun(findings) {
			*exit = exitFailure
		}
		if *asJSON {
			return sandbox.WriteFindingsJSON(os.Stdout, findings)
		}
		return sandbox.WriteFindings(os.Stdout, findings)
	}
	return c
}
