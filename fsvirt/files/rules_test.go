package files

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/sandlock/sandlock/fsvirt/walk"
	"golang.org/x/sys/unix"
)

func TestAccess(t *testing.T) {
	r := NewRules([]string{"/usr", "/etc/hosts", "/srv/data"}, []string{"/srv/data/out", "/usr"})
	for name, want := range map[string]Access{"/usr": Write, "/usr/lib/x": Write, "/usrlocal": None, "/": None, "/etc": None, "/etc/hosts": Read, "/etc/hosts2": None,
		"/srv/data/in/x": Read, "/srv/data/out/x": Write, "/srv/data/outer": Read, "": None} {
		if got := r.Access(name); got != want {
			t.Errorf("%s: %v, want %v", name, got, want)
		}
	}
	if got := NewRules([]string{"/"}, nil).Access("/any/thing"); got != Read {
		t.Errorf("below the root: %v", got)
	}
}

func pin(t *testing.T, path string) *walk.Object {
	t.Helper()
	fd, err := unix.Open(path, unix.O_PATH|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	o := &walk.Object{FD: fd}
	t.Cleanup(o.Close)
	if err := unix.Fstat(fd, &o.Stat); err != nil {
		t.Fatal(err)
	}
	return o
}

// A denial follows its object and the directories above it to other names.
func TestDeniedMoves(t *testing.T) {
	dir, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	at := func(name string) string { return filepath.Join(dir, name) }
	for _, d := range []string{"a", "a/b", "a/b/closed", "other"} {
		if err := os.Mkdir(at(d), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	for _, f := range []string{"a/b/file", "a/b/closed/f", "a/open"} {
		if err := os.WriteFile(at(f), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Link(at("a/b/closed/f"), at("other/f")); err != nil {
		t.Fatal(err)
	}
	r := NewRules(nil, []string{dir})
	defer r.Close()
	for _, path := range []string{"a/b/file", "a/b/closed", "a/b/absent/deep"} {
		if err := r.Deny(at(path)); err != nil {
			t.Fatal(err)
		}
	}
	denied := func(name string) bool {
		t.Helper()
		o := &walk.Object{FD: -1}
		if _, err := os.Lstat(at(name)); err == nil {
			o = pin(t, at(name))
		}
		text, _, err := r.Denied(o, at(name))
		if err != nil {
			t.Fatal(err)
		}
		return text != ""
	}
	check := func(open, closed []string) {
		t.Helper()
		for _, n := range open {
			if denied(n) {
				t.Errorf("%s is denied", n)
			}
		}
		for _, n := range closed {
			if !denied(n) {
				t.Errorf("%s is not denied", n)
			}
		}
	}
	check([]string{"a", "a/b", "a/open", "a/b/absent", "a/b/closed2"}, []string{"a/b/file", "a/b/closed", "a/b/closed/f", "a/b/closed/new", "other/f", "a/b/absent/deep", "a/b/absent/deep/x"})
	for name, want := range map[string]bool{"a": true, "a/b": true, "a/b/file": true, "a/open": false, "other": false} {
		if got, err := r.Holds(pin(t, at(name)), at(name)); err != nil || got != want {
			t.Errorf("%s holds a denied place: %v %v", name, got, err)
		}
	}
	if err := os.Rename(at("a"), at("z")); err != nil {
		t.Fatal(err)
	}
	check([]string{"z/open", "z/b"}, []string{"z/b/file", "z/b/closed", "z/b/closed/f", "z/b/closed/new", "other/f", "z/b/absent/deep"})
}

// What others put in the place of a denied object is closed, and the object stays
// closed where they moved it.
func TestDeniedReplaced(t *testing.T) {
	dir, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	at := func(name string) string { return filepath.Join(dir, name) }
	do := func(errs ...error) {
		t.Helper()
		for _, err := range errs {
			if err != nil {
				t.Fatal(err)
			}
		}
	}
	write := func(name string) error { return os.WriteFile(at(name), nil, 0o600) }
	mkdir := func(name string) error { return os.MkdirAll(at(name), 0o700) }
	do(mkdir("closed"), mkdir("conf"), mkdir("real"), write("file"), write("closed/f"), write("real/f"), os.Link(at("closed/f"), at("other")), os.Symlink("real", at("link")))
	r := NewRules(nil, []string{dir})
	defer r.Close()
	for _, name := range []string{"file", "closed", "conf/later", "link/f"} {
		do(r.Deny(at(name)))
	}
	why := func(name string) (rule, reason string) {
		t.Helper()
		rule, reason, err := r.Denied(pin(t, at(name)), at(name))
		do(err)
		return rule, reason
	}
	if rule, reason := why("other"); rule != at("closed") || reason != isAlias {
		t.Errorf("another name: rule %q, %q", rule, reason)
	}
	do(write("new"), os.Rename(at("new"), at("file")))
	do(os.Rename(at("closed"), at("moved")), mkdir("closed"), write("closed/g"))
	do(os.Remove(at("conf")), mkdir("conf"), write("conf/later"), write("conf/open"))
	do(os.Remove(at("link")), mkdir("link"), write("link/f"), write("open"))
	for name, want := range map[string]string{"file": "file", "closed/g": "closed", "moved/f": "closed", "conf/later": "conf/later", "link/f": "link/f", "real/f": "link/f", "open": "", "conf/open": ""} {
		if want != "" {
			want = at(want)
		}
		if rule, _ := why(name); rule != want {
			t.Errorf("%s: denied by %q, want %q", name, rule, want)
		}
	}
	do(os.RemoveAll(at("conf")), write("conf"))
	for name, want := range map[string]bool{"conf": true, "open": false} { // whatever it is
		if got, err := r.Holds(pin(t, at(name)), at(name)); err != nil || got != want {
			t.Errorf("%s holds a denied place: %v %v", name, got, err)
		}
	}
	do(os.Remove(at("conf")))
	for name, want := range map[string]bool{"conf": true, "free": false} {
		if got, err := r.Holds(&walk.Object{FD: -1}, at(name)); err != nil || got != want {
			t.Errorf("the free name %s holds a denied place: %v %v", name, got, err)
		}
	}
}
