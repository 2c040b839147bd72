// Command toolbox runs the tools of an agent, each call in a sandbox of its own with
// the endpoints of that tool and no others, and counts what they do.
//
//	toolbox TOOLS.json < CALLS > ANSWERS
//
// TOOLS.json maps a tool to its command and endpoints:
//
//	{"fetch": {"command": ["curl", "-s"], "allow": ["example.com:443"]}}
//
// A call is one line, {"tool": "fetch", "args": ["https://example.com"]}; the
// answer is one line too. At the end a summary goes to the standard error.
package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"time"

	"github.com/sandlock/sandlock/sandbox"
)

const (
	callTimeout = time.Minute
	maxOutput   = 1 << 20 // bytes of an answer
)

type tool struct {
	Command []string `json:"command"`
	Allow   []string `json:"allow"`
}

type call struct {
	Tool string   `json:"tool"`
	Args []string `json:"args"`
}

type answer struct {
	Tool   string   `json:"tool"`
	Code   int      `json:"code"`
	Output string   `json:"output"`
	Denied []string `json:"denied,omitempty"` // what the tool could not reach
	Error  string   `json:"error,omitempty"`  // why it did not run
}

// counts is what one tool did so far.
type counts struct {
	calls, failed, connections, denied int
	up, down                           int64 // bytes through inspected connections
}

func (t tool) run(ctx context.Context, c call, n *counts) answer {
	n.calls++
	a := answer{Tool: c.Tool}
	policy := sandbox.Policy{Command: append(slices.Clone(t.Command), c.Args...), Timeout: callTimeout}
	for _, text := range t.Allow {
		policy.Allow = append(policy.Allow, sandbox.RuleText{Text: text, Source: c.Tool})
	}
	compiled, err := policy.Compile()
	if err != nil {
		a.Error = err.Error()
		return a
	}
	s := sandbox.New(compiled, sandbox.Options{})
	watched := make(chan struct{})
	events := s.Events()
	go func() {
		defer close(watched)
		for e := range events {
			switch e.Kind {
			case sandbox.EventDeny:
				n.denied++
				a.Denied = append(a.Denied, fmt.Sprintf("%s %s%s:%d", e.Protocol, e.Name, address(e), e.Port))
			case sandbox.EventFlow:
				n.connections++
				n.up, n.down = n.up+e.BytesUp, n.down+e.BytesDown
			}
		}
	}()
	out, err := s.CombinedOutput(ctx)
	<-watched
	a.Output = string(out[:min(len(out), maxOutput)])
	if exit := (*sandbox.ExitError)(nil); errors.As(err, &exit) {
		a.Code = exit.ShellCode()
	} else if err != nil {
		a.Error = err.Error()
	}
	if err != nil {
		n.failed++
	}
	return a
}

func address(e sandbox.Event) string {
	if e.Name != "" || !e.Addr.IsValid() {
		return ""
	}
	return e.Addr.String()
}

// serve answers calls until there are none.
func serve(ctx context.Context, tools map[string]tool, in io.Reader, out io.Writer) (map[string]*counts, error) {
	all := map[string]*counts{}
	enc := json.NewEncoder(out)
	lines := bufio.NewScanner(in)
	for lines.Scan() {
		var c call
		a := answer{}
		if err := json.Unmarshal(lines.Bytes(), &c); err != nil {
			a.Error = "not a call: " + err.Error()
		} else if t, ok := tools[c.Tool]; !ok {
			a.Tool, a.Error = c.Tool, "no such tool"
		} else {
			if all[c.Tool] == nil {
				all[c.Tool] = &counts{}
			}
			a = t.run(ctx, c, all[c.Tool])
		}
		if err := enc.Encode(a); err != nil {
			return all, err
		}
	}
	return all, lines.Err()
}

func main() {
	var tools map[string]tool
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: toolbox TOOLS.json < CALLS > ANSWERS")
		os.Exit(2)
	}
	text, err := os.ReadFile(os.Args[1])
	if err == nil {
		err = json.Unmarshal(text, &tools)
	}
	var all map[string]*counts
	if err == nil {
		all, err = serve(context.Background(), tools, os.Stdin, os.Stdout)
	}
	for _, name := range slices.Sorted(maps.Keys(all)) {
		n := all[name]
		fmt.Fprintf(os.Stderr, "%s: %d calls, %d failed, %d connections, %d denials, %d bytes up, %d down\n",
			name, n.calls, n.failed, n.connections, n.denied, n.up, n.down)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "toolbox:", err)
		os.Exit(1)
	}
}
