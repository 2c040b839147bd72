package walk

import (
	"errors"
	"fmt"
	"math/rand"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// process stands for a thread of the sandbox: it is another process than the
// walker's own.
type process struct {
	pid  int
	fds  map[int]int // its descriptors by number, as descriptors of ours
	dead bool        // no longer waits
}

func (p process) PID() int { return p.pid }
func (p process) FD(fd int) (int, error) {
	own, ok := p.fds[fd]
	if !ok {
		return -1, unix.EBADF
	}
	return unix.FcntlInt(uintptr(own), unix.F_DUPFD_CLOEXEC, 0)
}
func (p process) Valid() error {
	if p.dead {
		return errors.New("gone")
	}
	return nil
}

// start runs a process with the working directory dir that waits until the test
// ends.
func start(t testing.TB, dir string) process {
	t.Helper()
	c := exec.Command("sleep", "1000")
	c.Dir = dir
	c.Args[0] = "walk-test"
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Process.Kill(); c.Wait() })
	return process{pid: c.Process.Pid, fds: map[int]int{}}
}

func walker(t testing.TB, member func(int) bool) *Walker {
	t.Helper()
	w, err := New(member)
	if err != nil {
		t.Fatal(err)
	}
	return w
}

// read opens what a path leads to and returns its content.
func read(t *testing.T, w *Walker, c Caller, h How) (string, error) {
	t.Helper()
	o, err := w.Walk(c, h)
	if err != nil {
		if o.FD >= 0 {
			t.Errorf("%q: a descriptor beside the error %v", h.Path, err)
		}
		return "", err
	}
	defer o.Close()
	b, err := os.ReadFile(fdPath(o.FD))
	return string(b), err
}

func at(dir int, path string) How { return How{Dir: dir, Path: []byte(path)} }

const cwd = unix.AT_FDCWD

