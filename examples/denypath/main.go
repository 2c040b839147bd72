// Command denypath runs a program that can open no file below a directory, and
// change the content of none anywhere.
//
//	denypath DIRECTORY COMMAND [ARG...]
//
// It shows how a handler judges a path: it follows it once, judges where that led,
// opens this very file itself and hands over the descriptor. A handler that only
// looked at the path and then answered Continue could be deceived: by a symbolic
// link, by a second thread that changes the path, or by a rename.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/sandlock/sandlock/dispatch"
	"github.com/sandlock/sandlock/fsvirt/open"
	"github.com/sandlock/sandlock/fsvirt/walk"
	"github.com/sandlock/sandlock/sandbox"
	"golang.org/x/sys/unix"
)

type denier struct {
	dir    string
	walker *walk.Walker
}

// Handle leaves the work to a goroutine, for a file system may be slow.
func (d *denier) Handle(c *dispatch.Call) dispatch.Action {
	return dispatch.Defer(func(context.Context) dispatch.Action { return d.open(c) })
}

func (d *denier) open(c *dispatch.Call) dispatch.Action {
	r, err := open.Decode(c)
	if err != nil {
		return dispatch.Fail(err)
	}
	file, err := d.walker.Walk(c, r.How())
	if err == unix.ENOENT && r.Creates() {
		return dispatch.Errno(unix.EROFS)
	}
	if err != nil {
		return dispatch.Fail(err)
	}
	defer file.Close()
	device := file.Stat.Mode&unix.S_IFMT == unix.S_IFCHR // such as /dev/null
	if r.Writes() && !device {
		return dispatch.Errno(unix.EROFS)
	}
	name, err := file.Path()
	if err != nil || name == d.dir || strings.HasPrefix(name, d.dir+"/") {
		return dispatch.Errno(unix.EACCES)
	}
	const atWalk = unix.O_NOFOLLOW | unix.O_CREAT | unix.O_EXCL // done by the walk
	fd, err := unix.Open("/proc/self/fd/"+strconv.Itoa(file.FD), r.Flags&^atWalk|unix.O_CLOEXEC, 0)
	if err != nil {
		return dispatch.Fail(err)
	}
	return dispatch.InjectFD(fd, r.Flags&unix.O_CLOEXEC != 0)
}

func run(dir string, command []string) error {
	// The directory's real name, as the walk will find it.
	real, err := filepath.EvalSymlinks(dir)
	if err != nil {
		return err
	}
	if real, err = filepath.Abs(real); err != nil {
		return err
	}
	walker, err := walk.New(nil)
	if err != nil {
		return err
	}
	// What could give a file below the directory another name is denied, and so
	// is what changes content or directories without an open.
	policy := sandbox.Policy{Command: command, DenySyscalls: []string{
		"link", "linkat", "rename", "renameat", "renameat2", "symlink", "symlinkat", "truncate", "unlink", "unlinkat",
		"mkdir", "mkdirat", "mknod", "mknodat", "rmdir",
	}}
	compiled, err := policy.Compile()
	if err != nil {
		return err
	}
	return sandbox.New(compiled, sandbox.Options{
		Stdin: os.Stdin, Stdout: os.Stdout, Stderr: os.Stderr, Messages: os.Stderr,
		Handlers: []dispatch.Registration{{Name: "deny-path", Syscalls: open.Syscalls(), Handler: &denier{real, walker}}},
	}).Run(context.Background())
}

func main() {
	if len(os.Args) < 3 {
		fmt.Fprintln(os.Stderr, "usage: denypath DIRECTORY COMMAND [ARG...]")
		os.Exit(2)
	}
	err := run(os.Args[1], os.Args[2:])
	if exit := (*sandbox.ExitError)(nil); errors.As(err, &exit) {
		os.Exit(exit.ShellCode())
	} else if err != nil {
		fmt.Fprintln(os.Stderr, "denypath:", err)
		os.Exit(1)
	}
}
