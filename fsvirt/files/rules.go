// Package files decides what of the file system a sandbox may use. The kernel
// (Landlock) denies first wherever it can; this package judges what Landlock does
// not govern, closes single files inside of open trees, and says why an open was
// refused.
package files

import (
	"strings"

	"github.com/sandlock/sandlock/fsvirt/walk"
	"golang.org/x/sys/unix"
)

// Access is what a rule opens.
type Access uint8

// A tree that may be written may be read too.
const (
	None Access = iota
	Read
	Write
)

// Rules says which trees are open. Names are those of the objects themselves:
// absolute, clean, and free of symbolic links.
type Rules struct {
	grants map[string]Access
	all    Access // of "/"
	denied []denied
	links  map[identity]string // files below a denied directory that have other names too -> its rule
}

type identity struct{ dev, ino uint64 }

func idOf(st *unix.Stat_t) identity { return identity{st.Dev, st.Ino} }

// NewRules returns the rules that open the given trees and nothing else.
func NewRules(read, write []string) *Rules {
	r := &Rules{grants: map[string]Access{}, links: map[identity]string{}}
	for _, p := range read {
		r.grant(p, Read)
	}
	for _, p := range write {
		r.grant(p, Write)
	}
	return r
}

func (r *Rules) grant(path string, a Access) {
	if path == "/" {
		r.all = max(r.all, a)
		return
	}
	r.grants[path] = max(r.grants[path], a)
}

// Access returns what the rules open of a name, denials apart.
func (r *Rules) Access(name string) Access {
	best := r.all
	for end := len(name); end > 0 && best < Write; {
		best = max(best, r.grants[name[:end]])
		end = strings.LastIndexByte(name[:end], '/')
	}
	return best
}

const deletedMark = " (deleted)"

// named tells whether an object has a place in the file system, and where. What
// has none (a pipe, a file in memory) belongs to whoever holds it.
func named(o *walk.Object) (name string, ok bool, err error) {
	name, err = o.Path()
	if err != nil {
		return "", false, err
	}
	if !strings.HasPrefix(name, "/") {
		return name, false, nil
	}
	if o.Stat.Nlink == 0 && strings.HasSuffix(name, deletedMark) {
		name = strings.TrimSuffix(name, deletedMark)
		if strings.HasPrefix(name, "/memfd:") {
			return name, false, nil
		}
	}
	return name, true, nil
}

// below tells whether a name is that of a tree or lies in it.
func below(name, tree string) bool {
	return name == tree || strings.HasPrefix(name, tree) && (tree == "/" || name[len(tree)] == '/')
}
