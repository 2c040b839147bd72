package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/sandlock/sandlock/bench/measure"
)

// command is ordinary work that opens many files or starts many processes.
type command struct {
	name     string
	args     []string
	runLimit float64 // the bar for "run", as a ratio
}

// netLimit is the bar for "net".
const netLimit = 1.03

// commands compares ordinary work, repeated inside one sandbox.
func commands(b *bench) error {
	list, err := b.commandLines()
	if err != nil {
		return err
	}
	for _, c := range list {
		if err := b.command(c, closed, netLimit); err != nil {
			return err
		}
	}
	return nil
}

func (b *bench) command(c command, how sandboxed, bar float64) error {
	bare, boxed, err := b.pairOf(how, b.worker())
	if err != nil {
		return err
	}
	defer bare.close()
	defer boxed.close()
	limit := measure.Limit{Rounds: 21, Busy: 2 * time.Second}
	if b.quick {
		limit = measure.Limit{Rounds: 5}
	}
	// Once for the caches.
	if _, err := measure.Interleave(measure.Limit{Rounds: 1}, bare.subject(1, "spawn", c.args...), boxed.subject(1, "spawn", c.args...)); err != nil {
		return err
	}
	before := boxed.supervised()
	s, err := measure.Interleave(limit, bare.subject(1, "spawn", c.args...), boxed.subject(1, "spawn", c.args...))
	if err != nil {
		return err
	}
	// The supervisor's own share belongs to the sandboxed side.
	share := each(boxed.supervised()-before, len(s[1]))
	for i := range s[1] {
		s[1][i].CPU += share
	}
	for _, part := range []struct {
		name string
		of   func(measure.Sample) time.Duration
	}{{"", measure.Wall}, {", CPU", measure.CPU}} {
		b.table.add(row{name: c.name + part.name, bare: span(s[0].Median(part.of)), boxed: span(s[1].Median(part.of))}.
			atMost(s[1].Ratio(s[0], part.of), bar))
	}
	return nil
}

const (
	treeFiles = 2000 // of the repository whose status is asked for
	imports   = "import json, email.message, http.client, asyncio, unittest, sqlite3, xml.dom.minidom, ctypes, decimal, argparse"
)

func (b *bench) commandLines() ([]command, error) {
	tree, err := b.repository()
	if err != nil {
		return nil, err
	}
	python, err := pythonProgram()
	if err != nil {
		return nil, err
	}
	files := func(name, text string) (string, error) {
		path := filepath.Join(b.dir, name)
		return path, os.WriteFile(path, []byte(text), 0o644)
	}
	script, err := files("imports.py", imports+"\n")
	if err != nil {
		return nil, err
	}
	// Through a pipe: tar reads no file whose archive goes to /dev/null.
	archive, err := files("tar.sh", "tar -cf - -C /usr include | cat >/dev/null\n")
	if err != nil {
		return nil, err
	}
	forks, err := files("forks.sh", "for i in "+strings.Repeat("x ", 100)+"; do /bin/true; done\n")
	if err != nil {
		return nil, err
	}
	return []command{
		{"tar of /usr/include", []string{"sh", archive}, 1.8},
		{"git status", []string{"git", "-C", tree, "status"}, 1.5},
		{"gcc", []string{"gcc", "-O1", "-c", "-o", "/dev/null", filepath.Join(b.dir, "src", "net.c")}, 1.2},
		{"python imports", []string{python, script}, 1.1},
		{"100 forks of sh", []string{"sh", forks}, 1.3},
	}, nil
}

// pythonProgram is the interpreter itself, not a version manager's wrapper.
func pythonProgram() (string, error) {
	path, err := exec.Command("python3", "-c", "import sys; print(sys.executable)").Output()
	return strings.TrimSpace(string(path)), err
}

// repository makes a git repository of many small files, once.
func (b *bench) repository() (string, error) {
	tree := filepath.Join(b.dir, "tree")
	if _, err := os.Stat(tree); err == nil {
		return tree, nil
	}
	for i := range treeFiles {
		dir := filepath.Join(tree, string(rune('a'+i%20)), string(rune('a'+i/20%10)))
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return "", err
		}
		if err := os.WriteFile(filepath.Join(dir, "f"+strings.Repeat("x", i/200)), []byte("content\n"), 0o644); err != nil {
			return "", err
		}
	}
	for _, args := range [][]string{{"init", "-q"}, {"add", "."}, {"-c", "user.name=bench", "-c", "user.email=bench@localhost", "commit", "-qm", "all"}} {
		if err := run("git", append([]string{"-C", tree}, args...)...); err != nil {
			return "", err
		}
	}
	return tree, nil
}
