package sandbox

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// Files says what of the file system a command may use, beside what every program
// needs: the system's programs and libraries, harmless settings, the command's own
// program, and a private temporary directory, which TMPDIR names. Relative paths
// begin at the caller's working directory.
type Files struct {
	Read  []string // trees and files that may be read and executed
	Write []string // those that may be changed too
	Deny  []string // closed whatever the others say; need not be there yet
}

// compileFiles makes the paths absolute and looks whether they are there.
func (c *Compiled) compileFiles(p *Policy) error {
	if p.Files == nil {
		return nil
	}
	var errs []error
	own := Files{}
	for _, list := range []struct {
		flag     string
		from     []string
		to       *[]string
		optional bool
	}{{"--fs-read", p.Files.Read, &own.Read, false}, {"--fs-write", p.Files.Write, &own.Write, false}, {"--fs-deny", p.Files.Deny, &own.Deny, true}} {
		for _, path := range list.from {
			abs, err := filepath.Abs(path)
			switch {
			case path == "" || strings.ContainsRune(path, 0):
				err = fmt.Errorf("%s: %q is not a path; write one such as /srv/data", list.flag, path)
			case err != nil:
				err = fmt.Errorf("%s: %q: %w", list.flag, path, err)
			case !list.optional:
				if _, serr := os.Stat(abs); serr != nil {
					err = fmt.Errorf("%s: %w; name a file or directory that is there", list.flag, serr)
				}
			}
			if err != nil {
				errs = append(errs, err)
				continue
			}
			*list.to = append(*list.to, abs)
		}
	}
	c.Files = &own
	return errors.Join(errs...)
}

// closed are places that the kernel opens to no command, whatever a rule says:
// what is harmless in /proc is shown by handlers.
func closed() []string {
	out := []string{"/proc", "/sys/class/net", "/sys/firmware", "/sys/kernel/security"}
	// The interfaces themselves lie with their devices.
	links, _ := filepath.Glob("/sys/class/net/*")
	for _, l := range links {
		if real, err := filepath.EvalSymlinks(l); err == nil {
			out = append(out, filepath.Dir(real))
		}
	}
	return append(out, procMounts()...)
}

// procMounts are the places where a proc file system is mounted (proc(5),
// /proc/pid/mountinfo): a container's tree may have its own.
func procMounts() []string {
	text, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return nil
	}
	var out []string
	for line := range strings.Lines(string(text)) {
		mount, rest, _ := strings.Cut(line, " - ")
		if fields := strings.Fields(mount); len(fields) > 4 && strings.HasPrefix(rest, "proc ") {
			out = append(out, unescapeMount(fields[4]))
		}
	}
	return out
}

// unescapeMount reads a path of mountinfo, where space, tab, newline and backslash
// are written in octal.
func unescapeMount(path string) string {
	return strings.NewReplacer(`\040`, " ", `\011`, "\t", `\012`, "\n", `\134`, `\`).Replace(path)
}

// fileTree is a file, or a directory with all below it, that is open.
type fileTree struct {
	path     string
	write    bool
	optional bool // may be missing
}

// opened is what the rules on files come to.
type opened struct {
	closed []string
	trees  []fileTree // without links, and without what is closed
	listed []string   // directories of which only the names are open
}

// openedTrees follows the links in the rules and leaves out what is closed.
func openedTrees(rules []fileTree) (opened, error) {
	o := opened{closed: closed()}
	for _, t := range rules {
		real, err := filepath.EvalSymlinks(t.path)
		if err != nil && t.optional {
			continue
		}
		if err != nil {
			return o, err
		}
		t.path = real
		if err := o.add(t); err != nil {
			return o, err
		}
	}
	return o, nil
}

func (o *opened) add(t fileTree) error {
	holds := false
	for _, c := range o.closed {
		if within(t.path, c) {
			return nil
		}
		holds = holds || within(c, t.path)
	}
	if !holds {
		o.trees = append(o.trees, t)
		return nil
	}
	// Something closed lies in it: its entries are opened one by one.
	o.listed = append(o.listed, t.path)
	entries, err := os.ReadDir(t.path)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if e.Type()&os.ModeSymlink != 0 {
			continue // a rule on a link would open what it leads to
		}
		if err := o.add(fileTree{filepath.Join(t.path, e.Name()), t.write, true}); err != nil {
			return err
		}
	}
	return nil
}

// within tells whether a path is that of a tree or lies in it.
func within(path, tree string) bool {
	return path == tree || tree == "/" || strings.HasPrefix(path, tree+"/")
}

// maxShebang is how much of a script is read to find its interpreter
// (BINPRM_BUF_SIZE of linux/binfmts.h).
const maxShebang = 256

// programTrees opens a program: its file and, where it is installed into a prefix
// of its own, the libraries there. A script opens its interpreter too.
func programTrees(path string, home string) []fileTree {
	var out []fileTree
	for range 2 {
		real, err := filepath.EvalSymlinks(path)
		if err != nil {
			return out
		}
		out = append(out, fileTree{real, false, false})
		prefix := filepath.Dir(filepath.Dir(real))
		if filepath.Base(filepath.Dir(real)) == "bin" && isPrefix(prefix, home) {
			out = append(out, fileTree{prefix, false, true})
		}
		if path = interpreter(real); path == "" {
			return out
		}
	}
	return out
}

// isPrefix tells whether a directory holds an installed program and nothing else:
// not a home directory, and not what programs keep there for the user.
func isPrefix(dir, home string) bool {
	if dir == "/" || home != "" && within(home, dir) || filepath.Base(dir) == ".local" {
		return false
	}
	st, err := os.Stat(filepath.Join(dir, "lib"))
	return err == nil && st.IsDir()
}

// interpreter returns the program behind "#!" of a script, "" for none.
func interpreter(path string) string {
	f, err := os.Open(path)
	if err != nil {
		return ""
	}
	defer f.Close()
	buf := make([]byte, maxShebang)
	n, _ := f.Read(buf)
	line, _, _ := strings.Cut(string(buf[:n]), "\n")
	rest, ok := strings.CutPrefix(line, "#!")
	if words := strings.Fields(rest); ok && len(words) > 0 && filepath.IsAbs(words[0]) {
		return words[0]
	}
	return ""
}

// trees are all rules of a run: the defaults, the program, and the user's.
func (c *Compiled) trees(program, tmp, home string) []fileTree {
	out := slices.Clone(defaultTrees())
	out = append(out, programTrees(program, home)...)
	out = append(out, fileTree{tmp, true, false})
	for _, path := range c.Files.Read {
		out = append(out, fileTree{path, false, false})
	}
	for _, path := range c.Files.Write {
		out = append(out, fileTree{path, true, false})
	}
	return out
}
