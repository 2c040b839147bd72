// Package trust makes programs trust the run's certificate authority without any
// setup: when one opens a bundle of certificates, it gets the bundle with the
// authority added, as a file in memory. Nothing is written to disk.
package trust

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/sandlock/sandlock/dispatch"
	"github.com/sandlock/sandlock/fsvirt/memfile"
	"github.com/sandlock/sandlock/fsvirt/open"
	"github.com/sandlock/sandlock/fsvirt/walk"
	"golang.org/x/sys/unix"
)

// maxBundle bounds what is taken for a bundle; those of distributions have a
// quarter of a megabyte.
const maxBundle = 16 << 20

// Authority gives the run's certificate. Its methods may be called from many
// goroutines. They block until the certificate exists or ctx ends.
type Authority interface {
	// PEM returns the certificate as PEM.
	PEM(ctx context.Context) ([]byte, error)
	// KeyStore returns a Java key store of original's type (JKS or PKCS 12) that
	// holds its entries and the certificate.
	KeyStore(ctx context.Context, original []byte) ([]byte, error)
}

// Config is what Views work with.
type Config struct {
	Authority Authority
	Walker    *walk.Walker
	Bundles   []string                // more bundles, PEM or Java key stores: absolute paths
	May       func(*walk.Object) bool // whether the command may read a bundle; nil: whatever it could open
	Fault     func(error)             // told when a view could not be made; must not block
}

// Views answers opens of bundles.
type Views struct {
	Config
	names  map[string]bool   // bundles, by the name that links end at
	ids    map[identity]bool // and by what was there at the start
	last   map[string]bool   // last components that are worth a walk
	etc    identity
	copies copies
}

type identity struct{ dev, ino uint64 }

func idOf(st *unix.Stat_t) identity { return identity{st.Dev, st.Ino} }

// New looks at the host's bundles. It opens nothing that stays open.
func New(c Config) *Views {
	v := &Views{Config: c, names: map[string]bool{}, ids: map[identity]bool{}, last: map[string]bool{}}
	for _, list := range [][]string{distributions[:], c.Bundles} {
		for _, path := range list {
			v.add(path)
		}
	}
	for _, p := range patterns {
		v.last[p.name] = true
	}
	v.last[filepath.Base(Invented)] = true
	var st unix.Stat_t
	if unix.Stat(filepath.Dir(Invented), &st) == nil {
		v.etc = idOf(&st)
	}
	return v
}

func (v *Views) add(path string) {
	v.names[path], v.last[filepath.Base(path)] = true, true
	var st unix.Stat_t
	if real, err := filepath.EvalSymlinks(path); err == nil && unix.Stat(real, &st) == nil {
		v.names[real], v.last[filepath.Base(real)] = true, true
		v.ids[idOf(&st)] = true
	}
}

// Forget drops what was made with the authority's certificate, for when that
// changed.
func (v *Views) Forget() {
	v.copies.mu.Lock()
	defer v.copies.mu.Unlock()
	v.copies.forget()
}

// Close closes the copies. No handler may be running.
func (v *Views) Close() { v.Forget() }

// Register puts the handler into the table: it traps every open.
func (v *Views) Register(t *dispatch.Table) {
	t.Builtin(dispatch.Registration{Name: "trust.open", Syscalls: open.Syscalls(), Handler: dispatch.HandlerFunc(v.open)})
}

// open adds to what a program sees and protects nothing: so it may let an open
// go on, to the next handler and to the kernel, after it looked at the path. A
// program that changes the path meanwhile gets the bundle as it is on disk.
func (v *Views) open(c *dispatch.Call) dispatch.Action {
	r, err := open.Decode(c)
	const others = unix.O_PATH | unix.O_DIRECTORY
	if err != nil || r.Writes() || r.Flags&others != 0 || !v.last[lastName(r.Path)] {
		return dispatch.Continue()
	}
	return dispatch.Defer(func(ctx context.Context) dispatch.Action {
		fd, err := v.view(ctx, c, &r)
		if err != nil {
			v.Fault(fmt.Errorf("trust bundle %q: %w", r.Path, err))
			return dispatch.Continue()
		}
		if fd < 0 {
			return dispatch.Continue()
		}
		return dispatch.InjectFD(fd, r.Flags&unix.O_CLOEXEC != 0)
	})
}

func lastName(path []byte) string { return string(path[bytes.LastIndexByte(path, '/')+1:]) }

// view returns a descriptor of what the program should see, -1 when the request
// is not about a bundle.
func (v *Views) view(ctx context.Context, c walk.Caller, r *open.Request) (int, error) {
	o, err := v.Walker.Walk(c, r.How())
	if err == unix.ENOENT {
		if v.invented(c, r) {
			return v.copies.get(identity{}, unix.Timespec{}, func() ([]byte, error) { return v.Authority.PEM(ctx) })
		}
		return -1, nil
	}
	if err != nil {
		return -1, nil // the kernel tells the program
	}
	defer o.Close()
	if !v.isBundle(&o) || !readable(&o.Stat) || v.May != nil && !v.May(&o) {
		return -1, nil
	}
	return v.copies.get(idOf(&o.Stat), o.Stat.Ctim, func() ([]byte, error) {
		original, err := memfile.Read(o.FD, maxBundle)
		if err != nil {
			return nil, err
		}
		if isKeyStore(original) {
			return v.Authority.KeyStore(ctx, original)
		}
		ca, err := v.Authority.PEM(ctx)
		if err != nil {
			return nil, err
		}
		return join(original, ca), nil
	})
}

// readable tells whether the program could read the file as well as we can.
func readable(st *unix.Stat_t) bool {
	const byAll = 0o004
	uid := os.Geteuid()
	return st.Mode&unix.S_IFMT == unix.S_IFREG && (st.Mode&byAll != 0 || uid != 0 && int(st.Uid) == uid)
}

func (v *Views) isBundle(o *walk.Object) bool {
	if v.ids[idOf(&o.Stat)] {
		return true
	}
	path, err := o.Path()
	if err != nil {
		return false
	}
	return v.names[path] || matches(path)
}

// invented tells whether a request names a file that exists only here: the one
// of Environment, or OpenSSL's default bundle where the host has none. A
// program with such an OpenSSL finds the other authorities by their hashes.
func (v *Views) invented(c walk.Caller, r *open.Request) bool {
	p, err := v.Walker.Place(c, r.How())
	if err != nil {
		return false
	}
	defer p.Close()
	if p.Object.FD >= 0 || p.Slash {
		return false
	}
	if p.Name == filepath.Base(Invented) {
		return idOf(&p.Parent.Stat) == v.etc
	}
	dir, err := p.Parent.Path()
	if err != nil {
		return false
	}
	return p.Name == "cert.pem" && (v.names[dir+"/"+p.Name] || matches(dir+"/"+p.Name))
}

// isKeyStore tells a Java key store, JKS or PKCS 12 (DER), from PEM.
func isKeyStore(b []byte) bool {
	return bytes.HasPrefix(b, []byte{0xfe, 0xed, 0xfe, 0xed}) || len(b) > 0 && b[0] == 0x30
}

func join(original, ca []byte) []byte {
	out := bytes.Clone(original)
	if len(out) > 0 && out[len(out)-1] != '\n' {
		out = append(out, '\n')
	}
	return append(out, ca...)
}

// matches tells whether a name is that of a bundle wherever it lies.
func matches(path string) bool {
	dir, name := filepath.Split(path)
	for _, p := range patterns {
		if name == p.name && strings.HasSuffix(dir, p.dir) {
			return true
		}
	}
	return false
}
