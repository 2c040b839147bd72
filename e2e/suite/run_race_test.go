package suite

import (
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/sandlock/sandlock/internal/lab"
)

// fileRace opens a path that another thread changes all the time: the bytes of the
// path, or the symbolic link that it names. It fails as soon as it reads the word.
const fileRace = `
#define _GNU_SOURCE
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>
static char path[4096];
static const char *good, *bad;
static volatile int stop;
static void *bytes(void *x) { while (!stop) { strcpy(path, good); strcpy(path, bad); } return 0; }
static void *links(void *x) { while (!stop) { unlink("sw"); symlink(good, "sw"); unlink("sw"); symlink(bad, "sw"); } return 0; }
int main(int n, char **v) {
	good = v[2]; bad = v[3];
	int by_link = !strcmp(v[1], "link");
	strcpy(path, by_link ? "sw" : good);
	pthread_t t;
	pthread_create(&t, 0, by_link ? links : bytes, 0);
	long opened = 0, leaks = 0;
	time_t end = time(0) + atoi(v[5]);
	while (time(0) < end && !leaks) {
		int f = open(path, O_RDONLY);
		if (f < 0) continue;
		char buf[4096] = {0};
		opened++;
		if (read(f, buf, sizeof buf - 1) > 0 && memmem(buf, sizeof buf, v[4], strlen(v[4]))) leaks++;
		close(f);
	}
	stop = 1;
	printf("opened %ld leaks %ld\n", opened, leaks);
	return leaks ? 3 : 0;
}
`

func raceProgram(t *testing.T) string {
	t.Helper()
	dir := filepath.Join(lab.Dir(), "bin")
	bin := filepath.Join(dir, "filerace")
	if err := os.WriteFile(bin+".c", []byte(fileRace), 0o644); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command("gcc", "-O1", "-w", "-pthread", "-o", bin, bin+".c").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	return bin
}

// A thread that changes the path during the call never gets a closed file.
func TestRunPathRaces(t *testing.T) {
	bin := raceProgram(t)
	asUsers(t, func(t *testing.T, u lab.User) {
		secret := lab.Nonce()
		sleeper := lab.Command(t.Context(), t, u, "sleep", "600")
		sleeper.Args[0] = secret // anybody may read it, whatever namespace each is in
		if err := sleeper.Start(); err != nil {
			t.Fatal(err)
		}
		defer func() { sleeper.Process.Kill(); sleeper.Wait() }()
		cmdline := "/proc/" + strconv.Itoa(sleeper.Process.Pid) + "/cmdline"
		for _, c := range []struct{ name, bad string }{{"denied", "closed"}, {"foreign", cmdline}} {
			for _, how := range []string{"bytes", "link"} {
				t.Run(c.name+"/"+how, func(t *testing.T) {
					dir := scratch(t, u, "open", "closed")
					if err := os.WriteFile(filepath.Join(dir, "closed"), []byte(secret), 0o644); err != nil {
						t.Fatal(err)
					}
					if r := bareIn(t, u, dir, bin, how, "open", c.bad, secret, "2"); r.Code != 3 {
						t.Fatalf("control: the race is never won without a sandbox: %s%s", r.Stdout, r.Stderr)
					}
					flags := []string{"--quiet", "-w", dir, "-r", filepath.Dir(bin)}
					if c.name == "denied" {
						flags = append(flags, "--fs-deny", dir+"/closed")
					}
					r := runIn(t, u, dir, flags, bin, how, "open", c.bad, secret, raceSeconds())
					if r.Code != 0 || !strings.Contains(r.Stdout, "leaks 0") || strings.Contains(r.Stdout, "opened 0 ") {
						t.Errorf("code %d: %s%s", r.Code, r.Stdout, r.Stderr)
					}
				})
			}
		}
	})
}

// crowd opens, forks, lists, changes and connects from many threads at once.
const crowd = `
import os, sys, threading, socket, time
end = time.time() + float(sys.argv[1]); done = [0] * 64; bad = []
def work(i):
    while time.time() < end and len(bad) < 10:
        try:
            open("/proc/self/status").read(); open("/usr/lib/os-release").read(1)
            with open("f%d" % i, "w") as f: f.write("x")
            os.chmod("f%d" % i, 0o600); os.unlink("f%d" % i)
            assert str(os.getpid()) in os.listdir("/proc")
            s = socket.socket(); s.settimeout(20)
            try: s.connect(("127.0.0.1", 1)); bad.append("connected")
            except ConnectionRefusedError: pass
            s.close()
            if i % 8 == 0:
                if os.waitpid(os.posix_spawn("/bin/true", ["true"], {}), 0)[1]: bad.append("true")
            done[i] += 1
        except Exception as e: bad.append(repr(e))
ts = [threading.Thread(target=work, args=(i,)) for i in range(64)]
for t in ts: t.start()
for t in ts: t.join()
print(sum(done), min(done), bad)
sys.exit(len(bad) > 0 or min(done) == 0)
`

func TestRunCrowd(t *testing.T) {
	asUsers(t, func(t *testing.T, u lab.User) {
		for _, deny := range []bool{false, true} {
			dir := scratch(t, u, "closed/")
			flags := []string{"--quiet", "-w", dir}
			if deny {
				flags = append(flags, "--fs-deny", dir+"/closed")
			}
			if r := runIn(t, u, dir, flags, python, "-c", crowd, raceSeconds()); r.Code != 0 {
				t.Errorf("denial %v: code %d: %s%s", deny, r.Code, r.Stdout, r.Stderr)
			} else {
				t.Log(strings.TrimSpace(r.Stdout))
			}
		}
	})
}

func TestRunStatus(t *testing.T) {
	asUsers(t, func(t *testing.T, u lab.User) {
		for _, c := range []struct {
			flags []string
			cmd   []string
			want  string
		}{
			{nil, []string{"sh", "-c", "exit 3"}, `{"exit_code":3}`}, {nil, []string{"sh", "-c", "kill -9 $$"}, `{"exit_code":-1,"signal":9}`},
			{[]string{"-e", "exit 4"}, nil, `{"exit_code":4}`}, {[]string{"--timeout", "50ms"}, []string{"sleep", "60"}, `{"exit_code":-1,"signal":9,"timed_out":true}`},
		} {
			r, w, err := os.Pipe()
			if err != nil {
				t.Fatal(err)
			}
			all := append(append([]string{lab.Sandlock(), "run", "--quiet", "--status-fd", "3"}, c.flags...), c.cmd...)
			cmd := lab.Command(t.Context(), t, u, all...)
			cmd.ExtraFiles = []*os.File{w}
			lab.Finish(t, t.Context(), cmd)
			w.Close()
			buf := make([]byte, 256)
			n, _ := r.Read(buf)
			r.Close()
			if got := strings.TrimSpace(string(buf[:n])); got != c.want {
				t.Errorf("%q %q: %s, want %s", c.flags, c.cmd, got, c.want)
			}
		}
		if r := runIn(t, u, scratch(t, u), []string{"-e", "true"}, "false"); r.Code != 2 {
			t.Errorf("two commands: code %d: %s", r.Code, r.Stderr)
		}
	})
}
