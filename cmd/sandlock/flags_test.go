package main

import (
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/sandlock/sandlock/sandbox"
	"github.com/spf13/pflag"
	"golang.org/x/sys/unix"
)

func compile(t *testing.T, args ...string) (*sandbox.Compiled, error) {
	t.Helper()
	set := pflag.NewFlagSet("test", pflag.ContinueOnError)
	flags := newPolicyFlags(set, "")
	if err := set.Parse(args); err != nil {
		t.Fatal(err)
	}
	return flags.compile([]string{"cmd"})
}

func TestFlagsAndFileCombine(t *testing.T) {
	file := filepath.Join(t.TempDir(), "p.toml")
	if err := os.WriteFile(file, []byte(`
[network]
allow = ["a.example"]
deny = ["d.example"]
allow_unix = ["/run/a.sock"]
allow_bind = ["80"]
allow_private = true
dns_server = ["192.0.2.53"]
audit = true
[program]
env = { A = "file", B = "file" }
clean_env = true
timeout = "1h"
name = "file"
cwd = "/"
[log]
file = "file.log"
quiet = true
`), 0o600); err != nil {
		t.Fatal(err)
	}
	c, err := compile(t, "--policy", file)
	if err != nil {
		t.Fatal(err)
	}
	if p := c.Policy; !p.AllowPrivate || !p.Audit || !p.CleanEnv || !p.Quiet || p.Timeout != time.Hour || p.Name != "file" ||
		p.LogFile != "file.log" || p.Dir != "/" || !slices.Equal(p.Command, []string{"cmd"}) {
		t.Errorf("the file alone: %+v", p)
	}
	dir := t.TempDir()
	c, err = compile(t, "--policy", file, "--allow", "b.example", "--deny", "e.example", "--allow-unix", "/run/b.sock",
		"--allow-bind", "81", "--deny-bind", "82", "--allow-private=false", "--dns-server", "[2001:db8::53]:5353", "--audit=false",
		"--quiet=false", "--clean-env=false", "--env", "B=flag", "--timeout", "90s", "--name", "flag", "--cwd", dir, "--log", "flag.log")
	if err != nil {
		t.Fatal(err)
	}
	p := c.Policy
	if p.AllowPrivate || p.Audit || p.CleanEnv || p.Quiet || p.Timeout != 90*time.Second || p.Name != "flag" || p.LogFile != "flag.log" || p.Dir != dir {
		t.Errorf("flags do not override single values: %+v", p)
	}
	var got []string
	for _, list := range [][]sandbox.RuleText{p.Allow, p.Deny, p.AllowBind, p.DenyBind} {
		for _, r := range list {
			got = append(got, r.Text+" "+strings.TrimPrefix(r.Source, file))
		}
	}
	want := []string{"a.example :3", "b.example --allow", "d.example :4", "e.example --deny", "80 :6", "81 --allow-bind", "82 --deny-bind"}
	if !slices.Equal(got, want) {
		t.Errorf("rules %q, want %q", got, want)
	}
	if len(p.AllowUnix) != 2 || len(p.DNSServers) != 2 {
		t.Errorf("unix %q, name servers %v", p.AllowUnix, p.DNSServers)
	}
	if !slices.Contains(c.Env, "A=file") || !slices.Contains(c.Env, "B=flag") {
		t.Errorf("environment %q", c.Env)
	}
}

func TestRelativeUnixPathOfAFlag(t *testing.T) {
	t.Chdir(t.TempDir())
	dir, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	c, err := compile(t, "--allow-unix", "./x.sock")
	if err != nil || !slices.Contains(c.Unix, filepath.Join(dir, "x.sock")) {
		t.Errorf("%+v, %v", c, err)
	}
}

// Only descriptors that came through exec are the user's to pass on.
func TestPassFDRefusesOurOwn(t *testing.T) {
	f, err := os.Open("/dev/null")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	fd := strconv.Itoa(int(f.Fd()))
	if _, err := compile(t, "--pass-fd", fd); err == nil || !strings.Contains(err.Error(), "was not given to sandlock") {
		t.Errorf("a descriptor of our own: %v", err)
	}
	if _, err := unix.FcntlInt(f.Fd(), unix.F_SETFD, 0); err != nil {
		t.Fatal(err)
	}
	c, err := compile(t, "--pass-fd", fd)
	if err != nil || len(c.Policy.PassFDs) != 1 {
		t.Errorf("an inherited descriptor: %v", err)
	}
}
