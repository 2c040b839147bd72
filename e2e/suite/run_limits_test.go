package suite

import (
	"strings"
	"testing"

	"github.com/sandlock/sandlock/internal/lab"
)

// forks makes processes in every way and shape, and prints how many lived at once.
const forks = attempts + `
import time, threading
nr_fork, nr_vfork = 57, 58
def reap(kids):
    for k in kids: os.kill(k, 9)
    for k in kids: os.waitpid(k, 0)
def many(make):
    kids = []
    try:
        for i in range(30):
            p = make()
            if p == 0:
                time.sleep(60); os._exit(0)
            kids.append(p)
    except OSError as e:
        assert e.errno == errno.EAGAIN, e
    print("lived", len(kids)); reap(kids); return len(kids)
want = int(sys.argv[1])
def exactly(make): assert many(make) == want
t("fork", lambda: exactly(os.fork))
if os.uname().machine == "x86_64": t("legacy-fork", lambda: exactly(lambda: syscall(nr_fork)))
def sequence(options):
    for i in range(30):
        p = os.fork()
        if p == 0: os._exit(0)
        while os.waitpid(p, options)[0] == 0: pass
t("one-after-another", lambda: sequence(0))
t("without-blocking", lambda: sequence(os.WNOHANG))
def refunds():
    for i in range(20):
        try: os.waitpid(999999, 0)
        except ChildProcessError: pass
    exactly(os.fork)
t("bogus-waits", refunds)
def threads():
    ts = [threading.Thread(target=time.sleep, args=(0.2,)) for i in range(40)]
    for x in ts: x.start()
    for x in ts: x.join()
t("threads", threads)
def zombies():
    kids = [os.fork() or os._exit(0) for i in range(want)]
    try: exactly_none = os.fork()
    except OSError: exactly_none = -1
    if exactly_none == 0: os._exit(0)
    for k in kids: os.waitpid(k, 0)
    assert exactly_none == -1
if want < 30: t("zombies", zombies)
t("daemons", lambda: [os.waitpid(p, 0) for p in [os.fork() or (os.setsid(), os.fork(), os._exit(0))]])
`

func TestRunProcesses(t *testing.T) {
	asUsers(t, func(t *testing.T, u lab.User) {
		bare := outcomes(t, bareIn(t, u, scratch(t, u), python, "-c", forks, "30"))
		delete(bare, "lived")
		got := outcomes(t, runIn(t, u, scratch(t, u), []string{"--quiet", "-P", "5"}, python, "-c", forks, "4"))
		compare(t, bare, got, func(string) string { return "ok" })
		if got["zombies"] != "ok" {
			t.Errorf("processes that nobody waits for: %s", got["zombies"])
		}
		r := runIn(t, u, scratch(t, u), []string{"-P", "2"}, "sh", "-c", "sleep 60 & (exit 0); kill $!")
		if !strings.Contains(r.Stderr, "allow with --max-processes") {
			t.Errorf("the refusal is not explained: %s", r.Stderr)
		}
	})
}

// Memory that is used counts, in whatever form; what is reserved does not.
func TestRunMemory(t *testing.T) {
	const head = "import mmap, os, time\nM = 1 << 20\n"
	asUsers(t, func(t *testing.T, u lab.User) {
		for _, c := range []struct {
			name string
			cmd  []string
			ends bool // the limit ends it
		}{
			{"reserved", []string{python, "-c", head + "m = mmap.mmap(-1, 8 << 30); time.sleep(0.5)"}, false},
			{"shared after fork", []string{python, "-c", head + "m = mmap.mmap(-1, 60 * M)\nfor i in range(60): m.write(b'x' * M)\nkids = [os.fork() or ([m[i * 4096] for i in range(60 * 256)], time.sleep(0.5), os._exit(0)) for i in range(5)]\nfor k in kids: assert os.waitpid(k, 0)[1] == 0"}, false},
			{"node", []string{"node", "-e", "setTimeout(() => {}, 300)"}, false},
			{"go", lab.GoClient(t, "http://127.0.0.1:1/"), false},
			{"anonymous", []string{python, "-c", head + "c = []\nfor i in range(600): c.append(b'x' * M)\ntime.sleep(1)"}, true},
			{"memfd", []string{python, "-c", head + "f = os.memfd_create('x')\nfor i in range(600): os.write(f, b'x' * M)\ntime.sleep(1)"}, true},
			{"shared", []string{python, "-c", head + "m = mmap.mmap(-1, 600 * M)\nfor i in range(600): m.write(b'x' * M)\ntime.sleep(1)"}, true},
			{"many", []string{"sh", "-c", "for i in 1 2 3 4 5 6 7 8; do " + python + " -c \"c = [b'x' * (1 << 20) for i in range(40)]; import time; time.sleep(3)\" || kill $$ & done; wait"}, true},
		} {
			if r := bareIn(t, u, scratch(t, u), c.cmd...); r.Code != 0 && c.name != "go" {
				t.Errorf("control: %s: code %d: %s", c.name, r.Code, r.Stderr)
			}
			r := runIn(t, u, scratch(t, u), []string{"-m", "120M"}, c.cmd...)
			if killed := strings.Contains(r.Stderr, "denied memory"); killed != c.ends {
				t.Errorf("%s: killed %v: code %d: %s", c.name, killed, r.Code, r.Stderr)
			}
		}
		if r := runIn(t, u, scratch(t, u), []string{"-m", "64M"}, "grep", "MemTotal:          65536 kB", "/proc/meminfo"); r.Code != 0 {
			t.Errorf("meminfo: code %d: %s%s", r.Code, r.Stdout, r.Stderr)
		}
	})
}

