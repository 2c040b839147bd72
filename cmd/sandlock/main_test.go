package main

import (
	"errors"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"sandlock": main})
}

func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir:  "testdata/script",
		Cmds: map[string]func(*testscript.TestScript, bool, []string){"code": code},
	})
}

// code N[|M] CMD... runs the command and fails unless it ends with that code.
func code(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: code N[|M] command...")
	}
	var want []int
	for text := range strings.SplitSeq(args[0], "|") {
		n, err := strconv.Atoi(text)
		ts.Check(err)
		want = append(want, n)
	}
	err := ts.Exec(args[1], args[2:]...)
	got := 0
	if exit := (*exec.ExitError)(nil); errors.As(err, &exit) {
		got = exit.ExitCode()
	} else if err != nil {
		ts.Fatalf("%v", err)
	}
	if !slices.Contains(want, got) {
		ts.Fatalf("%s: exit code %d, want %s", strings.Join(args[1:], " "), got, args[0])
	}
}

// TestLinks keeps heavy packages, whose initialisation every run would pay for,
// out of the program.
func TestLinks(t *testing.T) {
	goTool, err := exec.LookPath("go")
	if _, statErr := os.Stat("main.go"); err != nil || statErr != nil {
		t.Skip("needs the go tool and the source")
	}
	out, err := exec.Command(goTool, "list", "-deps", ".").Output()
	if err != nil {
		t.Fatal(err)
	}
	deps := strings.Fields(string(out))
	if !slices.Contains(deps, "github.com/spf13/cobra") {
		t.Fatalf("no list of packages: %q", deps)
	}
	for _, heavy := range []string{"net/http", "crypto/tls", "crypto/x509", "github.com/elazarl/goproxy", "github.com/miekg/dns"} {
		if slices.Contains(deps, heavy) {
			t.Errorf("the program links %s", heavy)
		}
	}
}
