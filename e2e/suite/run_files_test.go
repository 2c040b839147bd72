package suite

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sandlock/sandlock/internal/lab"
)

// attempts is the head of a Python script that tries things and prints a line
// each: the name, and "ok" or the errno.
const attempts = `
import os, sys, errno, ctypes, subprocess
libc = ctypes.CDLL(None, use_errno=True)
def check(r):
    if r < 0: raise OSError(ctypes.get_errno(), "call")
    return r
def t(name, f):
    try:
        f()
        print(name, "ok")
    except OSError as e:
        print(name, errno.errorcode.get(e.errno, e.errno))
    sys.stdout.flush()
def read(p): return open(p, "rb").read()
def syscall(*a): return check(libc.syscall(*a))
`

// runIn runs "sandlock run FLAGS -- ARGS" as u in dir.
func runIn(t *testing.T, u lab.User, dir string, flags []string, args ...string) lab.Result {
	t.Helper()
	all := append(append(append([]string{lab.Sandlock(), "run"}, flags...), "--"), args...)
	c := lab.Command(t.Context(), t, u, all...)
	c.Dir = dir
	return lab.Finish(t, t.Context(), c)
}

func bareIn(t *testing.T, u lab.User, dir string, args ...string) lab.Result {
	t.Helper()
	c := lab.Command(t.Context(), t, u, args...)
	c.Dir = dir
	return lab.Finish(t, t.Context(), c)
}

// outcomes are the lines of a script of attempts.
func outcomes(t *testing.T, r lab.Result) map[string]string {
	t.Helper()
	out := map[string]string{}
	for _, line := range strings.Split(strings.TrimSpace(r.Stdout), "\n") {
		name, what, _ := strings.Cut(line, " ")
		out[name] = what
	}
	if len(out) == 0 || r.Code != 0 {
		t.Fatalf("code %d: %s%s", r.Code, r.Stdout, r.Stderr)
	}
	return out
}

// compare fails for every attempt that does not end as wanted in the sandbox, or
// that fails without one: then it would prove nothing.
func compare(t *testing.T, bare, got map[string]string, want func(name string) string) {
	t.Helper()
	for name, b := range bare {
		if b != "ok" && !strings.HasPrefix(name, "!") {
			t.Errorf("control: %s fails without a sandbox: %s", name, b)
		}
		if w := want(name); got[name] != w {
			t.Errorf("%s: %q, want %q", name, got[name], w)
		}
	}
}

// scratch makes a directory of u's with files: a name that ends in "/" is a
// directory, "a -> b" a link, "a = b" another name of b.
func scratch(t *testing.T, u lab.User, names ...string) string {
	t.Helper()
	dir := lab.Scratch(t, u)
	for _, n := range names {
		var err error
		path := filepath.Join(dir, n)
		switch link, to, _ := strings.Cut(n, " -> "); {
		case to != "":
			path = filepath.Join(dir, link)
			err = os.Symlink(to, path)
		case strings.Contains(n, " = "):
			name, old, _ := strings.Cut(n, " = ")
			path = filepath.Join(dir, name)
			err = os.Link(filepath.Join(dir, old), path)
		case strings.HasSuffix(n, "/"):
			err = os.Mkdir(path, 0o755)
		default:
			err = os.WriteFile(path, []byte("content of "+n+"\n"), 0o644)
		}
		if err != nil {
			t.Fatal(err)
		}
		if to := path; !strings.Contains(n, " -> ") {
			lab.Give(t, u, to)
		}
	}
	return dir
}