func TestRunLimits(t *testing.T) {
	asUsers(t, func(t *testing.T, u lab.User) {
		for _, c := range []struct {
			flags  []string
			script string
			want   string
		}{
			{[]string{"--max-open-files", "20"}, "ulimit -n; ulimit -Hn", "20\n20\n"}, {[]string{"--max-open-files", "99999999"}, "test $(ulimit -n) -lt 99999999 && echo not raised", "not raised\n"},
			{[]string{"--num-cpus", "3"}, "nproc; grep -c ^processor /proc/cpuinfo", "3\n3\n"}, {[]string{"--cpu-cores", "0"}, "nproc", "1\n"},
			{[]string{"--no-coredump"}, "ulimit -c", "0\n"}, {[]string{"--no-huge-pages"}, "grep THP_enabled /proc/self/status", "THP_enabled:\t0\n"},
			{[]string{"--no-randomize-memory"}, "a=$(sed -n '/stack/p' /proc/self/maps); b=$(sed -n '/stack/p' /proc/self/maps); test \"$a\" = \"$b\" && echo same", "same\n"},
			{[]string{"--name", "box"}, "uname -n; cat /etc/hostname /proc/sys/kernel/hostname /proc/self/root/etc/hostname; cd /etc; cat ./hostname ../etc//hostname", strings.Repeat("box\n", 6)},
			{nil, "cat /etc/hosts | head -2", "127.0.0.1 localhost\n::1 localhost\n"}, {[]string{"--timeout", "100ms"}, "sleep 60", ""}, {[]string{"--cpu", "50"}, "i=0; while [ $i -lt 20000 ]; do i=$((i+1)); done; echo done", "done\n"},
		} {
			r := runIn(t, u, scratch(t, u), append([]string{"--quiet"}, c.flags...), "sh", "-c", c.script)
			if r.Stdout != c.want {
				t.Errorf("%q: %q: code %d: %q %s, want %q", c.flags, c.script, r.Code, r.Stdout, r.Stderr, c.want)
			}
		}
		// A mask of any size, and a processor count that fits none.
		script := attempts + `
for n in (0, 7, 8, 1 << 30, 0xfffffff8):
    b = ctypes.create_string_buffer(128)
    t("mask-%d" % n, lambda: syscall(204, 0, ctypes.c_ulong(n), b))
t("ipc", lambda: syscall(29, 0, 4096, 0o600))
t("getuid", lambda: syscall(102))
t("personality", lambda: syscall(135, 0))
`
		got := outcomes(t, runIn(t, u, scratch(t, u), []string{"--quiet", "--num-cpus", "3"}, python, "-c", script))
		for name, want := range map[string]string{"mask-0": "EINVAL", "mask-7": "EINVAL", "mask-8": "ok", "mask-1073741824": "ok", "mask-4294967288": "ok", "ipc": "EPERM", "getuid": "ok", "personality": "EPERM"} {
			if got[name] != want {
				t.Errorf("%s: %q, want %q", name, got[name], want)
			}
		}
		got = outcomes(t, runIn(t, u, scratch(t, u), []string{"--quiet", "--extra-allow-syscall", "sysv_ipc", "--extra-deny-syscall", "getuid"}, python, "-c", script))
		if got["ipc"] != "ok" || got["getuid"] != "EPERM" {
			t.Errorf("extra calls: %v", got)
		}
		for _, flags := range [][]string{{"-m", "12Q"}, {"-m", "0"}, {"-m", "99999999999G"}, {"-c", "101"}, {"-c", "0"}, {"-P", "-1"}, {"--max-open-files", "0"}, {"--extra-deny-syscall", "no_such"}, {"--extra-allow-syscall", "getuid"},
			{"--extra-allow-syscall", "sysv_ipc", "--extra-deny-syscall", "shmget"}, {"--num-cpus", "0"}, {"--cpu-cores", "5000"}} {
			if r := runIn(t, u, scratch(t, u), flags, "true"); r.Code != 2 || !strings.Contains(r.Stderr, "--") {
				t.Errorf("%q: code %d: %s", flags, r.Code, r.Stderr)
			}
		}
	})
}
