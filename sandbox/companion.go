package sandbox

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"

	"github.com/sandlock/sandlock/internal/launch"
	"github.com/sandlock/sandlock/internal/wire"
	"golang.org/x/sys/unix"
)

// interceptorName is the program of the interceptor.
const interceptorName = "sandlock-proxy"

// interceptorPath finds the program beside our own, or in PATH.
func interceptorPath() (string, error) {
	beside := ""
	if self, err := os.Executable(); err == nil {
		beside = filepath.Join(filepath.Dir(self), interceptorName)
		if st, err := os.Stat(beside); err == nil && st.Mode().IsRegular() && st.Mode()&0o111 != 0 {
			return beside, nil
		}
	}
	path, err := exec.LookPath(interceptorName)
	if err != nil {
		return "", fmt.Errorf("HTTP rules need the program %s, which is neither at %s nor in PATH; install it beside sandlock (make install does)", interceptorName, beside)
	}
	return filepath.Abs(path)
}

// companionHost starts the interceptor's process, one at a time.
type companionHost struct {
	path    string
	command *launch.Thread // the command's
	mu      sync.Mutex
	thread  *launch.Thread
	child   *launch.Companion
}

// spawn starts a process and returns the connection to it, owned by the caller. It
// blocks until the program was executed.
func (h *companionHost) spawn() (*wire.Conn, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.thread == nil {
		// Not the command's: it shall not wait.
		h.thread = launch.NewThread(launch.KernelABI())
	}
	conn, fd, err := wire.Pair()
	if err != nil {
		return nil, err
	}
	defer unix.Close(fd)
	env := []string{"GOTRACEBACK=none"}
	for _, key := range []string{"SSL_CERT_FILE", "SSL_CERT_DIR"} {
		if v, ok := os.LookupEnv(key); ok {
			env = append(env, key+"="+v)
		}
	}
	child, err := launch.StartCompanion(h.thread, h.path, []string{interceptorName}, env, fd)
	if err != nil {
		conn.Close()
		return nil, err
	}
	h.command.Exclude(child.PID)
	h.child = child
	return conn, nil
}

// PID returns the number of the process, 0 when none is up.
func (h *companionHost) PID() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.child == nil || !h.child.Alive() {
		return 0
	}
	return h.child.PID
}

// end ends the process, if one is up.
func (h *companionHost) end() {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.child != nil {
		h.child.Close()
		h.child = nil
	}
}

func (h *companionHost) close() {
	h.end()
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.thread != nil {
		h.thread.Close()
		h.thread = nil
	}
}

// secretFile is a sealed file in memory: what is in it is on no heap of ours. The
// zero value is empty.
type secretFile struct{ file *os.File }

// fill writes the content; only once.
func (s *secretFile) fill(content []byte) error {
	fd, err := unix.MemfdCreate("sandlock", unix.MFD_CLOEXEC|unix.MFD_ALLOW_SEALING)
	if err != nil {
		return fmt.Errorf("memfd_create: %w", err)
	}
	f := os.NewFile(uintptr(fd), "memfd")
	if _, err := f.Write(content); err != nil {
		f.Close()
		return err
	}
	if _, err := unix.FcntlInt(uintptr(fd), unix.F_ADD_SEALS, unix.F_SEAL_SHRINK|unix.F_SEAL_GROW|unix.F_SEAL_WRITE|unix.F_SEAL_SEAL); err != nil {
		f.Close()
		return fmt.Errorf("seal a memfd: %w", err)
	}
	s.file = f
	return nil
}

// fd returns the descriptor, which stays the file's, or -1.
func (s *secretFile) fd() int {
	if s.file == nil {
		return -1
	}
	return int(s.file.Fd())
}

func (s *secretFile) close() {
	if s.file != nil {
		s.file.Close()
		s.file = nil
	}
}
