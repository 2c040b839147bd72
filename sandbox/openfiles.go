package sandbox

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/sandlock/sandlock/fsvirt/dirs"
	"github.com/sandlock/sandlock/fsvirt/etc"
	"github.com/sandlock/sandlock/fsvirt/files"
	"github.com/sandlock/sandlock/fsvirt/proc"
	"github.com/sandlock/sandlock/fsvirt/walk"
	"github.com/sandlock/sandlock/internal/launch"
	"golang.org/x/sys/unix"
)

// openFiles makes what a policy about files needs: the temporary directory, the
// kernel's rules, and the handlers.
func openFiles(p *parts, c *Compiled, opts Options) error {
	p.env = c.Env
	if c.Files == nil {
		return nil
	}
	if p.create {
		return errors.New("pidfd_getfd(2) is refused here, which rules on files need; run the container with --cap-add=SYS_PTRACE")
	}
	tmp, err := os.MkdirTemp("", "sandlock-")
	if err != nil {
		return fmt.Errorf("temporary directory: %w", err)
	}
	p.onClose(func() { os.RemoveAll(tmp) })
	if p.random != nil {
		p.random.Overlook(tmp) // the one thing in arguments that differs from run to run
	}
	home := variable(c.Env, "HOME")
	o, err := openedTrees(append(c.trees(p.path, tmp, home), ownStreams(opts)...))
	if err != nil {
		return err
	}
	rules, err := fileRules(o, c.Files.Deny)
	if err != nil {
		return usage{fmt.Errorf("--fs-deny: %w", err)}
	}
	p.onClose(rules.Close)
	p.env = privateEnv(c, rules, tmp, home)
	for _, t := range o.trees {
		p.opened = append(p.opened, launch.FileRule{Path: t.path, Write: t.write, Optional: t.optional})
	}
	walker, err := walk.New(p.thread.Contains)
	if err != nil {
		return err
	}
	var usage func() (uint64, uint64)
	if p.memory != nil {
		usage = p.memory.Usage
	}
	p.etc = etc.New(walker, etcFiles(hostname(c))...)
	p.proc, err = proc.New(proc.Config{Member: p.thread.Contains, Members: p.thread.Members, Mounts: mounts(o), Emit: p.emit,
		Hostname: hostname(c), CPUs: c.Policy.Limits.ShowCPUs, Memory: usage, Offset: p.offset, TCP: p.filter.ProcNet, Passed: passesDirectories(c, opts)})
	if err != nil {
		return err
	}
	if c.Policy.SortedDirs {
		p.dirs = dirs.New()
	}
	p.files = files.New(files.Config{Rules: rules, Walker: walker, Proc: p.proc.Open, Listed: o.listed, Static: static(o), Emit: p.emit})
	return nil
}

// hostname is what the command sees as the host's name.
func hostname(c *Compiled) string {
	if c.Policy.Name != "" {
		return c.Policy.Name
	}
	return "sandlock"
}

// etcFiles are the files of /etc that would tell about the host. Names come from
// the embedded resolver, whatever server is asked.
func etcFiles(name string) []etc.File {
	hosts := "127.0.0.1 localhost\n::1 localhost\n127.0.0.1 " + name + "\n"
	resolv, err := os.ReadFile("/etc/resolv.conf")
	if err != nil {
		resolv = []byte("nameserver 127.0.0.1\n")
	}
	return []etc.File{{Path: "/etc/hosts", Content: []byte(hosts)}, {Path: "/etc/resolv.conf", Content: resolv}, {Path: "/etc/hostname", Content: []byte(name + "\n")}}
}

// ownStreams opens anew the files and terminals that the command has as its
// standard streams: scripts write to /dev/stderr.
func ownStreams(o Options) []fileTree {
	var out []fileTree
	for i, s := range []any{o.Stdin, o.Stdout, o.Stderr} {
		f, ok := s.(*os.File)
		if !ok || f == nil {
			continue
		}
		st, err := f.Stat()
		if err != nil || !st.Mode().IsRegular() && st.Mode()&os.ModeCharDevice == 0 {
			continue
		}
		if name, err := os.Readlink("/proc/self/fd/" + strconv.Itoa(int(f.Fd()))); err == nil {
			out = append(out, fileTree{name, i > 0 || !st.Mode().IsRegular(), true})
		}
	}
	return out
}

