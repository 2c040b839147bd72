// Package examples tests the programs below it: each is built and run.
package examples

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// example returns an example's program, which it builds unless it lies beside the
// program that SANDLOCK_BINARY names.
func example(t *testing.T, name string) string {
	t.Helper()
	if given := os.Getenv("SANDLOCK_BINARY"); given != "" {
		if built := filepath.Join(filepath.Dir(given), name); exec.Command("test", "-x", built).Run() == nil {
			return built
		}
	}
	bin := filepath.Join(t.TempDir(), name)
	if out, err := exec.Command("go", "build", "-o", bin, "./"+name).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	return bin
}

func TestAuditOpens(t *testing.T) {
	c := exec.Command(example(t, "auditopens"), "sh", "-c", "cat /etc/hostname /etc/hostname >/dev/null; exit 3")
	out, err := c.CombinedOutput()
	if c.ProcessState.ExitCode() != 3 || !strings.Contains(string(out), `2 "/etc/hostname"`) {
		t.Errorf("%v: %s", err, out)
	}
}

func TestDenyPath(t *testing.T) {
	bin, dir := example(t, "denypath"), t.TempDir()
	secret, open := filepath.Join(dir, "secret"), filepath.Join(dir, "open")
	for path, text := range map[string]string{secret + "/f": "hidden", secret + "x": "beside", open: "shown"} {
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink(secret, filepath.Join(dir, "link")); err != nil {
		t.Fatal(err)
	}
	for script, want := range map[string]string{
		"cat open":                      "shown",
		"cat secretx":                   "beside",
		"cat secret/f":                  "Permission denied",
		"cat link/f":                    "Permission denied",
		"cat ./secret/../link/f":        "Permission denied",
		"cd secret && cat f":            "Permission denied",
		"ls secret":                     "Permission denied",
		"mv secret other; cat other/f":  "not permitted",
		"ln secret/f f; cat f":          "not permitted",
		"echo x >open":                  "Read-only file system",
		"echo x >new":                   "Read-only file system",
		"cat open >/dev/null; echo two": "two",
	} {
		c := exec.Command(bin, secret, "sh", "-c", script)
		c.Dir = dir
		out, _ := c.CombinedOutput()
		if !strings.Contains(string(out), want) || strings.Contains(string(out), "hidden") {
			t.Errorf("%s: %s", script, out)
		}
	}
	if text, _ := os.ReadFile(open); string(text) != "shown" {
		t.Errorf("a file was changed: %q", text)
	}
	if _, err := os.Stat(filepath.Join(dir, "new")); err == nil {
		t.Error("a file was made")
	}
}

// Each tool reaches its own endpoints only: the one that was given none is denied.
func TestToolbox(t *testing.T) {
	tools := filepath.Join(t.TempDir(), "tools.json")
	const dial = `exec 3<>/dev/tcp/127.0.0.1/1 && echo reached`
	text := `{"say": {"command": ["echo"]}, "dial": {"command": ["bash", "-c", "` + dial + `"]}, "open": {"command": ["bash", "-c", "` + dial + `"], "allow": ["127.0.0.1:1"]}}`
	if err := os.WriteFile(tools, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	c := exec.Command(example(t, "toolbox"), tools)
	c.Stdin = strings.NewReader(`{"tool": "say", "args": ["one", "two"]}
{"tool": "dial"}
{"tool": "open"}
{"tool": "none"}
nonsense
`)
	var out, errs bytes.Buffer
	c.Stdout, c.Stderr = &out, &errs
	if err := c.Run(); err != nil {
		t.Fatalf("%v: %s", err, errs.String())
	}
	lines := strings.Split(strings.TrimSpace(out.String()), "\n")
	want := []string{`"output":"one two\n"`, `"denied":["tcp 127.0.0.1:1"]`, `"tool":"open"`, "no such tool", "not a call"}
	if len(lines) != len(want) {
		t.Fatalf("%q", lines)
	}
	for i := range want {
		if !strings.Contains(lines[i], want[i]) {
			t.Errorf("%s: no %s", lines[i], want[i])
		}
	}
	if strings.Contains(lines[2], "denied") {
		t.Errorf("the allowed tool is denied: %s", lines[2])
	}
	for _, want := range []string{"say: 1 calls, 0 failed", "dial: 1 calls, 1 failed, 0 connections, 1 denials"} {
		if !strings.Contains(errs.String(), want) {
			t.Errorf("no %q in %s", want, errs.String())
		}
	}
}
