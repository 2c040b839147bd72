package sandbox

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"reflect"
	"runtime"
	"strings"
	"testing"

	"github.com/sandlock/sandlock/dispatch"
	"golang.org/x/sys/unix"
)

// named starts a sleeping command that can be controlled.
func named(t *testing.T, p Policy) *Sandbox {
	t.Helper()
	if p.Command == nil {
		p.Command = []string{"sleep", "1000"}
	}
	c, err := p.Compile()
	if err != nil {
		t.Fatal(err)
	}
	s := New(c, Options{Control: true})
	if err := s.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Kill(); s.Wait() })
	return s
}

func TestARunIsListedInspectedAndKilled(t *testing.T) {
	name := fmt.Sprintf("test-%d", os.Getpid())
	s := named(t, Policy{Name: name, Allow: []RuleText{{Text: "example.com:443", Source: "test"}}, Audit: true})
	other := named(t, Policy{})
	if s.Name() != name || !strings.HasPrefix(other.Name(), "sandbox-") {
		t.Errorf("names %q, %q", s.Name(), other.Name())
	}
	find := func() (Status, bool) {
		t.Helper()
		runs, err := Running()
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range runs {
			if r.Name == name {
				return r, true
			}
		}
		return Status{}, false
	}
	st, ok := find()
	if !ok || st.PID != s.PID() || st.Supervisor != os.Getpid() || st.State != "running" || !st.Audit || len(st.Command) != 2 {
		t.Errorf("%+v %v", st, ok)
	}
	if err := s.Pause(); err != nil {
		t.Fatal(err)
	}
	if st, _ := find(); st.State != "paused" {
		t.Errorf("%+v", st)
	}
	i, err := Inspect(name)
	if err != nil {
		t.Fatal(err)
	}
	if i.Processes != 1 || !strings.Contains(i.Policy, "example.com:443") || !strings.Contains(i.Chains, "net.connect") || i.Name != name {
		t.Errorf("%+v", i)
	}
	err = New(s.compiled, Options{Control: true}).Start(t.Context())
	if !errors.Is(err, ErrUsage) || !strings.Contains(err.Error(), name) {
		t.Errorf("a second run of the name: %v", err)
	}
	if err := KillRun(name); err != nil {
		t.Error(err)
	}
	var exit *ExitError
	if err := s.Wait(); !errors.As(err, &exit) || exit.Status.Signal() != unix.SIGKILL {
		t.Errorf("after KillRun: %v", err)
	}
	if _, ok := find(); ok {
		t.Error("it is still listed")
	}
	if err := KillRun(name); !errors.Is(err, ErrNoRun) {
		t.Errorf("killed twice: %v", err)
	}
	if _, err := Inspect(name); !errors.Is(err, ErrNoRun) {
		t.Errorf("inspected after its end: %v", err)
	}
	if state(other.PID()) == 0 {
		t.Error("another run was killed")
	}
}

// controlScript asks the run of a name to end, as sandlock kill does.
const controlScript = `
import socket, sys
s = socket.socket(socket.AF_UNIX)
try: s.connect("\0" + sys.argv[1])
except OSError as e: sys.exit("connect: " + e.strerror)
s.settimeout(20)
try: s.send(b'{"v":1,"verb":"kill"}\n'); print("answer", s.recv(100))
except OSError as e: print("answer b''", e)`

func TestNoSandboxReachesTheControl(t *testing.T) {
	s := named(t, Policy{Name: fmt.Sprintf("target-%d", os.Getpid())})
	at := fmt.Sprintf("sandlock/%d/%s", os.Geteuid(), s.Name())
	for name, p := range map[string]Policy{
		"another's": {}, "in audit mode": {Audit: true}, "with everything allowed": {Allow: []RuleText{{Text: "*", Source: "test"}}},
	} {
		p.Command = []string{"python3", "-c", controlScript, at}
		c, err := p.Compile()
		if err != nil {
			t.Fatal(err)
		}
		if got := output(t, c, Options{}); !strings.Contains(got, "connect: Operation not permitted") {
			t.Errorf("%s: %q", name, got)
		}
	}
	if os.Geteuid() == 0 {
		c := exec.Command("setpriv", "--reuid=1000", "--regid=1000", "--clear-groups", "/usr/bin/python3", "-c", controlScript, at)
		if out, _ := c.CombinedOutput(); !strings.Contains(string(out), "answer b''") {
			t.Errorf("another user: %q", out)
		}
	}
	if st := state(s.PID()); st == 0 || st == 'Z' {
		t.Error("the run was killed")
	}
	// The control: from outside the same words do it.
	out, err := exec.Command("python3", "-c", controlScript, at).CombinedOutput()
	if err != nil {
		t.Errorf("%v: %s", err, out)
	}
	if err := s.Wait(); err == nil {
		t.Error("the owner's word did not end the run")
	}
}

