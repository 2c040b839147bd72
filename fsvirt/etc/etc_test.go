package etc

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sandlock/sandlock/fsvirt/open"
	"github.com/sandlock/sandlock/fsvirt/walk"
	"golang.org/x/sys/unix"
)

type self struct{}

func (self) PID() int            { return os.Getpid() }
func (self) FD(int) (int, error) { return -1, unix.EBADF }
func (self) Valid() error        { return nil }

func TestFind(t *testing.T) {
	dir := t.TempDir()
	at := func(name string) string { return filepath.Join(dir, name) }
	for _, d := range []string{"etc", "other"} {
		os.Mkdir(at(d), 0o700)
		os.WriteFile(at(d+"/hosts"), []byte("real"), 0o600)
	}
	os.WriteFile(at("real-resolv"), nil, 0o600)
	os.Symlink("../real-resolv", at("etc/resolv.conf"))
	os.Symlink("etc/hosts", at("other-hosts"))
	w, err := walk.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	v := New(w, File{at("etc/hosts"), []byte("HOSTS")}, File{at("etc/resolv.conf"), []byte("RESOLV")}, File{at("etc/hostname"), []byte("NAME")}, File{at("none/file"), []byte("NONE")})
	for name, want := range map[string]string{"etc/hosts": "HOSTS", "etc/../etc/hosts": "HOSTS", "etc/resolv.conf": "RESOLV", "real-resolv": "RESOLV", "etc/hostname": "NAME", "other/hosts": "", "other/hostname": "",
		"etc/none": "", "none/file": "", "etc/hostname/": "", "other-hosts": "HOSTS"} {
		got, ok := v.find(self{}, &open.Request{Dir: unix.AT_FDCWD, Path: []byte(at("") + "/" + name)})
		if ok != (want != "") || ok && string(got) != want {
			t.Errorf("%s: %q, want %q", name, got, want)
		}
		if last := lastName([]byte(name)); want != "" && !v.last[last] && !strings.HasPrefix(name, "other-") {
			t.Errorf("%s is not looked at", name)
		}
	}
}
