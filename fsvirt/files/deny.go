package files

import (
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"

	"github.com/sandlock/sandlock/fsvirt/walk"
	"golang.org/x/sys/unix"
)

// maxScanned bounds how many files below denied directories are looked at for
// other names.
const maxScanned = 1 << 20

// denied is a place that is closed whatever else is open. It is known by a pinned
// object, so it stays closed when it or a directory above it is renamed, and by the
// names that it had at the start, so what others put in its place is closed too.
type denied struct {
	pin   int // the object, or the nearest directory above a place that does not exist
	id    identity
	rest  string   // from the pinned directory to the place, "" for the object itself
	text  string   // as the user wrote it
	names []string // as the user wrote it, and without links
}

// Deny closes a place: a file, or a directory with all below it. path is absolute;
// links in it are followed. A place that is not there yet is closed too. A file's
// other names (hard links) are closed with it. It blocks while it reads the
// directories below, and fails when there are too many.
func (r *Rules) Deny(path string) error {
	at := filepath.Clean(path)
	d := denied{pin: -1, text: path, names: []string{at}}
	for {
		fd, err := unix.Open(at, unix.O_PATH|unix.O_CLOEXEC, 0)
		if err == nil {
			d.pin = fd
			break
		}
		if err != unix.ENOENT || at == "/" {
			return fmt.Errorf("%s: %w", at, err)
		}
		d.rest = "/" + filepath.Base(at) + d.rest
		at = filepath.Dir(at)
	}
	var st unix.Stat_t
	if err := unix.Fstat(d.pin, &st); err != nil {
		unix.Close(d.pin)
		return err
	}
	d.id = idOf(&st)
	place, err := d.place()
	if err != nil {
		unix.Close(d.pin)
		return err
	}
	d.names = append(d.names, place)
	r.denied = append(r.denied, d)
	if d.rest == "" && st.Mode&unix.S_IFMT == unix.S_IFDIR {
		return r.findLinks(at, path)
	}
	return nil
}

// findLinks remembers the files below a directory, which rule denies, that have
// names elsewhere.
func (r *Rules) findLinks(dir, rule string) error {
	seen := 0
	return filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil {
			return nil // closed to us, and so to the command
		}
		if seen++; seen > maxScanned {
			return fmt.Errorf("%s: more than %d files, too many to look for other names of them; deny a smaller directory", dir, maxScanned)
		}
		var st unix.Stat_t
		if e.Type().IsRegular() && unix.Lstat(path, &st) == nil && st.Nlink > 1 {
			r.links[idOf(&st)] = rule
		}
		return nil
	})
}

// HasDenied tells whether anything is denied inside of what is open.
func (r *Rules) HasDenied() bool { return len(r.denied) > 0 }

// Close gives back what Deny pinned.
func (r *Rules) Close() {
	for _, d := range r.denied {
		unix.Close(d.pin)
	}
	r.denied = nil
}

// place is where the denied place is at this moment.
func (d *denied) place() (string, error) {
	o := walk.Object{FD: d.pin}
	name, err := o.Path()
	return strings.TrimSuffix(name, "/") + d.rest, err
}

// places are where the denied place is at this moment, and where it was.
func (d *denied) places() ([]string, error) {
	place, err := d.place()
	if err != nil {
		return nil, err
	}
	return append([]string{place}, d.names...), nil
}

// Denied tells which denial closes an object of that name, as the user wrote it,
// and why; both are "" for none.
func (r *Rules) Denied(o *walk.Object, name string) (rule, reason string, err error) {
	id := idOf(&o.Stat)
	for i := range r.denied {
		d := &r.denied[i]
		if d.rest == "" && d.id == id {
			return d.text, isDenied, nil
		}
		places, err := d.places()
		if err != nil {
			return "", "", err
		}
		if slices.ContainsFunc(places, func(place string) bool { return below(name, place) }) {
			return d.text, isDenied, nil
		}
	}
	if rule, found := r.links[id]; found {
		return rule, isAlias, nil
	}
	return "", "", nil
}

// Holds tells whether a denied place is the object or lies below its name, whatever
// has that name: it must then keep it. An object with FD -1 is a name that is free.
func (r *Rules) Holds(o *walk.Object, name string) (bool, error) {
	if rule, _, err := r.Denied(o, name); rule != "" || err != nil {
		return rule != "", err
	}
	for i := range r.denied {
		places, err := r.denied[i].places()
		if err != nil {
			return false, err
		}
		if slices.ContainsFunc(places, func(place string) bool { return below(place, name) }) {
			return true, nil
		}
	}
	return false, nil
}
