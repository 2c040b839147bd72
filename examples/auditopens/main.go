// Command auditopens runs a program without network and tells which files it
// opened, and how often.
//
//	auditopens COMMAND [ARG...]
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"sync"

	"github.com/sandlock/sandlock/dispatch"
	"github.com/sandlock/sandlock/fsvirt/open"
	"github.com/sandlock/sandlock/sandbox"
)

// audit is a handler with state of its own: it lives as long as the sandbox.
type audit struct {
	mu    sync.Mutex
	opens map[string]int
}

// Handle notes the path and lets the call go on. What it saw decides nothing, so
// it does not matter that the program could change it meanwhile.
func (a *audit) Handle(c *dispatch.Call) dispatch.Action {
	if r, err := open.Decode(c); err == nil {
		a.mu.Lock()
		defer a.mu.Unlock()
		a.opens[string(r.Path)]++
	}
	return dispatch.Continue()
}

func main() {
	a := &audit{opens: map[string]int{}}
	policy := sandbox.Policy{Command: os.Args[1:]}
	compiled, err := policy.Compile()
	if err == nil {
		err = sandbox.New(compiled, sandbox.Options{
			Stdin: os.Stdin, Stdout: os.Stdout, Stderr: os.Stderr, Messages: os.Stderr,
			// The whole family: a path can be opened by each of these calls.
			Handlers: []dispatch.Registration{{Name: "audit", Syscalls: open.Syscalls(), Handler: a}},
		}).Run(context.Background())
	}
	paths := make([]string, 0, len(a.opens))
	for path := range a.opens {
		paths = append(paths, path)
	}
	slices.Sort(paths)
	for _, path := range paths {
		fmt.Fprintf(os.Stderr, "%6d %q\n", a.opens[path], path)
	}
	if exit := (*sandbox.ExitError)(nil); errors.As(err, &exit) {
		os.Exit(exit.ShellCode())
	} else if err != nil {
		fmt.Fprintln(os.Stderr, "auditopens:", err)
		os.Exit(1)
	}
}