// passesDirectories tells whether the command is given descriptors that may be of
// directories.
func passesDirectories(c *Compiled, o Options) bool {
	for _, s := range []any{o.Stdin, o.Stdout, o.Stderr} {
		if f, ok := s.(*os.File); ok && f != nil {
			if st, err := f.Stat(); err != nil || st.IsDir() {
				return true
			}
		}
	}
	return len(c.Policy.PassFDs) > 0
}

// privateEnv is the command's environment with the temporary directory in TMPDIR
// and, where the home directory is closed, in HOME: programs take a home that is
// there and cannot be read for an error. What the user set with --env stays.
func privateEnv(c *Compiled, rules *files.Rules, tmp, home string) []string {
	var add []string
	put := func(name string) {
		if !slices.ContainsFunc(c.Policy.Env, func(kv string) bool { return strings.HasPrefix(kv, name+"=") }) {
			add = append(add, name+"="+tmp)
		}
	}
	put("TMPDIR")
	if real, err := filepath.EvalSymlinks(home); err != nil || rules.Access(real) == files.None {
		put("HOME")
	}
	return environment(c.Env, add, false)
}

// variable returns the value of a variable, "" when it is not set.
func variable(env []string, name string) string {
	for _, kv := range env {
		if value, ok := strings.CutPrefix(kv, name+"="); ok {
			return value
		}
	}
	return ""
}

func fileRules(o opened, deny []string) (*files.Rules, error) {
	var read, write []string
	for _, t := range o.trees {
		if t.write {
			write = append(write, t.path)
		} else {
			read = append(read, t.path)
		}
	}
	rules := files.NewRules(read, write)
	for _, path := range deny {
		if err := rules.Deny(path); err != nil {
			rules.Close()
			return nil, err
		}
	}
	return rules, nil
}

// mayLink are places where links into /proc are usual, such as /etc/mtab.
var mayLink = []string{"/etc", "/dev", "/var", "/run", "/sys"}

// static are the trees that the command can read and not change, by the names that
// they have here, but for those that may lead to /proc.
func static(o opened) []string {
	var out []string
	for _, t := range o.trees {
		changes := func(w fileTree) bool { return w.write && (within(w.path, t.path) || within(t.path, w.path)) }
		links := func(place string) bool { return within(t.path, place) }
		if !slices.ContainsFunc(o.trees, changes) && !slices.ContainsFunc(mayLink, links) {
			out = append(out, t.path)
		}
	}
	// Names of the default trees that are links themselves, and single files.
	for _, t := range defaultTrees() {
		real, err := filepath.EvalSymlinks(t.path)
		st, serr := os.Stat(t.path)
		if err == nil && serr == nil && !t.write && (slices.Contains(out, real) && real != t.path || st.Mode().IsRegular()) {
			out = append(out, t.path)
		}
	}
	return out
}

// fileSystems names the types of statfs(2) for the mount tables.
var fileSystems = map[int64]string{
	unix.EXT4_SUPER_MAGIC: "ext4", unix.TMPFS_MAGIC: "tmpfs", unix.OVERLAYFS_SUPER_MAGIC: "overlay", unix.XFS_SUPER_MAGIC: "xfs", unix.BTRFS_SUPER_MAGIC: "btrfs",
	unix.F2FS_SUPER_MAGIC: "f2fs", unix.NFS_SUPER_MAGIC: "nfs", unix.FUSE_SUPER_MAGIC: "fuse", unix.SQUASHFS_MAGIC: "squashfs",
}

// mounts are the lines of the mount tables: the directories that may be written.
func mounts(o opened) []proc.Mount {
	var out []proc.Mount
	for _, t := range o.trees {
		st, err := os.Stat(t.path)
		if err != nil || !t.write || !st.IsDir() {
			continue
		}
		kind := "unknown"
		var fs unix.Statfs_t
		if unix.Statfs(t.path, &fs) == nil {
			if name, ok := fileSystems[int64(fs.Type)]; ok {
				kind = name
			}
		}
		out = append(out, proc.Mount{Path: t.path, Type: kind, Write: true})
	}
	return out
}
