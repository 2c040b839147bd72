package launch

import (
	"errors"
	"io/fs"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

const defaultPath = "/usr/local/bin:/usr/bin:/bin" // as execvp(3) without PATH

// LookPath finds the program file as execvp(3) does, with the PATH of env. An
// error is an *Error whose code is 127, or 126 for a file that may not be run.
func LookPath(file, dir string, env []string) (string, error) {
	abs := func(p string) string {
		if dir != "" && !filepath.IsAbs(p) {
			return filepath.Join(dir, p)
		}
		return p
	}
	if file == "" {
		return "", &Error{"exec \"\"", ExitNotFound, fs.ErrNotExist}
	}
	if strings.Contains(file, "/") {
		if err := executable(abs(file)); err != nil {
			return "", notRunnable(file, err)
		}
		return file, nil
	}
	path := defaultPath
	for _, kv := range env {
		if v, ok := strings.CutPrefix(kv, "PATH="); ok {
			path = v
		}
	}
	var denied error
	for _, d := range filepath.SplitList(path) {
		if d == "" {
			d = "."
		}
		p := filepath.Join(d, file)
		if d == "." {
			p = "./" + file
		}
		err := executable(abs(p))
		if err == nil {
			return p, nil
		}
		// A directory that may not be searched hides nothing that is known to be there.
		if errors.Is(err, fs.ErrPermission) && unix.Stat(abs(p), new(unix.Stat_t)) == nil {
			denied = err
		}
	}
	if denied != nil {
		return "", notRunnable(file, denied)
	}
	return "", &Error{"exec " + file, ExitNotFound, errors.New("command not found in PATH")}
}

func executable(path string) error {
	var st unix.Stat_t
	if err := unix.Stat(path, &st); err != nil {
		return err
	}
	if st.Mode&unix.S_IFMT == unix.S_IFDIR {
		return unix.EACCES
	}
	return unix.Faccessat(unix.AT_FDCWD, path, unix.X_OK, unix.AT_EACCESS)
}

func notRunnable(file string, err error) error {
	code := ExitNotFound
	if errors.Is(err, fs.ErrPermission) {
		code = ExitNotExecutable
	}
	return &Error{"exec " + file, code, err}
}
