// Package lab gives tests a world of their own: network, mount, PID and IPC
// namespaces in which only lo exists. Public, private and special-use addresses
// are added to it, sinks listen on their real ports, and an own DNS authority,
// CA, resolv.conf, hosts and passwd replace the machine's. No packet can leave.
package lab

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// Variables that carry the lab from one stage of the re-execution to the next.
const (
	envStage  = "SANDLOCK_LAB_STAGE"
	envDir    = "SANDLOCK_LAB_DIR"
	envNested = "SANDLOCK_LAB_USERNS"
	envBinary = "SANDLOCK_BINARY"
	envClient = "SANDLOCK_LAB_CLIENT"
)

// Main runs the tests of m inside a lab and exits with their code. The calling
// binary is executed again twice: as the lab's init, which sets the namespaces
// up and reaps, and under it as the tests. Both end when their parent does.
// root is the directory of the module, from which the program under test is
// built when SANDLOCK_BINARY does not name it.
func Main(m *testing.M, root string) {
	if what := os.Getenv(envClient); what != "" {
		os.Exit(client(what))
	}
	switch os.Getenv(envStage) {
	case "":
		os.Exit(outer(root))
	case "init":
		os.Exit(initStage())
	default:
		code, err := runTests(m)
		if err != nil {
			fmt.Fprintln(os.Stderr, "lab:", err)
			code = 1
		}
		os.Exit(code)
	}
}

func outer(root string) int {
	dir, err := os.MkdirTemp("", "sandlock-lab-")
	if err != nil {
		return fail(err)
	}
	defer os.RemoveAll(dir)
	if err := prepare(dir, root); err != nil {
		return fail(err)
	}
	self, err := os.Executable()
	if err != nil {
		return fail(err)
	}
	c := exec.Command(self, os.Args[1:]...)
	c.Stdin, c.Stdout, c.Stderr = os.Stdin, os.Stdout, os.Stderr
	c.Env = append(os.Environ(), envStage+"=init", envDir+"="+dir)
	c.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags: unix.CLONE_NEWNET | unix.CLONE_NEWNS | unix.CLONE_NEWPID | unix.CLONE_NEWIPC,
		Pdeathsig:  syscall.SIGKILL,
	}
	if os.Geteuid() != 0 {
		c.SysProcAttr.Cloneflags |= unix.CLONE_NEWUSER
		c.SysProcAttr.UidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Geteuid(), Size: 1}}
		c.SysProcAttr.GidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getegid(), Size: 1}}
		c.Env = append(c.Env, envNested+"=1")
	}
	return exitCode(c.Run())
}

func fail(err error) int {
	fmt.Fprintln(os.Stderr, "lab:", err)
	return 1
}

func exitCode(err error) int {
	if err == nil {
		return 0
	}
	if e, ok := err.(*exec.ExitError); ok && e.ExitCode() >= 0 {
		return e.ExitCode()
	}
	return fail(err)
}

// prepare makes what must be made outside the namespaces.
func prepare(dir, root string) error {
	if err := os.Chmod(dir, 0o755); err != nil {
		return err
	}
	for name, mode := range map[string]os.FileMode{"tmp": 0o777 | os.ModeSticky, "etc": 0o755, "home": 0o755, "bin": 0o755} {
		p := filepath.Join(dir, name)
		if err := os.Mkdir(p, 0o755); err != nil {
			return err
		}
		if err := os.Chmod(p, mode); err != nil {
			return err
		}
	}
	for _, name := range []string{"sandlock", "sandlock-proxy"} {
		if err := program(filepath.Join(dir, "bin", name), name, root); err != nil {
			return err
		}
	}
	return nil
}