// Ordinary programs run with the defaults, and nothing of the user's is theirs.
func TestRunDefaults(t *testing.T) {
	asUsers(t, func(t *testing.T, u lab.User) {
		dir := scratch(t, u, "mine")
		for _, c := range [][]string{
			{"ls", "/usr"}, {"sh", "-c", "cd $TMPDIR && echo 'int main(void){return 0;}' >a.c && gcc a.c && ./a.out"}, {python, "-c", "import ssl, json, subprocess; subprocess.check_call(['true'])"},
			{"sh", "-c", "cd $TMPDIR && git init -q r && cd r && git -c user.name=n -c user.email=e commit -q --allow-empty -m m && git log"}, {"node", "-e", "require('fs').writeFileSync(process.env.TMPDIR+'/f','x')"},
			{"ps", "aux"}, {"sh", "-c", "cat /proc/self/status /proc/meminfo /proc/cpuinfo /proc/stat /proc/loadavg /proc/uptime /proc/mounts /proc/net/dev >/dev/null"}, {"sh", "-c", "test $HOME = $TMPDIR && echo x >$HOME/.profile"},
			{"sh", "-c", "(echo x >/dev/stderr) 2>&1 | grep -q x && cat </dev/null && echo y | cat /dev/stdin >/dev/null"},
		} {
			if r := runIn(t, u, dir, nil, c...); r.Code != 0 {
				t.Errorf("%q: code %d: %s%s", c, r.Code, r.Stdout, r.Stderr)
			}
		}
		for _, c := range []struct{ flags, cmd []string }{
			{[]string{"-r", "."}, []string{"cat", "mine"}}, {[]string{"-w", "mine"}, []string{"sh", "-c", "echo x >>mine"}}, {[]string{"-w", "."}, []string{"sh", "-c", "echo x >new && mkdir d && mv d e && rmdir e && rm new"}},
		} {
			if r := bareIn(t, u, dir, c.cmd...); r.Code != 0 {
				t.Errorf("control: %q: %s", c.cmd, r.Stderr)
			}
			if r := runIn(t, u, dir, c.flags, c.cmd...); r.Code != 0 {
				t.Errorf("%q %q: code %d: %s", c.flags, c.cmd, r.Code, r.Stderr)
			}
			r := runIn(t, u, dir, nil, c.cmd...)
			if r.Code == 0 || !strings.Contains(r.Stderr, "denied file "+dir) || !strings.Contains(r.Stderr, "allow with --fs-"+map[string]string{"-r": "read", "-w": "write"}[c.flags[0]]) {
				t.Errorf("%q without %q: code %d: %s", c.cmd, c.flags, r.Code, r.Stderr)
			}
		}
		if left, _ := filepath.Glob(filepath.Join(dir, "sandlock-*")); len(left) > 0 {
			t.Errorf("left behind: %q", left)
		}
	})
}

// denials try to read, change or replace what is denied: every way fails.
const denials = attempts + `
os.chdir(sys.argv[1])
nr_creat, nr_open = 85, 2
t("read", lambda: read("d/secret"))
t("read-absolute", lambda: read(sys.argv[1] + "/d/secret"))
t("read-dots", lambda: read("d/../d/./secret"))
t("read-link", lambda: read("link"))
t("read-chain", lambda: read("chain"))
t("read-bytes", lambda: read(b"\xff"))
t("read-hard", lambda: read("hard"))
t("read-inner-hard", lambda: read("inner-hard"))
t("read-inner", lambda: read("closed/inner"))
t("list-closed", lambda: os.listdir("closed"))
t("read-proc-cwd", lambda: read("/proc/self/cwd/d/secret"))
t("read-proc-root", lambda: read("/proc/self/root" + sys.argv[1] + "/d/secret"))
t("read-thread-self", lambda: read("/proc/thread-self/cwd/d/secret"))
t("path-only", lambda: os.open("d/secret", os.O_PATH))
d = os.open("d", os.O_RDONLY)
t("read-dirfd", lambda: os.open("secret", os.O_RDONLY, dir_fd=d))
t("read-proc-fd", lambda: read("/proc/self/fd/%d/secret" % d))
t("legacy-open", lambda: syscall(nr_open, b"d/secret", 0))
how = (ctypes.c_uint64 * 3)(0, 0, 0)
t("openat2", lambda: syscall(437, -100, b"d/secret", how, 24))
t("openat2-beneath", lambda: syscall(437, d, b"secret", (ctypes.c_uint64 * 3)(0, 0, 8), 24))
t("openat2-in-root", lambda: syscall(437, d, b"/secret", (ctypes.c_uint64 * 3)(0, 0, 16), 24))
t("write", lambda: open("d/secret", "a"))
t("creat", lambda: syscall(nr_creat, b"d/secret", 0o600))
t("truncate", lambda: os.truncate("d/secret", 5))
t("chmod", lambda: os.chmod("d/secret", 0o600))
t("utime", lambda: os.utime("d/secret"))
t("exec", lambda: subprocess.check_call(["./tool"]))
t("link", lambda: os.link("d/secret", "other"))
t("symlink-over", lambda: os.symlink("x", "absent"))
t("mkdir-over", lambda: (os.unlink("absent") if os.path.lexists("absent") else 0, os.mkdir("absent")))
t("create-absent", lambda: (os.rmdir("absent") if os.path.isdir("absent") else 0, open("absent", "w")))
t("rename-parent", lambda: (os.rename("d", "e"), os.rename("e", "d")))
t("rename-onto", lambda: (os.rename("plain", "d/secret"), os.rename("d/secret", "plain"), open("d/secret", "w")))
t("exchange", lambda: (syscall(316, -100, b"plain", -100, b"d/secret", 2), syscall(316, -100, b"plain", -100, b"d/secret", 2)))
t("unlink", lambda: os.unlink("d/secret"))
def above(make):
    try: make()
    finally:
        if os.path.lexists("conf"): os.rmdir("conf") if os.path.isdir("conf") and not os.path.islink("conf") else os.unlink("conf")
os.mkdir("real"); os.symlink("real", "to-real")
t("symlink-above", lambda: above(lambda: os.symlink("real", "conf")))
t("link-above", lambda: above(lambda: os.link("to-real", "conf", follow_symlinks=False)))
t("rename-above", lambda: above(lambda: os.rename("to-real", "conf")))
open("conf", "w"); os.symlink("real", "again")
t("rename-over-above", lambda: os.rename("again", "conf"))
`

