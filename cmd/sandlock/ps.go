package main

import (
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"
	"unicode/utf8"

	"github.com/sandlock/sandlock/sandbox"
	"github.com/spf13/cobra"
)

// maxCommand is how many bytes of a command line a table shows.
const maxCommand = 60

func psCommand(*int) *cobra.Command {
	c := &cobra.Command{Use: "ps", Short: "List your running sandboxes", Args: cobra.NoArgs}
	asJSON := c.Flags().Bool("json", false, "print JSON")
	c.RunE = func(*cobra.Command, []string) error {
		runs, err := sandbox.Running()
		if err != nil {
			return err
		}
		if *asJSON {
			if runs == nil {
				runs = []sandbox.Status{}
			}
			return printJSON(runs)
		}
		if len(runs) == 0 {
			fmt.Println("No running sandboxes.")
			return nil
		}
		tw := tabwriter.NewWriter(os.Stdout, 0, 8, 2, ' ', 0)
		fmt.Fprintln(tw, "NAME\tPID\tUPTIME\tSTATUS\tCOMMAND")
		for _, r := range runs {
			state := r.State
			if r.Audit {
				state += ", audit"
			}
			pid, up := "-", "-"
			if r.PID != 0 {
				pid, up = strconv.Itoa(r.PID), uptime(time.Since(r.Started))
			}
			fmt.Fprintf(tw, "%s\t%s\t%s\t%s\t%s\n", r.Name, pid, up, state, commandLine(r.Command))
		}
		return tw.Flush()
	}
	return c
}

func inspectCommand(exit *int) *cobra.Command {
	c := &cobra.Command{Use: "inspect NAME", Short: "Show the policy, the handler chains and the counters of a running sandbox", Args: cobra.ExactArgs(1)}
	f := c.Flags()
	asJSON := f.Bool("json", false, "print JSON")
	asTOML := f.Bool("toml", false, "print the policy alone, as a policy file")
	chains := f.Bool("chains", false, "print the handler chains too")
	c.MarkFlagsMutuallyExclusive("json", "toml")
	c.RunE = func(_ *cobra.Command, args []string) error {
		i, err := sandbox.Inspect(args[0])
		if err != nil {
			*exit = 1
			return fmt.Errorf("%s: %w; sandlock ps lists them", args[0], err)
		}
		switch {
		case *asJSON:
			return printJSON(i)
		case *asTOML:
			_, err := fmt.Print(i.Policy)
			return err
		}
		tw := tabwriter.NewWriter(os.Stdout, 0, 8, 2, ' ', 0)
		for _, row := range [][2]string{
			{"name", i.Name}, {"command", commandLine(i.Command)}, {"pid", strconv.Itoa(i.PID)},
			{"supervisor", strconv.Itoa(i.Supervisor)}, {"processes", strconv.Itoa(i.Processes)},
			{"uptime", uptime(time.Since(i.Started))}, {"status", i.State},
		} {
			fmt.Fprintf(tw, "%s\t%s\n", row[0], row[1])
		}
		counters(tw, "handler", i.Handlers)
		counters(tw, "system call", i.Traps)
		if err := tw.Flush(); err != nil {
			return err
		}
		fmt.Printf("\n%s", i.Policy)
		if *chains {
			fmt.Printf("\n%s", i.Chains)
		}
		return nil
	}
	return c
}

func killCommand(exit *int) *cobra.Command {
	return &cobra.Command{
		Use: "kill NAME", Short: "End a running sandbox and every process in it", Args: cobra.ExactArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			if err := sandbox.KillRun(args[0]); err != nil {
				*exit = 1
				return fmt.Errorf("%s: %w; sandlock ps lists them", args[0], err)
			}
			_, err := fmt.Printf("Killed sandbox %s.\n", args[0])
			return err
		},
	}
}

func printJSON(v any) error {
	enc := json.NewEncoder(os.Stdout)
	enc.SetIndent("", "  ")
	return enc.Encode(v)
}

// counters writes the numbers that are not 0, by name.
func counters(w *tabwriter.Writer, what string, n map[string]uint64) {
	for _, name := range slices.Sorted(maps.Keys(n)) {
		if n[name] > 0 {
			fmt.Fprintf(w, "%s %s\t%d\n", what, name, n[name])
		}
	}
}

// uptime is a duration as 5s, 3m, 2h10m or 4d1h.
func uptime(d time.Duration) string {
	switch s := int(d.Seconds()); {
	case s < 60:
		return fmt.Sprintf("%ds", s)
	case s < 3600:
		return fmt.Sprintf("%dm", s/60)
	case s < 86400:
		return fmt.Sprintf("%dh%dm", s/3600, s/60%60)
	default:
		return fmt.Sprintf("%dd%dh", s/86400, s/3600%24)
	}
}

// commandLine joins the words of a command, without what could steer a terminal,
// and cuts it.
func commandLine(words []string) string {
	line := strings.Map(func(r rune) rune {
		if !strconv.IsPrint(r) {
			return '?'
		}
		return r
	}, strings.Join(words, " "))
	if len(line) <= maxCommand {
		return line
	}
	cut := maxCommand - len("…")
	for cut > 0 && !utf8.RuneStart(line[cut]) {
		cut--
	}
	return line[:cut] + "…"
}
