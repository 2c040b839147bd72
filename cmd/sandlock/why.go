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
		Use:                   "why ENDPOINT|\"METHOD URL\" [flags of net]",
		Short:                 "Say whether an endpoint or a request is allowed and which rule decides, without running anything",
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
			if a.Allowed() {
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
	if a.Allowed() {
		word = "allowed"
	}
	reason, flag, rule, source := a.Verdict.Reason.String(), a.Verdict.AllowWith, "", ""
	if r := a.Verdict.Rule; r != nil {
		rule, source = r.Text, r.Source
	}
	if v := a.Request; v != nil {
		reason, flag = v.Reason.String(), v.AllowWith
		if v.Rule != nil {
			rule, source = v.Rule.Text, v.Rule.Source
		}
	}
	text := word + " " + a.Endpoint + ": " + reason + "\n"
	if rule != "" {
		text += "  rule: " + strconv.Quote(rule) + " (" + source + ")\n"
	}
	if flag != "" {
		text += "  allow with: " + flag + "\n"
	}
	for _, n := range a.Notes {
		text += "  " + n + "\n"
	}
	_, err := fmt.Fprint(w, text)
	return err
}
