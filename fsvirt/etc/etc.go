// Package etc answers opens of single files of the host with content of the
// sandbox's own: /etc/hosts, /etc/hostname and their like.
package etc

import (
	"bytes"
	"os"
	"path/filepath"

	"github.com/sandlock/sandlock/dispatch"
	"github.com/sandlock/sandlock/fsvirt/open"
	"github.com/sandlock/sandlock/fsvirt/walk"
	"golang.org/x/sys/unix"
)

// File is a file of the host and what the sandbox reads there. A file that the
// host has not is there for the sandbox, if its directory is.
type File struct {
	Path    string // absolute
	Content []byte
}

// Views answers opens of files.
type Views struct {
	walker *walk.Walker
	files  map[identity][]byte // by what was there at the start
	absent map[place][]byte
	last   map[string]bool // last components that are worth a walk
}

type identity struct{ dev, ino uint64 }

// place is an entry of a directory.
type place struct {
	dir  identity
	name string
}

func idOf(st *unix.Stat_t) identity { return identity{st.Dev, st.Ino} }

// New looks at the files of the host. It opens none.
func New(w *walk.Walker, files ...File) *Views {
	v := &Views{walker: w, files: map[identity][]byte{}, absent: map[place][]byte{}, last: map[string]bool{}}
	for _, f := range files {
		dir, name := filepath.Split(f.Path)
		v.last[name] = true
		var st unix.Stat_t
		if unix.Stat(f.Path, &st) == nil {
			v.files[idOf(&st)] = f.Content
			if real, err := filepath.EvalSymlinks(f.Path); err == nil {
				v.last[filepath.Base(real)] = true
			}
		} else if _, err := os.Lstat(f.Path); os.IsNotExist(err) && unix.Stat(dir, &st) == nil {
			v.absent[place{idOf(&st), name}] = f.Content
		}
	}
	return v
}

// Register puts the handler into the table: it traps every open.
func (v *Views) Register(t *dispatch.Table) {
	t.Builtin(dispatch.Registration{Name: "etc.open", Syscalls: open.Syscalls(), Handler: dispatch.HandlerFunc(v.open)})
}

// open shows other content and protects nothing: what it does not answer goes on
// to the next handler and to the kernel. The path is looked at by its end first,
// for nearly no open is about these files.
func (v *Views) open(c *dispatch.Call) dispatch.Action {
	r, err := open.Decode(c)
	const others = unix.O_PATH | unix.O_DIRECTORY
	if err != nil || r.Writes() || r.Flags&others != 0 || !v.last[lastName(r.Path)] {
		return dispatch.Continue()
	}
	content, ok := v.find(c, &r)
	if !ok {
		return dispatch.Continue()
	}
	return dispatch.InjectBytes(lastName(r.Path), content, r.Flags&unix.O_CLOEXEC != 0)
}

func lastName(path []byte) string { return string(path[bytes.LastIndexByte(path, '/')+1:]) }

func (v *Views) find(c walk.Caller, r *open.Request) ([]byte, bool) {
	o, err := v.walker.Walk(c, r.How())
	if err == nil {
		defer o.Close()
		content, ok := v.files[idOf(&o.Stat)]
		return content, ok
	}
	if err != unix.ENOENT || len(v.absent) == 0 {
		return nil, false
	}
	p, err := v.walker.Place(c, r.How())
	if err != nil {
		return nil, false
	}
	defer p.Close()
	content, ok := v.absent[place{idOf(&p.Parent.Stat), p.Name}]
	return content, ok && p.Object.FD < 0 && !p.Slash
}