func TestProcIsTheCallers(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "file"), []byte("content"), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, to := range map[string]string{"proc": "/proc", "self": "/proc/self", "me": "proc/self/comm", "deep": "proc/../proc/thread-self/status"} {
		if err := os.Symlink(to, filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	c := start(t, dir)
	proc, err := unix.Open("/proc", unix.O_PATH, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(proc)
	c.fds[9] = proc
	w := walker(t, nil)
	pid := strconv.Itoa(c.pid)
	for _, h := range []How{
		at(cwd, "/proc/self/status"), at(cwd, "/proc/thread-self/status"), at(cwd, "//proc/./self/../self/status"), at(9, "self/status"), at(9, "./thread-self/status"),
		at(cwd, "proc/self/status"), at(cwd, "self/status"), at(cwd, "deep"), at(cwd, "/proc/self/root/proc/self/status"), at(cwd, "/proc/self/cwd/self/status"),
		at(cwd, "/proc/self/task/"+pid+"/status"), at(cwd, "/proc/self/cwd/proc/self/status"), at(cwd, "/proc/"+pid+"/status"), at(cwd, "../../../../../../../proc/self/status"),
		at(cwd, "/dev/fd/../status"), at(cwd, "/proc/self/cwd/../../../../../../../proc/self/status"),
	} {
		text, err := read(t, w, c, h)
		if err != nil || !strings.Contains(text, "\nPid:\t"+pid+"\n") {
			t.Errorf("%q: %v: %.80q", h.Path, err, text)
		}
	}
	if text, err := read(t, w, c, at(cwd, "me")); err != nil || text != "sleep\n" {
		t.Errorf("me: %q %v", text, err)
	}
	if text, err := read(t, w, c, at(cwd, "/proc/self/cwd/file")); err != nil || text != "content" {
		t.Errorf("the working directory through /proc: %q %v", text, err)
	}
	if _, err := read(t, w, c, at(cwd, "/proc/self/fd/"+strconv.Itoa(proc))); err != unix.ENOENT {
		t.Errorf("a descriptor of ours through /proc/self: %v", err)
	}
}

func TestProcNames(t *testing.T) {
	c, w := start(t, "/"), walker(t, nil)
	pid := strconv.Itoa(c.pid)
	for path, want := range map[string]string{"/proc": "", "/proc/": "", "/proc/self": pid, "/proc/self/status": pid + " status", "/proc/self/task/" + pid + "/fd": pid + " task " + pid + " fd",
		"/proc/meminfo": "meminfo", "/proc/sys/kernel/hostname": "sys kernel hostname", "/proc/net/dev": pid + " net dev", "/proc/mounts": pid + " mounts"} {
		o, err := w.Walk(c, at(cwd, path))
		if err != nil {
			t.Errorf("%s: %v", path, err)
			continue
		}
		names, err := o.ProcName()
		if got := strings.Join(names, " "); err != nil || got != want {
			t.Errorf("%s: %q %v, want %q", path, got, err, want)
		}
		o.Close()
	}
}

// Only the links of the sandbox's own processes are followed.
func TestLinksOfOthers(t *testing.T) {
	c, other := start(t, "/tmp"), start(t, "/usr")
	own := fmt.Sprint("/proc/", os.Getpid())
	paths := []string{own + "/cwd", own + "/root", own + "/exe", own + "/fd/0", own + "/task/" + strconv.Itoa(os.Getpid()) + "/root/etc/passwd", "/proc/1/root", fmt.Sprint("/proc/", other.pid, "/cwd")}
	for _, path := range paths {
		if _, err := read(t, walker(t, nil), c, at(cwd, path)); err != unix.EACCES {
			t.Errorf("%s: %v, want EACCES", path, err)
		}
	}
	w := walker(t, func(pid int) bool { return pid == other.pid })
	o, err := w.Walk(c, at(cwd, paths[len(paths)-1]))
	if err != nil {
		t.Fatal(err)
	}
	defer o.Close()
	if path, err := o.Path(); err != nil || path != "/usr" {
		t.Errorf("a member's working directory: %q %v", path, err)
	}
}

func TestRefusals(t *testing.T) {
	dir := t.TempDir()
	os.Symlink("loop", filepath.Join(dir, "loop"))
	os.WriteFile(filepath.Join(dir, "file"), nil, 0o600)
	os.WriteFile(filepath.Join(dir, "\xff\xfe"), []byte("bytes"), 0o600)
	c, w := start(t, dir), walker(t, nil)
	long := strings.Repeat("a/", PathMax)
	for _, x := range []struct {
		h    How
		want error
	}{
		{at(cwd, ""), unix.ENOENT}, {at(cwd, "loop"), unix.ELOOP}, {at(cwd, "file/"), unix.ENOTDIR}, {at(cwd, "file/x"), unix.ENOTDIR}, {at(cwd, long), unix.ENAMETOOLONG},
		{at(cwd, strings.Repeat("a", 256)), unix.ENAMETOOLONG}, {at(77, "file"), unix.EBADF}, {at(cwd, "a\x00b"), unix.EINVAL}, {at(cwd, "none"), unix.ENOENT}, {at(cwd, "none/none"), unix.ENOENT},
		{How{Dir: cwd, Path: []byte("/proc/self/cwd"), Resolve: unix.RESOLVE_NO_MAGICLINKS}, unix.ELOOP}, {How{Dir: cwd, Path: []byte("/proc/self/status"), Resolve: unix.RESOLVE_NO_SYMLINKS}, unix.ELOOP},
		{How{Dir: cwd, Path: []byte("/etc"), Resolve: unix.RESOLVE_BENEATH}, unix.EXDEV}, {How{Dir: cwd, Path: []byte("../x"), Resolve: unix.RESOLVE_BENEATH}, unix.EXDEV},
		{How{Dir: cwd, Path: []byte("/proc/self/status"), Resolve: unix.RESOLVE_NO_XDEV}, unix.EXDEV}, {How{Dir: cwd, Path: []byte("x"), Resolve: 0x40}, unix.EINVAL},
	} {
		if _, err := read(t, w, c, x.h); err != x.want {
			t.Errorf("%.20q %#x: %v, want %v", x.h.Path, x.h.Resolve, err, x.want)
		}
	}
	if text, err := read(t, w, c, at(cwd, "\xff\xfe")); err != nil || text != "bytes" {
		t.Errorf("a name that is no text: %q %v", text, err)
	}
	if text, err := read(t, w, c, How{Dir: cwd, Path: []byte("/../\xff\xfe"), Resolve: unix.RESOLVE_IN_ROOT}); err != nil || text != "bytes" {
		t.Errorf("in the root of a call: %q %v", text, err)
	}
	gone := c
	gone.dead = true
	if _, err := w.Walk(gone, at(cwd, "file")); err == nil {
		t.Error("a caller that is gone has a working directory")
	}
}

func TestPlace(t *testing.T) {
	dir := t.TempDir()
	os.WriteFile(filepath.Join(dir, "file"), nil, 0o600)
	os.Mkdir(filepath.Join(dir, "sub"), 0o700)
	os.Symlink("sub/new", filepath.Join(dir, "dangling"))
	os.Symlink("file", filepath.Join(dir, "link"))
	c, w := start(t, dir), walker(t, nil)
	for _, x := range []struct {
		path     string
		noFollow bool
		parent   string
		name     string
		there    bool
	}{
		{"file", false, "", "file", true}, {"new", false, "", "new", false}, {"sub/../new", false, "", "new", false}, {"dangling", false, "/sub", "new", false}, {"dangling", true, "", "dangling", true},
		{"link", false, "", "file", true}, {"link", true, "", "link", true}, {"/proc/self/cwd/new", false, "", "new", false}, {"sub/", false, "", "sub", true}, {"new/", false, "", "new", false}, {"sub/.", false, "/sub", ".", true},
	} {
		p, err := w.Place(c, How{Dir: cwd, Path: []byte(x.path), NoFollow: x.noFollow})
		if err != nil {
			t.Errorf("%s: %v", x.path, err)
			continue
		}
		parent, err := p.Parent.Path()
		if err != nil || parent != dir+x.parent || p.Name != x.name || (p.Object.FD >= 0) != x.there || p.Slash != strings.HasSuffix(x.path, "/") {
			t.Errorf("%s: %s %+v %v", x.path, parent, p, err)
		}
		p.Close()
	}
	if p, err := w.Place(c, at(cwd, "none/new")); err != unix.ENOENT || p.Parent.FD >= 0 {
		t.Errorf("without a parent: %+v %v", p, err)
	}
}

// forest makes a tree of directories, files and links of all sorts.
func forest(t testing.TB) string {
	root, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range []string{"a", "a/b", "a/b/c", "d"} {
		if err := os.Mkdir(filepath.Join(root, d), 0o700); err != nil {
			t.Fatal(err)
		}
		os.WriteFile(filepath.Join(root, d, "f"), []byte(d), 0o600)
	}
	for name, to := range map[string]string{"d/up": "..", "d/ab": "../a/b", "a/abs": root + "/d", "a/b/loop": "loop", "a/b/x": "y", "a/b/y": "x", "d/dangling": "none/none", "a/slash": "b/", "d/tmp": "/tmp", "d/root": "/"} {
		if err := os.Symlink(to, filepath.Join(root, name)); err != nil {
			t.Fatal(err)
		}
	}
	return root
}

// agree fails when the component walk and the kernel differ on a path.
func agree(t *testing.T, w *Walker, c process, base int, path string, resolve uint64, noFollow bool) {
	t.Helper()
	want, wantErr := pin(openat2(base, path, pathFlags(noFollow), resolve))
	defer func() { want.Close() }()
	s := steps{w: w, c: c, h: How{Path: []byte(path), Resolve: resolve, NoFollow: noFollow}}
	start := base
	if path[0] == '/' && resolve&scoped == 0 {
		start = unix.AT_FDCWD
	}
	p, err := s.run(start)
	defer func() { p.Close() }()
	if err == nil && p.Object.FD < 0 {
		err = unix.ENOENT
	}
	switch {
	case wantErr == unix.EAGAIN:
	case wantErr == unix.EXDEV && resolve&unix.RESOLVE_NO_XDEV != 0:
		// The kernel refuses a first absolute link even on the same mount.
	case err != wantErr:
		t.Errorf("%q resolve %#x nofollow %v: %v, the kernel says %v", path, resolve, noFollow, err, wantErr)
	case err == nil && !p.Object.Same(&want):
		t.Errorf("%q resolve %#x nofollow %v: another object", path, resolve, noFollow)
	}
}

func TestStepsAgreeWithTheKernel(t *testing.T) {
	root := forest(t)
	base, err := unix.Open(root, unix.O_PATH, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(base)
	w, c := walker(t, nil), process{pid: os.Getpid()}
	parts := []string{"a", "b", "c", "d", "f", "up", "ab", "abs", "loop", "x", "dangling", "slash", "tmp", "root", ".", "..", "", "none", strings.TrimPrefix(root, "/"), "usr", "dev"}
	flags := []uint64{0, unix.RESOLVE_BENEATH, unix.RESOLVE_IN_ROOT, unix.RESOLVE_NO_SYMLINKS, unix.RESOLVE_NO_XDEV, unix.RESOLVE_NO_MAGICLINKS, unix.RESOLVE_BENEATH | unix.RESOLVE_NO_XDEV}
	rnd := rand.New(rand.NewSource(1))
	for range 20000 {
		var names []string
		for range 1 + rnd.Intn(6) {
			names = append(names, parts[rnd.Intn(len(parts))])
		}
		path := strings.Join(names, "/")
		if path == "" {
			continue
		}
		agree(t, w, c, base, path, flags[rnd.Intn(len(flags))], rnd.Intn(2) == 0)
	}
}

func FuzzSteps(f *testing.F) {
	root := forest(f)
	base, err := unix.Open(root, unix.O_PATH, 0)
	if err != nil {
		f.Fatal(err)
	}
	w, c := walker(f, nil), process{pid: os.Getpid()}
	for _, p := range []string{"a/b/c/f", "d/up/a/abs/ab/../f", "/", "d/dangling", "a/slash/", "d/tmp/..//.", "\xff/\xfe"} {
		f.Add(p, uint64(0), false)
		f.Add(p, uint64(unix.RESOLVE_IN_ROOT), true)
	}
	f.Fuzz(func(t *testing.T, path string, resolve uint64, noFollow bool) {
		resolve &= KnownResolve &^ ResolveCached
		if path == "" || len(path) >= PathMax || strings.ContainsRune(path, 0) || resolve&scoped == scoped || strings.Contains(path, "proc") || strings.Contains(path, "dev") {
			return // /proc is where both must differ
		}
		agree(t, w, c, base, path, resolve, noFollow)
	})
}

func TestNoDescriptorIsLost(t *testing.T) {
	root := forest(t)
	c, w := start(t, root), walker(t, nil)
	count := func() int {
		names, err := os.ReadDir("/proc/self/fd")
		if err != nil {
			t.Fatal(err)
		}
		return len(names)
	}
	paths := []string{"a/b/f", "none", "a/none/x", "/proc/self/cwd/a/f", "/proc/self/none", "/proc/1/root", "a/b/loop", "d/dangling", "f/x", "/proc/self/fd/99", "/proc/self/root/none", "/dev/stdin", "..", "/", "/proc/self/cwd/d/up/none"}
	round := func() {
		for _, path := range paths {
			for _, r := range []uint64{0, unix.RESOLVE_BENEATH, unix.RESOLVE_IN_ROOT, unix.RESOLVE_NO_XDEV, unix.RESOLVE_NO_MAGICLINKS} {
				h := How{Dir: cwd, Path: []byte(path), Resolve: r}
				o, _ := w.Walk(c, h)
				o.Close()
				p, _ := w.Place(c, h)
				p.Close()
			}
		}
	}
	round()
	before := count()
	round()
	if after := count(); after != before {
		t.Errorf("%d descriptors before, %d after", before, after)
	}
	runtime.KeepAlive(c)
}

func BenchmarkWalk(b *testing.B) {
	root := forest(b)
	c, w := start(b, root), walker(b, nil)
	for name, path := range map[string]string{"absolute": "/usr/include/stdio.h", "relative": "a/b/f", "absent": "/usr/lib/python3/none", "proc": "/proc/self/status", "meminfo": "/proc/meminfo"} {
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				o, _ := w.Walk(c, at(cwd, path))
				o.Close()
			}
		})
	}
}
