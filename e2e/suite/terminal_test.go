package suite

import (
	"bufio"
	"os"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/sandlock/sandlock/internal/lab"
	"golang.org/x/sys/unix"
)

// terminal returns both ends of a new pseudo-terminal.
func terminal(t *testing.T) (master, slave *os.File) {
	t.Helper()
	master, err := os.OpenFile("/dev/ptmx", os.O_RDWR|syscall.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { master.Close() })
	if err := unix.IoctlSetPointerInt(int(master.Fd()), unix.TIOCSPTLCK, 0); err != nil {
		t.Fatal(err)
	}
	n, err := unix.IoctlGetInt(int(master.Fd()), unix.TIOCGPTN)
	if err != nil {
		t.Fatal(err)
	}
	if slave, err = os.OpenFile("/dev/pts/"+strconv.Itoa(n), os.O_RDWR|syscall.O_NOCTTY, 0); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { slave.Close() })
	return master, slave
}

// On a terminal Ctrl-C ends the command with 130, Ctrl-Z stops sandlock and
// SIGCONT lets both go on, and nothing can be typed into it.
func TestTerminal(t *testing.T) {
	p := lab.Probe(t)
	asUsers(t, func(t *testing.T, u lab.User) {
		master, slave := terminal(t)
		c := lab.Command(t.Context(), t, u, lab.NetArgs([]string{"--quiet"}, "sh", "-c", "stty -echo; echo up; cat; echo not reached")...)
		c.Stdin, c.Stdout, c.Stderr = slave, slave, slave
		c.SysProcAttr.Setsid, c.SysProcAttr.Setctty = true, true
		if err := c.Start(); err != nil {
			t.Fatal(err)
		}
		defer c.Process.Kill()
		time.AfterFunc(20*time.Second, func() { c.Process.Kill() })
		read := bufio.NewReader(master)
		line := func(want string) {
			t.Helper()
			got, err := read.ReadString('\n')
			if err != nil || strings.TrimSpace(got) != want {
				t.Fatalf("%q %v, want %q", got, err, want)
			}
		}
		line("up")
		master.WriteString("typed\n")
		line("typed")
		master.WriteString("\x03")
		err := c.Wait()
		if c.ProcessState.ExitCode() != 130 && c.ProcessState.Sys().(syscall.WaitStatus).Signal() != syscall.SIGINT {
			t.Errorf("Ctrl-C: %v", err)
		}
		for _, high := range []string{"0", "0x100000000"} {
			master, slave := terminal(t)
			d := lab.Command(t.Context(), t, u, lab.NetArgs([]string{"--quiet"}, p, "tiocsti", high)...)
			d.Stdin, d.Stdout, d.Stderr = slave, slave, slave
			d.SysProcAttr.Setsid, d.SysProcAttr.Setctty = true, true
			if d.Run() == nil {
				t.Error("TIOCSTI succeeds")
			}
			if got, err := bufio.NewReader(master).ReadString('\n'); err != nil || strings.TrimSpace(got) != "fail EPERM ioctl" {
				t.Errorf("TIOCSTI: %q %v", got, err)
			}
		}
	})
}

// Ctrl-Z stops sandlock with the command; a continue wakes both.
func TestStop(t *testing.T) {
	asUsers(t, func(t *testing.T, u lab.User) {
		master, slave := terminal(t)
		// A shell with job control is the parent that Ctrl-Z gives the terminal to.
		script := strings.Join(lab.NetArgs([]string{"--quiet"}, "sh", "-c", "'stty -echo; echo up; read x; echo got $x; exit 4'"), " ")
		c := lab.Command(t.Context(), t, u, "bash", "-c", "set -m; "+script+"; echo; echo stopped; fg >/dev/null; echo ended $?")
		c.Stdin, c.Stdout, c.Stderr = slave, slave, slave
		c.SysProcAttr.Setsid, c.SysProcAttr.Setctty = true, true
		if err := c.Start(); err != nil {
			t.Fatal(err)
		}
		guard := time.AfterFunc(20*time.Second, func() { c.Process.Kill() })
		defer guard.Stop()
		slave.Close()
		read := bufio.NewReader(master)
		until := func(want string) {
			t.Helper()
			for all := ""; ; {
				got, err := read.ReadString('\n')
				if all += got; err != nil {
					t.Fatalf("%q %v, want %q", all, err, want)
				}
				if strings.TrimSpace(got) == want {
					return
				}
			}
		}
		until("up")
		master.WriteString("\x1a")
		until("stopped")
		master.WriteString("word\n")
		until("got word")
		until("ended 4")
		c.Wait()
	})
}
