package sandbox

import (
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

const confineDir = "SANDLOCK_TEST_CONFINE"

// confined is what the re-executed test does: it reports on standard output.
func confined(dir string) {
	report := func(name string, err error) {
		switch {
		case err == nil:
			os.Stdout.WriteString(name + " ok\n")
		case errors.Is(err, fs.ErrPermission):
			os.Stdout.WriteString(name + " denied\n")
		default:
			os.Stdout.WriteString(name + " " + err.Error() + "\n")
		}
	}
	open := func(path string) error {
		f, err := os.Open(path)
		if err == nil {
			f.Close()
		}
		return err
	}
	if err := Confine(&Policy{Files: &Files{Read: []string{dir + "/read"}, Write: []string{dir + "/write"}}}); err != nil {
		report("confine", err)
		return
	}
	report("read", open(dir+"/read/f"))
	report("write-there", os.WriteFile(dir+"/read/g", nil, 0o600))
	report("write", os.WriteFile(dir+"/write/g", nil, 0o600))
	report("other", open(dir+"/other"))
	// Threads that were there before and threads that come later.
	var wg sync.WaitGroup
	bad := make(chan error, 64)
	for range 64 {
		wg.Add(1)
		go func() {
			defer wg.Done()
			time.Sleep(time.Millisecond)
			if err := open(dir + "/other"); !errors.Is(err, fs.ErrPermission) {
				bad <- errors.New("open")
			}
		}()
	}
	wg.Wait()
	close(bad)
	report("threads", <-bad)
}

func TestConfine(t *testing.T) {
	if dir := os.Getenv(confineDir); dir != "" {
		confined(dir)
		return
	}
	dir := t.TempDir()
	for _, d := range []string{"read", "write"} {
		if err := os.Mkdir(filepath.Join(dir, d), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	for _, f := range []string{"read/f", "other"} {
		if err := os.WriteFile(filepath.Join(dir, f), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	c := exec.Command(os.Args[0], "-test.run=^TestConfine$")
	c.Env = append(os.Environ(), confineDir+"="+dir)
	out, err := c.CombinedOutput()
	if strings.Contains(string(out), "cgo") {
		t.Skip("the test was built with cgo")
	}
	want := "read ok\nwrite-there denied\nwrite ok\nother denied\nthreads ok\n"
	if !strings.HasPrefix(string(out), want) {
		t.Errorf("%v: %s, want %s", err, out, want)
	}
}

func TestConfineRefusesTheRest(t *testing.T) {
	err := Confine(&Policy{Quiet: true, Limits: Limits{Processes: 5}, Allow: []RuleText{{Text: "x"}}, Files: &Files{Deny: []string{"/x"}}})
	if err == nil || !strings.Contains(err.Error(), "remove Allow, Limits, Quiet, Files.Deny") {
		t.Error(err)
	}
	if err := Confine(&Policy{}); err == nil {
		t.Error("a policy without Files")
	}
	if err := Confine(&Policy{Files: &Files{Read: []string{"/no/such"}}}); err == nil {
		t.Error("a path that is not there")
	}
}
