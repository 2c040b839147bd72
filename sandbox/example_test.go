package sandbox_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/sandlock/sandlock/dispatch"
	"github.com/sandlock/sandlock/sandbox"
	"golang.org/x/sys/unix"
)

func Example() {
	policy := sandbox.Policy{
		Command: []string{"sh", "-c", "echo reached what it may"},
		Allow:   []sandbox.RuleText{{Text: "example.com:443", Source: "example"}},
	}
	compiled, err := policy.Compile()
	if err != nil {
		fmt.Println(err)
		return
	}
	out, err := sandbox.New(compiled, sandbox.Options{}).Output(context.Background())
	fmt.Printf("%s%v\n", out, err)
	// Output:
	// reached what it may
	// <nil>
}

func ExamplePolicy_Compile() {
	policy := sandbox.Policy{Allow: []sandbox.RuleText{{Text: "a..b:443", Source: "first"}, {Text: "a.test:99999", Source: "second"}}}
	_, err := policy.Compile()
	for line := range strings.SplitSeq(err.Error(), "\n") {
		source, _, _ := strings.Cut(line, " ")
		fmt.Println(source)
	}
	// Output:
	// first
	// second
}

func ExampleSandbox_Wait() {
	policy := sandbox.Policy{Command: []string{"sh", "-c", "exit 3"}}
	compiled, err := policy.Compile()
	if err != nil {
		fmt.Println(err)
		return
	}
	s := sandbox.New(compiled, sandbox.Options{})
	if err := s.Start(context.Background()); err != nil {
		fmt.Println(err)
		return
	}
	var exit *sandbox.ExitError
	if errors.As(s.Wait(), &exit) {
		fmt.Println(exit.ExitCode())
	}
	// Output: 3
}

// When the context ends, so does everything in the sandbox.
func ExampleSandbox_Run() {
	policy := sandbox.Policy{Command: []string{"sleep", "1000"}}
	compiled, err := policy.Compile()
	if err != nil {
		fmt.Println(err)
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Millisecond)
	defer cancel()
	fmt.Println(sandbox.New(compiled, sandbox.Options{}).Run(ctx))
	// Output: context deadline exceeded
}

func ExampleSandbox_Events() {
	policy := sandbox.Policy{Command: []string{"bash", "-c", "exec 3<>/dev/tcp/127.0.0.1/1"}}
	compiled, err := policy.Compile()
	if err != nil {
		fmt.Println(err)
		return
	}
	s := sandbox.New(compiled, sandbox.Options{})
	events := s.Events() // before the start
	if err := s.Start(context.Background()); err != nil {
		fmt.Println(err)
		return
	}
	for e := range events {
		if e.Kind == sandbox.EventDeny {
			fmt.Println(e.Protocol, e.Addr, e.Port, e.Reason)
		}
	}
	s.Wait()
	// Output: tcp 127.0.0.1 1 no rule allows it
}

// A file that is not there, for one program.
func ExampleOptions_handlers() {
	policy := sandbox.Policy{Command: []string{"cat", "/etc/greeting"}}
	compiled, err := policy.Compile()
	if err != nil {
		fmt.Println(err)
		return
	}
	greeting := dispatch.Registration{
		Name: "greeting", Syscalls: []int{unix.SYS_OPENAT},
		Handler: dispatch.HandlerFunc(func(c *dispatch.Call) dispatch.Action {
			path, err := c.ReadString(c.Arg(1), unix.PathMax)
			if err != nil || string(path) != "/etc/greeting" {
				return dispatch.Continue()
			}
			return dispatch.InjectBytes("greeting", []byte("hello\n"), true)
		}),
	}
	s := sandbox.New(compiled, sandbox.Options{Stdout: os.Stdout, Handlers: []dispatch.Registration{greeting}})
	if err := s.Run(context.Background()); err != nil {
		fmt.Println(err)
	}
	// Output: hello
}

func ExampleInspect() {
	policy := sandbox.Policy{Command: []string{"sleep", "1000"}, Name: "example-inspect", Audit: true}
	compiled, err := policy.Compile()
	if err != nil {
		fmt.Println(err)
		return
	}
	s := sandbox.New(compiled, sandbox.Options{Control: true})
	if err := s.Start(context.Background()); err != nil {
		fmt.Println(err)
		return
	}
	i, err := sandbox.Inspect("example-inspect")
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(i.State, i.Audit, i.Processes)
	fmt.Println(sandbox.KillRun("example-inspect"))
	fmt.Println(s.Wait())
	// Output:
	// running true 1
	// <nil>
	// signal: killed
}
