package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"

	"github.com/sandlock/sandlock/sandbox"
	"github.com/spf13/cobra"
)

const exitDenied = 1

func whyCommand(exit *int) *cobra.Command {
	c := &cobra.Command{
		Use:                   "why ENDPOINT [flags of net]",
		Short:                 "Say whether an endpoint is allowed and which rule decides, without running anything",
		Example:               "  sandlock why api.example.com:443 --allow '*.example.com'",
		DisableFlagsInUseLine: true,
	}
	flags := newPolicyFlags(c.Flags(), "")
	c.RunE = func(_ *cobra.Command, args []string) error {
		if len(args) != 1 {
			return errors.New("why judges one endpoint; write it as HOST:PORT, as in: sandlock why api.example.com:443 --allow '*.example.com'")
		}
		compiled, err := flags.compile(nil)
		if err != nil {
			return err
		}
		answers, err := compiled.Why(args[0])
		if err != nil {
			return err
		}
		*exit = exitDenied
		for _, a := range answers {
			if a.Verdict.Allowed {
				*exit = 0
			}
			if err := explain(os.Stdout, a); err != nil {
				return err
			}
		}
		return nil
	}
	return c
}

func explain(w io.Writer, a sandbox.Answer) error {
	word := "denied"
	if a.Verdict.Allowed {
		word = "allowed"
	}
	text := word + " " + a.Endpoint + ": " + a.Verdict.Reason.String() + "\n"
	if r := a.Verdict.Rule; r != nil {
		text += "  rule: " + strconv.Quote(r.Text) + " (" + r.Source + ")\n"
	}
	if a.Verdict.AllowWith != "" {
		text += "  allow with: " + a.Verdict.AllowWith + "\n"
	}
	for _, n := range a.Notes {
		text += "  " + n + "\n"
	}
	_, err := fmt.Fprint(w, text)
	return err
}