// What TOML writes is read as the same policy, whatever key a file may have.
func TestPolicyAsTOML(t *testing.T) {
	const text = `[network]
allow = ["example.com:443", "10.0.0.0/8"]
deny = ["ads.example.com"]
allow_unix = ["/run/x.sock"]
allow_bind = ["8000-8010"]
deny_bind = ["22"]
port_remap = true
allow_private = true
dns_server = ["192.0.2.53:53", "[2001:db8::53]:5353"]
upstream_proxy = "http://proxy.example:3128"
audit = true
[http]
allow = ["GET example.com/*"]
deny = ["POST example.com/x"]
tls = "intercept"
inject_ca = ["/etc/own.pem"]
ca = "/ca.pem"
ca_key = "/ca.key"
ca_out = "/out.pem"
credential = { TOKEN = "env:TOKEN" }
auth = ["GET example.com/* bearer TOKEN"]
[filesystem]
read = ["/srv"]
write = ["/tmp"]
deny = ["/srv/a b\"c"]
[limits]
processes = 7
memory = "64M"
open_files = 100
cpu = 50
cpu_cores = [0]
num_cpus = 2
[syscalls]
extra_allow = ["sysv_ipc"]
extra_deny = ["sync"]
[determinism]
no_randomize_memory = true
deterministic_dirs = true
random_seed = 0
time_start = "2000-01-01T00:00:00Z"
[program]
clean_env = true
cwd = "/"
timeout = "1m30s"
name = "x"
pass_fd = [3]
no_coredump = true
no_huge_pages = true
[log]
file = "/log"
quiet = true
`
	p, err := ParsePolicy("policy.toml", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	p.Env, p.UpstreamProxy = []string{"TOKEN=secret"}, "http://me:secret@proxy.example:3128"
	out, err := p.TOML()
	if err != nil || strings.Contains(string(out), "secret") {
		t.Fatalf("%v: %s", err, out)
	}
	again, err := ParsePolicy("policy.toml", out)
	if err != nil {
		t.Fatalf("%v:\n%s", err, out)
	}
	p.Env, p.UpstreamProxy = nil, "http://proxy.example:3128"
	for _, p := range []*Policy{p, again} {
		for _, rules := range [][]RuleText{p.Allow, p.Deny, p.AllowBind, p.DenyBind, p.HTTPAllow, p.HTTPDeny, p.HTTPAuth, p.Credentials} {
			for i := range rules {
				rules[i].Source = ""
			}
		}
	}
	if !reflect.DeepEqual(p, again) {
		t.Errorf("%+v\n%+v\n%s", p, again, out)
	}
	for table, kind := range fields(reflect.TypeFor[document]()) {
		for key := range fields(kind) {
			if key != "env" && !strings.Contains(string(out), "\n"+key+" = ") && !strings.Contains(string(out), "."+key+"]") {
				t.Errorf("[%s] %s is not written: add it to Policy.TOML", table, key)
			}
		}
	}
}

func TestEvents(t *testing.T) {
	s := New(compiled(t, "bash", "-c", "exec 3<>/dev/tcp/127.0.0.1/1"), Options{})
	events := s.Events()
	if err := s.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	found := false
	for e := range events {
		found = found || e.Kind == EventDeny && e.Port == 1 && e.AllowWith == "--allow localhost:1"
	}
	s.Wait()
	if !found {
		t.Error("no event of the denial")
	}
	// One that nobody takes, or no longer, or of a run that never was, holds up nothing.
	s = New(compiled(t, "bash", "-c", "for i in $(seq 2000); do exec 3<>/dev/tcp/127.0.0.1/$i; done 2>/dev/null; true"), Options{})
	events = s.Events()
	if err := s.Run(t.Context()); err != nil {
		t.Error(err)
	}
	n := 0
	for range events {
		if n++; n == 3 {
			break
		}
	}
	if n != 3 {
		t.Errorf("%d events", n)
	}
	s = New(compiled(t, "/nonexistent"), Options{})
	events = s.Events()
	if err := s.Start(t.Context()); err == nil {
		t.Error("it was started")
	}
	for e := range events {
		t.Errorf("%+v", e)
	}
	for range New(compiled(t, "true"), Options{}).neverStarted(t) {
		t.Error("an event of a run that has started before")
	}
}

// neverStarted returns the events that are asked for too late.
func (s *Sandbox) neverStarted(t *testing.T) func(func(Event) bool) {
	if err := s.Run(t.Context()); err != nil {
		t.Fatal(err)
	}
	return s.Events()
}

// Runs one after the other leave no goroutine, descriptor or process.
func TestRunsLeaveNothing(t *testing.T) {
	runs := 50
	if os.Getenv("SANDLOCK_LONG") != "" {
		runs = 1000
	}
	once := func(i int) {
		h := on(func(*dispatch.Call) dispatch.Action { return dispatch.Continue() })
		s := New(shell(t, fmt.Sprintf("cat /dev/null; (setsid sleep 1000 &); echo %d", i)), Options{Control: true, Handlers: []dispatch.Registration{h}})
		if out, err := s.Output(context.Background()); err != nil || string(out) != fmt.Sprintln(i) {
			t.Errorf("%q, %v", out, err)
		}
	}
	once(0)
	runtime.GC()
	before, goroutines := resources(t), runtime.NumGoroutine()
	for i := range runs {
		once(i)
	}
	await(t, "the goroutines end", func() bool { return runtime.NumGoroutine() <= goroutines })
	quiet(t, before)
}
