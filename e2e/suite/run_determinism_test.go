package suite

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/sandlock/sandlock/internal/lab"
)

// javaProgram is the command line of a program in one file, whose class has the name.
func javaProgram(t *testing.T, name, text string) []string {
	t.Helper()
	src := filepath.Join(lab.Dir(), "tmp", name+".java")
	if err := os.WriteFile(src, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	return []string{"sh", "-c", `exec java -Xshare:auto -XX:TieredStopAtLevel=1 -Djava.io.tmpdir="$TMPDIR" "$0"`, src}
}

// forkScript is a shell script whose processes ask for randomness at the same time, in
// no order.
const forkScript = `for i in 1 2 3 4 5 6; do (echo $i $(head -c4 /dev/urandom | od -An -tx1) $(cat /proc/sys/kernel/random/uuid); exit) & done | sort
for i in 1 2 3; do (head -c4 /dev/random | od -An -tx1) & wait; done`

// What a program takes from the kernel's randomness follows from the seed, in
// every process and by every path.
func TestRandomSeed(t *testing.T) {
	readable := []string{"-r", lab.Dir()}
	link := filepath.Join(lab.Scratch(t, lab.Ordinary), "chance")
	if err := os.Chmod(filepath.Dir(link), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("/dev/urandom", link); err != nil {
		t.Fatal(err)
	}
	devices := []string{"/dev/urandom", "/dev/random", "/proc/self/root/dev/urandom", link, "/dev/../dev//urandom", "/proc/thread-self/cwd/../../../../../../dev/random"}
	for _, c := range []struct {
		name    string
		command []string
	}{
		{"glibc", append([]string{lab.Probe(t), "randomness"}, devices...)},
		{"musl", append([]string{lab.MuslProbe(t), "randomness"}, devices...)},
		{"python", []string{python, "-c", `import os, random, uuid, tempfile, secrets
print(os.urandom(8), random.random(), uuid.uuid4(), hash('x'), list({str(i) for i in range(20)}), secrets.token_hex(), os.path.basename(tempfile.mktemp()))
r, w = os.pipe()
for i in range(5):
    if os.fork() == 0: os.write(w, b'%d %r ' % (i, os.urandom(4))); os._exit(0)
for i in range(5): os.wait()
print(sorted(os.read(r, 1000).split(b' ')))`}},
		{"go", lab.GoProgram(t, "randomness")},
		{"java", javaProgram(t, "Chance", `import java.util.*; import java.nio.file.*;
class Chance { public static void main(String[] a) throws Exception {
System.out.println(UUID.randomUUID() + " " + new java.security.SecureRandom().nextLong() + " " + Files.createTempFile("x", "y").getFileName()); } }`)},
		{"coreutils", []string{"sh", "-c", "shuf -i 1-100 | tr '\n' ' '; head -c 3000000 /dev/urandom | md5sum; dd if=/dev/urandom bs=16 skip=100 count=1 2>/dev/null | od -An -tx1"}},
		{"forks", []string{"bash", "-c", forkScript}},
	} {
		t.Run(c.name, func(t *testing.T) {
			asUsers(t, func(t *testing.T, u lab.User) {
				dir := lab.Scratch(t, u)
				run := func(seed string) string {
					t.Helper()
					r := runIn(t, u, dir, append([]string{"--random-seed", seed, "-w", dir}, readable...), c.command...)
					if r.Code != 0 || seesHost(r) {
						t.Fatalf("code %d: %s%s", r.Code, r.Stdout, r.Stderr)
					}
					return r.Stdout
				}
				if a, b := bareIn(t, u, dir, c.command...), bareIn(t, u, dir, c.command...); a.Code != 0 || a.Stdout == b.Stdout {
					t.Fatalf("control: %+v %+v", a, b)
				}
				one, again, other := run("1"), run("1"), run("2")
				if one != again {
					t.Errorf("one seed:\n%s%s", one, again)
				}
				if one == other {
					t.Errorf("two seeds: %s", one)
				}
			})
		})
	}
}

// A seeded device is endless, can be sought in, and reads as much as one asks.
func TestRandomDevices(t *testing.T) {
	script := `import os
f = os.open('/dev/urandom', os.O_RDONLY)
g = os.open('/dev/urandom', os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
assert not os.get_inheritable(g)
a = [os.read(f, 256) for _ in range(20000)]
assert {len(x) for x in a} == {256} and len(set(a)) == len(a)
for at in 0, 1 << 30: os.lseek(f, at, os.SEEK_SET)
os.lseek(f, 0, os.SEEK_CUR)
assert len(os.read(f, 65536)) == 65536 and len(os.read(g, 16)) == 16
d = os.dup(f); os.close(f)
assert len(os.read(d, 16)) == 16
with open('/dev/random', 'rb') as h: assert len(h.read(5 << 20)) == 5 << 20
with open('/dev/urandom', 'wb') as h: h.write(b'x')
r, w = os.pipe()
try: os.lseek(r, 0, os.SEEK_SET); assert False
except OSError as e: assert e.errno == 29
print('whole')`
	asUsers(t, func(t *testing.T, u lab.User) {
		for _, r := range []lab.Result{lab.Run(t, u, python, "-c", script), runIn(t, u, lab.Scratch(t, u), []string{"--random-seed", "1"}, python, "-c", script)} {
			if r.Stdout != "whole\n" {
				t.Fatalf("%+v", r)
			}
		}
	})
}

// seesHost tells whether sandlock says that some process was not changed.
func seesHost(r lab.Result) bool { return strings.Contains(r.Stderr, "sees the host") }

// starts are first moments of runs: long before now, on a leap day, far ahead.
var starts = []string{"1971-01-01T00:00:00Z", "2000-02-29T12:00:00Z", "2100-12-31T00:00:00Z"}

// slow programs are run for one of the starts.
var slow = map[string]bool{"java": true, "node": true, "sleep": true}

// Every program sees the date that the run was given, in every process and after
// every exec.
func TestTimeStart(t *testing.T) {
	readable := []string{"-r", lab.Dir()}
	for _, start := range starts {
		at, err := time.Parse(time.RFC3339, start)
		if err != nil {
			t.Fatal(err)
		}
		seconds := strconv.FormatInt(at.Unix(), 10)
		minute := start[:16]
		for _, c := range []struct {
			name    string
			command []string
			want    string
		}{
			{"glibc, static", []string{lab.Probe(t), "now", seconds}, "ok now"},
			{"musl", []string{lab.MuslProbe(t), "now", seconds}, "ok now"},
			{"date", []string{"date", "-u", "+%FT%H:%M"}, minute},
			{"exec after exec", []string{"sh", "-c", `exec sh -c 'exec sh -c "exec date -u +%FT%H:%M"'`}, minute},
			{"fork", []string{"bash", "-c", `(TZ=UTC printf '%(%FT%H:%M)T\n' -1)`}, minute},
			{"python", []string{python, "-c", `import datetime, subprocess, time
print(datetime.datetime.now(datetime.UTC).isoformat()[:16], time.strftime('%FT%H:%M', time.gmtime()), subprocess.check_output(['date', '-u', '+%FT%H:%M']).decode())`}, minute + " " + minute + " " + minute},
			{"node", []string{"node", "-p", "new Date().toISOString()"}, minute},
			{"go", lab.GoProgram(t, "now"), minute},
			{"java", javaProgram(t, "Now", `class Now { public static void main(String[] a) { System.out.println(java.time.Instant.now()); } }`), minute},
			{"boot", []string{python, "-c", `import time
boot = int(next(l for l in open('/proc/stat') if l.startswith('btime')).split()[1])
up = float(open('/proc/uptime').read().split()[0])
print('agree' if abs(time.time() - up - boot) < 3 else (time.time(), up, boot))`}, "agree"},
		} {
			if start != starts[0] && slow[c.name] {
				continue
			}
			t.Run(start+"/"+c.name, func(t *testing.T) {
				asUsers(t, func(t *testing.T, u lab.User) {
					dir := lab.Scratch(t, u)
					if bare := bareIn(t, u, dir, c.command...); c.name != "boot" && strings.Contains(bare.Stdout, c.want) {
						t.Fatalf("control: %+v", bare)
					}
					r := runIn(t, u, dir, append([]string{"--time-start", start}, readable...), c.command...)
					if r.Code != 0 || seesHost(r) || !strings.Contains(r.Stdout, c.want) {
						t.Fatalf("want %q, got code %d: %s%s", c.want, r.Code, r.Stdout, r.Stderr)
					}
				})
			})
		}
	}
}

// Whatever the date, waiting takes the time that it takes.
func TestTimeStartLetsTimePass(t *testing.T) {
	readable := []string{"-r", lab.Dir()}
	for _, start := range starts {
		for _, c := range []struct {
			name    string
			command []string
		}{
			{"glibc, static", []string{lab.Probe(t), "deadlines"}},
			{"musl", []string{lab.MuslProbe(t), "deadlines"}},
			{"sleep", []string{"bash", "-c", `SECONDS=0; sleep 1; timeout 1 sleep 60; [ $? = 124 ] && [ $SECONDS -ge 2 ] && [ $SECONDS -lt 20 ]`}},
			{"python", []string{python, "-c", `import time, threading, select, queue
def t(f):
    a = time.monotonic(); b = time.time(); f()
    for d in time.monotonic() - a, time.time() - b: assert .19 < d < 10, (f, d)
t(lambda: time.sleep(.2)); t(lambda: threading.Event().wait(.2)); t(lambda: select.select([], [], [], .2)); t(lambda: select.epoll().poll(.2))
l = threading.Lock(); l.acquire(); t(lambda: l.acquire(timeout=.2))
try: t(lambda: queue.Queue().get(timeout=.2))
except queue.Empty: pass`}},
			{"node", []string{"node", "-e", `let a = performance.now(), b = Date.now()
setTimeout(() => { for (let d of [performance.now() - a, Date.now() - b]) if (d < 190 || d > 10000) throw d }, 200)`}},
			{"go", lab.GoProgram(t, "sleeps")},
			{"java", javaProgram(t, "Waits", `import java.util.concurrent.locks.*;
class Waits { interface Wait { void run() throws Exception; }
static void t(Wait w) throws Exception { long a = System.nanoTime(); w.run(); long d = (System.nanoTime() - a) / 1000000; if (d < 190 || d > 10000) throw new Exception("took " + d); }
public static void main(String[] a) throws Exception {
t(() -> Thread.sleep(200)); t(() -> LockSupport.parkUntil(System.currentTimeMillis() + 200)); t(() -> LockSupport.parkNanos(200000000L));
t(() -> { synchronized (Waits.class) { Waits.class.wait(200); } });
t(() -> { Thread x = new Thread(() -> { try { Thread.sleep(60000); } catch (InterruptedException e) { } }); x.setDaemon(true); x.start(); x.join(200); }); } }`)},
		} {
			if start != starts[0] && slow[c.name] {
				continue
			}
			t.Run(start+"/"+c.name, func(t *testing.T) {
				asUsers(t, func(t *testing.T, u lab.User) {
					dir := lab.Scratch(t, u)
					r := runIn(t, u, dir, append([]string{"--time-start", start}, readable...), c.command...)
					if r.Code != 0 || seesHost(r) {
						t.Fatalf("code %d: %s%s", r.Code, r.Stdout, r.Stderr)
					}
				})
			})
		}
	}
}

func TestDeterminismInput(t *testing.T) {
	for _, c := range []struct{ flags []string }{
		{[]string{"--time-start", "yesterday"}}, {[]string{"--time-start", "1969-12-31T23:59:59Z"}}, {[]string{"--time-start", "2200-01-01T00:00:00Z"}},
		{[]string{"--random-seed", "x"}}, {[]string{"--random-seed", "-1"}},
	} {
		r := lab.Run(t, lab.Root, append(append([]string{lab.Sandlock(), "run"}, c.flags...), "--", "touch", "started")...)
		if r.Code != 2 || strings.Count(r.Stderr, "\n") != 1 || !strings.Contains(r.Stderr, c.flags[0]) {
			t.Errorf("%v: %+v", c.flags, r)
		}
	}
}