// program puts a program under test to a path: the one beside SANDLOCK_BINARY, or
// one that is built.
func program(to, name, root string) error {
	if given := os.Getenv(envBinary); given != "" {
		if name != "sandlock" {
			given = filepath.Join(filepath.Dir(given), name)
		}
		data, err := os.ReadFile(given)
		if err == nil {
			return os.WriteFile(to, data, 0o755)
		}
		if name == "sandlock" {
			return fmt.Errorf("%s: %w", envBinary, err)
		}
	}
	c := exec.Command("go", "build", "-o", to, "./cmd/"+name)
	c.Dir, c.Env = root, append(os.Environ(), "CGO_ENABLED=0")
	if out, err := c.CombinedOutput(); err != nil {
		return fmt.Errorf("build %s (or name it in %s): %w: %s", name, envBinary, err, out)
	}
	return os.Chmod(to, 0o755)
}

// initStage is process 1 of the lab.
func initStage() int {
	dir := os.Getenv(envDir)
	if err := setUp(dir); err != nil {
		return fail(err)
	}
	self, err := os.Executable()
	if err != nil {
		return fail(err)
	}
	os.Setenv(envStage, "tests")
	os.Setenv("TMPDIR", filepath.Join(dir, "tmp"))
	p, err := os.StartProcess(self, os.Args, &os.ProcAttr{Files: []*os.File{os.Stdin, os.Stdout, os.Stderr},
		Sys: &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}})
	if err != nil {
		return fail(err)
	}
	for {
		var ws unix.WaitStatus
		pid, err := unix.Wait4(-1, &ws, 0, nil)
		switch {
		case err == unix.EINTR:
		case err != nil:
			return fail(err)
		case pid == p.Pid && ws.Signaled():
			return 128 + int(ws.Signal())
		case pid == p.Pid:
			return ws.ExitStatus()
		}
	}
}

// Nested tells whether the lab is in a user namespace of an ordinary user.
func Nested() bool { return os.Getenv(envNested) != "" }

// Dir is the lab's own directory; everybody may enter it.
func Dir() string { return os.Getenv(envDir) }

func setUp(dir string) error {
	if err := addresses(); err != nil {
		return err
	}
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("private mounts: %w", err)
	}
	if err := unix.Mount("proc", "/proc", "proc", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, ""); err != nil {
		return fmt.Errorf("mount /proc: %w", err)
	}
	if err := pingGroups(); err != nil {
		return fmt.Errorf("ping sockets: %w", err)
	}
	if err := emptyRun(); err != nil {
		return err
	}
	passwd, err := os.ReadFile("/etc/passwd")
	if err != nil {
		return err
	}
	var kept []string
	for _, l := range strings.Split(strings.TrimSpace(string(passwd)), "\n") {
		if f := strings.Split(l, ":"); len(f) == 7 && f[2] != "0" && f[2] != "1000" {
			kept = append(kept, l)
		}
	}
	kept = append(kept, "root:x:0:0:root:"+dir+"/home:/bin/sh", "lab:x:1000:1000:lab:"+dir+"/home:/bin/sh", "")
	files := map[string]string{
		"/etc/resolv.conf": "nameserver " + Resolver.String() + "\noptions timeout:2 attempts:1\n",
		"/etc/hosts":       "127.0.0.1 localhost\n::1 localhost\n" + InHosts.String() + " " + HostsName + "\n",
		"/etc/passwd":      strings.Join(kept, "\n"),
	}
	for path, text := range files {
		own := filepath.Join(dir, "etc", filepath.Base(path))
		if err := os.WriteFile(own, []byte(text), 0o644); err != nil {
			return err
		}
		if err := unix.Mount(own, path, "", unix.MS_BIND, ""); err != nil {
			return fmt.Errorf("replace %s: %w", path, err)
		}
	}
	return nil
}

// emptyRun replaces /run, where the machine's own services have their sockets,
// by a directory that everybody may write to.
func emptyRun() error {
	if err := unix.Mount("tmpfs", "/run", "tmpfs", unix.MS_NOSUID|unix.MS_NODEV, "mode=777"); err != nil {
		return fmt.Errorf("replace /run: %w", err)
	}
	for _, dir := range []string{"/run/sshd", "/run/nscd", "/run/systemd/resolve", "/run/lock"} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return err
		}
	}
	return nil
}