func denialFiles(t *testing.T, u lab.User) (string, []string) {
	dir := scratch(t, u, "d/", "d/secret", "closed/", "closed/inner", "inner-hard = closed/inner", "link -> d/secret", "chain -> link", "\xff -> d/secret", "hard = d/secret", "plain", "tool")
	if err := os.WriteFile(filepath.Join(dir, "tool"), []byte("#!/bin/sh\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(filepath.Join(dir, "tool"), 0o755); err != nil {
		t.Fatal(err)
	}
	return dir, []string{"-w", dir, "--fs-deny", dir + "/d/secret", "--fs-deny", dir + "/closed", "--fs-deny", dir + "/absent", "--fs-deny", dir + "/conf/secret", "--fs-deny", dir + "/tool", "--quiet"}
}

func TestRunDeny(t *testing.T) {
	asUsers(t, func(t *testing.T, u lab.User) {
		dir, _ := denialFiles(t, u)
		bare := outcomes(t, bareIn(t, u, dir, python, "-c", denials, dir))
		dir, flags := denialFiles(t, u)
		got := outcomes(t, runIn(t, u, dir, flags, python, "-c", denials, dir))
		compare(t, bare, got, func(string) string { return "EACCES" })
		text, err := os.ReadFile(filepath.Join(dir, "d/secret"))
		if err != nil || string(text) != "content of d/secret\n" {
			t.Errorf("the denied file: %q %v", text, err)
		}
	})
}

// A directory that may be listed although not all below it is open can be denied.
func TestRunDenyListed(t *testing.T) {
	asUsers(t, func(t *testing.T, u lab.User) {
		dir := scratch(t, u)
		for _, deny := range []bool{false, true} {
			flags := []string{"-r", "/"}
			if deny {
				flags = append(flags, "--fs-deny", "/sys")
			}
			if r := runIn(t, u, dir, flags, "ls", "/sys"); (r.Code != 0) != deny {
				t.Errorf("denied %v: code %d: %s%s", deny, r.Code, r.Stdout, r.Stderr)
			}
		}
	})
}

// besides are what a denial leaves as it was.
const besides = attempts + `
os.chdir(sys.argv[1])
os.umask(0o027)
def create():
    fd = os.open("made", os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o666)
    os.write(fd, b"abc"); os.lseek(fd, 0, 0)
    assert os.read(fd, 9) == b"abc" and os.fstat(fd).st_mode & 0o777 == 0o640
    assert not os.get_inheritable(fd)
t("create", create)
t("append", lambda: (open("made", "a").write("d"), ))
def appended(): assert read("made") == b"abcd"
t("appended", appended)
def excl():
    try: os.open("made", os.O_CREAT | os.O_EXCL)
    except FileExistsError: return
    assert False
t("exclusive", excl)
def nofollow():
    try: os.open("to-made", os.O_RDONLY | os.O_NOFOLLOW)
    except OSError as e: assert e.errno == errno.ELOOP; return
    assert False
os.symlink("made", "to-made")
t("nofollow", nofollow)
t("follow", lambda: read("to-made"))
os.symlink("later", "dangling")
t("create-through-link", lambda: open("dangling", "w").write("x"))
t("created-there", lambda: os.stat("later"))
def tmpfile():
    fd = os.open(".", os.O_TMPFILE | os.O_RDWR, 0o600)
    check(libc.linkat(-100, b"/proc/self/fd/%d" % fd, -100, b"named", 0x400))
t("tmpfile", tmpfile)
t("named", lambda: os.stat("named"))
t("truncate", lambda: (os.truncate("made", 1), open("made", "r+")))
t("mkdir", lambda: os.mkdir("q"))
def modes(): assert os.stat("q").st_mode & 0o777 == 0o750
t("mkdir-mode", modes)
t("mkdir-above-denied", lambda: os.mkdir("conf"))
t("create-beside-denied", lambda: open("conf/other", "w"))
t("rename", lambda: os.rename("q", "r"))
t("rmdir", lambda: os.rmdir("r"))
t("link", lambda: os.link("made", "twice"))
t("unlink", lambda: os.unlink("twice"))
t("fifo", lambda: os.mkfifo("fifo"))
def fifo():
    if os.fork() == 0:
        open("fifo", "w").write("through"); os._exit(0)
    assert read("fifo") == b"through"; os.wait()
t("open-fifo", fifo)
t("list", lambda: os.listdir("."))
t("devnull", lambda: (read("/dev/null"), open("/dev/null", "w").write("x")))
t("exec", lambda: subprocess.check_call([sys.executable, "-c", "pass"]))
def enoent():
    try: read("nothing")
    except FileNotFoundError: return
    assert False
t("absent", enoent)
def long():
    try: os.open(b"x" * 5000, 0)
    except OSError as e: assert e.errno == errno.ENAMETOOLONG; return
    assert False
t("too-long", long)
def fault():
    try: syscall(257, -100, 8, 0)
    except OSError as e: assert e.errno == errno.EFAULT; return
    assert False
t("fault", fault)
`

// Opens that are performed on behalf of the command behave as the kernel's own.
func TestRunBesideDeny(t *testing.T) {
	asUsers(t, func(t *testing.T, u lab.User) {
		for _, deny := range []bool{false, true} {
			dir := scratch(t, u, "closed/")
			flags := []string{"-w", dir, "--quiet"}
			if deny {
				flags = append(flags, "--fs-deny", dir+"/closed", "--fs-deny", dir+"/conf/secret")
			}
			bareDir := scratch(t, u)
			bare := outcomes(t, bareIn(t, u, bareDir, python, "-c", besides, bareDir))
			got := outcomes(t, runIn(t, u, dir, flags, python, "-c", besides, dir))
			compare(t, bare, got, func(string) string { return "ok" })
		}
	})
}

// changes are what Landlock does not govern, on a file that may only be read.
const changes = attempts + `
p = sys.argv[1]
fd = os.open(p, os.O_RDONLY)
st = os.stat(p)
t("chmod", lambda: os.chmod(p, 0o600))
t("fchmod", lambda: os.fchmod(fd, 0o600))
t("fchmodat2", lambda: syscall(452, -100, p.encode(), 0o644, 0))
t("chown", lambda: os.chown(p, st.st_uid, st.st_gid))
t("fchown", lambda: os.fchown(fd, st.st_uid, st.st_gid))
t("lchown", lambda: os.lchown(p, st.st_uid, st.st_gid))
t("chown-proc-fd", lambda: os.chown("/proc/self/fd/%d" % fd, st.st_uid, st.st_gid))
t("utime", lambda: os.utime(p, (1, 1)))
t("utime-now", lambda: os.utime(p))
t("futimens", lambda: os.utime(fd, (1, 1)))
t("futimens-now", lambda: os.utime(fd))
t("setxattr", lambda: os.setxattr(p, "user.a", b"1"))
t("fsetxattr", lambda: os.setxattr(fd, "user.a", b"2"))
t("removexattr", lambda: os.removexattr(p, "user.a"))
t("!flags", lambda: __import__("fcntl").ioctl(fd, 0x40086602, bytes(8)))
`

func TestRunAttributes(t *testing.T) {
	asUsers(t, func(t *testing.T, u lab.User) {
		dir := scratch(t, u, "file")
		path := filepath.Join(dir, "file")
		bare := outcomes(t, bareIn(t, u, dir, python, "-c", changes, path))
		got := outcomes(t, runIn(t, u, dir, []string{"--quiet", "-w", dir}, python, "-c", changes, path))
		compare(t, bare, got, func(name string) string { return map[bool]string{true: "EPERM", false: "ok"}[name == "!flags"] })
		if err := os.Chmod(path, 0o641); err != nil {
			t.Fatal(err)
		}
		got = outcomes(t, runIn(t, u, dir, []string{"--quiet", "-r", dir}, python, "-c", changes, path))
		compare(t, bare, got, func(name string) string { return map[bool]string{true: "EPERM", false: "EACCES"}[name == "!flags"] })
		if st, err := os.Stat(path); err != nil || st.Mode().Perm() != 0o641 || st.ModTime().Unix() == 1 {
			t.Errorf("changed: %v %v", st.Mode(), st.ModTime())
		}
	})
}

// own is /proc in many spellings: it is the command's.
const own = attempts + `
me = str(os.getpid()).encode()
def mine(p): assert b"\nPid:\t" + me + b"\n" in read(p), p
os.symlink("/proc", "proc"); os.symlink("/proc/self/status", "mine")
d = os.open("/proc", os.O_RDONLY)
for i, p in enumerate(["/proc/self/status", "/proc/thread-self/status", "/proc/%d/status" % os.getpid(), "//proc/./self/../self/status", "proc/self/status", "mine", "/proc/self/root/proc/self/status", "/proc/self/task/%d/status" % os.getpid(), "/proc/self/fd/%d/self/status" % d]):
    t("own-%d" % i, lambda: mine(p))
t("dirfd", lambda: os.open("self/status", os.O_RDONLY, dir_fd=d))
t("cwd", lambda: (os.chdir("/proc"), mine("self/status"), os.chdir(sys.argv[1])))
t("openat2", lambda: syscall(437, -100, b"/proc/self/status", (ctypes.c_uint64 * 3)(0, 0, 0), 24))
t("exe", lambda: read("/proc/self/exe"))
t("environ", lambda: read("/proc/self/environ"))
t("maps", lambda: read("/proc/self/maps"))
def child():
    r, w = os.pipe()
    pid = os.fork()
    if pid == 0: os.read(r, 1); os._exit(0)
    try: read("/proc/%d/status" % pid), os.listdir("/proc/%d/fd" % pid), read("/proc/%d/cwd/mine" % pid)
    finally: os.write(w, b"x"); os.wait()
t("child", child)
def listed():
    pids = [int(n) for n in os.listdir("/proc") if n.isdigit()]
    assert os.getpid() in pids and "self" in os.listdir("/proc")
    print("pids", " ".join(map(str, pids)))
t("list", listed)
def rewound():
    a = [e.name for e in os.scandir(d)]
    os.lseek(d, 0, 0)
    assert a == [e.name for e in os.scandir(d)]
t("rewind", rewound)
`

// others is what belongs to somebody else, spelled in many ways.
const others = attempts + `
sup = sys.argv[1]
os.symlink("/proc", "proc"); os.symlink("/proc/kallsyms", "symbols")
d = os.open("/proc", os.O_PATH)
t("status", lambda: read("/proc/%s/status" % sup))
t("environ", lambda: read("/proc/%s/environ" % sup))
t("stat-link", lambda: read("proc/%s/stat" % sup))
t("dirfd", lambda: os.open("%s/stat" % sup, os.O_RDONLY, dir_fd=d))
t("root", lambda: read("/proc/self/root/proc/%s/stat" % sup))
t("cwd", lambda: (os.chdir("/proc"), read("%s/comm" % sup)))
os.chdir(sys.argv[2])
t("their-root", lambda: os.listdir("/proc/%s/root/" % sup))
t("their-cwd", lambda: os.listdir("/proc/%s/cwd/" % sup))
t("their-fds", lambda: os.listdir("/proc/%s/fd" % sup))
t("their-task", lambda: os.listdir("/proc/%s/task" % sup))
t("directory", lambda: os.listdir("/proc/%s" % sup))
t("init", lambda: read("/proc/1/stat"))
t("kallsyms", lambda: read("/proc/kallsyms"))
t("kallsyms-link", lambda: read("symbols"))
t("legacy-open", lambda: syscall(2, b"/proc/kallsyms", 0))
t("openat2", lambda: syscall(437, d, b"kallsyms", (ctypes.c_uint64 * 3)(0, 0, 0), 24))
t("!creat", lambda: syscall(85, b"/proc/sysrq-trigger", 0))
t("!kmsg", lambda: os.open("/proc/kmsg", os.O_RDONLY | os.O_NONBLOCK))
t("!keys", lambda: read("/proc/keys"))
t("!hostname", lambda: open("/proc/sys/kernel/hostname", "w"))
t("net", lambda: read("/proc/net/sockstat"))
t("class-net", lambda: os.listdir("/sys/class/net"))
t("interface", lambda: read("/sys/class/net/lo/address"))
t("!firmware", lambda: os.listdir("/sys/firmware"))
`

func TestRunProc(t *testing.T) {
	asUsers(t, func(t *testing.T, u lab.User) {
		for _, flags := range [][]string{nil, {"-r", "/"}} {
			dir := scratch(t, u)
			bare := outcomes(t, bareIn(t, u, dir, python, "-c", own, dir))
			dir = scratch(t, u)
			r := runIn(t, u, dir, append([]string{"--quiet", "-w", dir}, flags...), python, "-c", own, dir)
			got := outcomes(t, r)
			delete(bare, "pids")
			compare(t, bare, got, func(string) string { return "ok" })
			if n := len(strings.Fields(got["pids"])); n != 1 {
				t.Errorf("%q: %d processes are listed: %s", flags, n, got["pids"])
			}
			dir = scratch(t, u)
			bare = outcomes(t, bareIn(t, u, dir, besideSleeper(python, "-c", others, sleeperPID, dir)...))
			dir = scratch(t, u)
			cmd := append(append([]string{lab.Sandlock(), "run", "--quiet", "-w", dir}, flags...), "--", python, "-c", others, sleeperPID, dir)
			got = outcomes(t, bareIn(t, u, dir, besideSleeper(cmd...)...))
			compare(t, bare, got, func(string) string { return "EACCES" })
		}
	})
}

// neighbours looks into its parent process as the user argv[1], or as who it is.
const neighbours = attempts + `
parent, user = os.getpid(), int(sys.argv[1])
os.chdir("/")
pid = os.fork()
if pid == 0:
    if user: os.setresgid(user, user, user), os.setresuid(user, user, user)
    for name in "environ", "maps", "smaps", "auxv": t(name, lambda: read("/proc/%d/%s" % (parent, name)))
    t("thread", lambda: read("/proc/%d/task/%d/environ" % (parent, parent)))
    t("fd", lambda: os.listdir("/proc/%d/fd" % parent))
    t("cwd", lambda: os.listdir("/proc/%d/cwd/usr" % parent))
    t("root", lambda: os.listdir("/proc/%d/root/usr" % parent))
    t("!own", lambda: read("/proc/self/maps"))
    t("!status", lambda: read("/proc/%d/status" % parent))
    t("!pagemap", lambda: os.open("/proc/self/pagemap", os.O_RDONLY))
    t("!stack", lambda: read("/proc/self/stack"))
    sys.stdout.flush(); os._exit(0)
os.waitpid(pid, 0)
`

// Of /proc a process gets what it may see of another user's process, and nothing
// that only root may see.
func TestRunProcUsers(t *testing.T) {
	asUsers(t, func(t *testing.T, u lab.User) {
		dir := scratch(t, u)
		users := []string{"0"}
		if u == lab.Root && !lab.Nested() { // the lab of an ordinary user has no second user
			users = append(users, "1000")
		}
		same := outcomes(t, bareIn(t, u, dir, python, "-c", neighbours, "0"))
		for _, user := range users {
			for _, flags := range [][]string{{"--quiet"}, {"--quiet", "-w", dir, "--fs-deny", dir + "/x"}} {
				got := outcomes(t, runIn(t, u, dir, flags, python, "-c", neighbours, user))
				compare(t, same, got, func(name string) string {
					switch {
					case name == "!pagemap" || name == "!stack" || user != "0" && !strings.HasPrefix(name, "!"):
						return "EACCES"
					}
					return "ok"
				})
			}
		}
	})
}

// Opens that are performed on behalf of root's command have its capabilities and
// not the supervisor's: the kernel's log needs CAP_SYSLOG (Linux 3.11) or an open
// kernel.dmesg_restrict.
func TestRunDenyCapabilities(t *testing.T) {
	dir := scratch(t, lab.Root)
	const script = attempts + `
t("!log", lambda: os.open("/dev/kmsg", os.O_RDONLY | os.O_NONBLOCK))
t("null", lambda: os.open("/dev/null", os.O_RDONLY))
`
	// Without a denial the kernel performs the opens.
	want := outcomes(t, runIn(t, lab.Root, dir, []string{"--quiet", "-r", "/dev"}, python, "-c", script))
	got := outcomes(t, runIn(t, lab.Root, dir, []string{"--quiet", "-r", "/dev", "--fs-deny", dir + "/x"}, python, "-c", script))
	compare(t, want, got, func(name string) string { return want[name] })
}

// sleeperPID stands for the number of besideSleeper's other process.
const sleeperPID = "SLEEPER"

// besideSleeper runs a command while a process that it did not start sleeps: its
// sibling, for in a lab of an ordinary user only those can look at each other.
func besideSleeper(args ...string) []string {
	return append([]string{"sh", "-c", `sleep 600 >/dev/null 2>&1 &
for a; do shift; [ "$a" != ` + sleeperPID + ` ] || a=$!; set -- "$@" "$a"; done
"$@"; code=$?; kill $!; exit $code`, "sh"}, args...)
}

// With a denial in force every open is the supervisor's, and still none of its
// own files is to be had.
func TestRunSupervisorIsClosed(t *testing.T) {
	asUsers(t, func(t *testing.T, u lab.User) {
		dir := scratch(t, u, "closed/")
		for _, flags := range [][]string{{"-r", "/"}, {"-r", "/", "--fs-deny", dir + "/closed"}} {
			c := lab.Command(t.Context(), t, u, append(append([]string{lab.Sandlock(), "run", "--quiet", "--env", "IN=side"}, flags...), "--", "sh", "-c",
				"cat /proc/self/environ; cat /proc/$PPID/environ; cat /proc/self/../$PPID/environ; cat /proc/self/fd/../environ; cat /proc/self/task/../environ")...)
			c.Env = append(c.Env, "SECRET=only-outside")
			c.Args = append([]string{c.Args[0]}, c.Args[1:]...)
			r := lab.Finish(t, t.Context(), c)
			if strings.Count(r.Stdout, "IN=side") != 3 {
				t.Errorf("%q: the command's own environment is not shown thrice: %q %s", flags, r.Stdout, r.Stderr)
			}
			if n := strings.Count(r.Stdout, "SECRET=only-outside"); n != strings.Count(r.Stdout, "IN=side") {
				t.Errorf("%q: an environment without IN was read: %q", flags, r.Stdout)
			}
		}
	})
}

func TestRunUsage(t *testing.T) {
	asUsers(t, func(t *testing.T, u lab.User) {
		dir := scratch(t, u, "f")
		for _, c := range []struct {
			flags []string
			says  string
		}{
			{[]string{"-r", "/none"}, "--fs-read"}, {[]string{"-w", ""}, "--fs-write"}, {[]string{"--net-allow", "a..b:1"}, "--net-allow"}, {[]string{"--fs-read"}, "--fs-read"},
		} {
			if r := runIn(t, u, dir, c.flags, "true"); r.Code != 2 || !strings.Contains(r.Stderr, c.says) {
				t.Errorf("%q: code %d: %s", c.flags, r.Code, r.Stderr)
			}
		}
		file := filepath.Join(dir, "p.toml")
		if err := os.WriteFile(file, []byte("[filesystem]\nread = [\""+dir+"\"]\ndeny = [\""+dir+"/closed\"]\n"), 0o644); err != nil {
			t.Fatal(err)
		}
		if r := runIn(t, u, dir, []string{"--quiet", "--policy", file}, "cat", "f"); r.Code != 0 {
			t.Errorf("a policy file: code %d: %s", r.Code, r.Stderr)
		}
		if r := runIn(t, u, dir, []string{"--chains"}); r.Code != 0 || !strings.Contains(r.Stdout, "files.open") || !strings.Contains(r.Stdout, "proc.list") {
			t.Errorf("chains: code %d: %s%s", r.Code, r.Stdout, r.Stderr)
		}
		r := lab.Run(t, u, lab.Sandlock(), "net", "--policy", file, "--", "true")
		if r.Code != 2 || !strings.Contains(r.Stderr, "sandlock run") {
			t.Errorf("a policy about files for net: code %d: %s", r.Code, r.Stderr)
		}
	})
}

// sorted reads directories in every way that there is.
const sortedDirs = attempts + `
import random
os.mkdir("d"); names = ["n%d" % i for i in range(700)]
random.shuffle(names)
for n in names: open("d/" + n, "w")
os.mkdir("d/sub"); os.symlink("x", "d/link"); os.mkfifo("d/fifo")
want = sorted([".", ".."] + names + ["sub", "link", "fifo"])
kinds = {"sub": 4, "link": 10, "fifo": 1, "n1": 8}
def entries(nr, fd, size):
    buf = ctypes.create_string_buffer(size)
    n = syscall(nr, fd, buf, size)
    out, at, b = [], 0, buf.raw
    while at < n:
        off = int.from_bytes(b[at+8:at+16], "little"); length = int.from_bytes(b[at+16:at+18], "little")
        name = b[at+(19 if nr == 217 else 18):at+length].split(b"\0")[0].decode()
        out.append((name, off, b[at+18] if nr == 217 else b[at+length-1])); at += length
    return out
def whole(nr, size):
    fd = os.open("d", os.O_RDONLY); out = []
    while True:
        e = entries(nr, fd, size)
        if not e: break
        out += e
    assert [n for n, o, k in out] == want, out[:5]
    for n, o, k in out: assert kinds.get(n, k) == k, (n, k)
    os.lseek(fd, 0, 0); assert entries(nr, fd, size)[0][0] == "."
    os.lseek(fd, out[99][1], 0); assert entries(nr, fd, size)[0][0] == want[100]
    os.lseek(fd, 50, 0); two = os.dup(fd); a = entries(nr, two, 64)[0][0]; b = entries(nr, fd, 64)[0][0]; assert a < b
    try: entries(nr, fd, 16)
    except OSError as e: assert e.errno == errno.EINVAL
    else: assert False
for nr, name in ((217, "new"), (78, "old")):
    for size in (64, 200, 4096, 32768):
        t("%s-%d" % (name, size), lambda: whole(nr, size))
t("listdir", lambda: (None if os.listdir("d") == want[2:] else check(-1)))
t("remove", lambda: __import__("shutil").rmtree("d"))
t("gone", lambda: (None if not os.path.exists("d") else check(-1)))
def notdir():
    fd = os.open("/etc/hosts", os.O_RDONLY)
    try: entries(217, fd, 4096)
    except OSError as e: assert e.errno == errno.ENOTDIR; return
    assert False
t("file", notdir)
`

func TestRunSortedDirectories(t *testing.T) {
	asUsers(t, func(t *testing.T, u lab.User) {
		dir := scratch(t, u)
		got := outcomes(t, runIn(t, u, dir, []string{"--quiet", "-w", dir, "--deterministic-dirs"}, python, "-c", sortedDirs))
		for name, what := range got {
			if what != "ok" {
				t.Errorf("%s: %s", name, what)
			}
		}
		if len(got) < 12 {
			t.Errorf("only %d attempts: %v", len(got), got)
		}
	})
}
