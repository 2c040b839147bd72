// Package probe holds small C programs that try to reach what a sandbox denies,
// by raw system calls.
package probe

import (
	"embed"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
)

//go:embed c
var sources embed.FS

// Build compiles the C probes into one static program in dir and returns its
// path. cc is a compiler such as gcc or musl-gcc.
func Build(dir, cc string) (string, error) {
	out := filepath.Join(dir, "probe-"+filepath.Base(cc))
	if _, err := os.Stat(out); err == nil {
		return out, nil
	}
	src := filepath.Join(dir, "src-"+filepath.Base(cc))
	if err := os.MkdirAll(src, 0o755); err != nil {
		return "", err
	}
	args := []string{"-static", "-O1", "-w", "-pthread", "-o", out}
	err := fs.WalkDir(sources, "c", func(p string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		data, err := sources.ReadFile(p)
		if err != nil {
			return err
		}
		to := filepath.Join(src, filepath.Base(p))
		if filepath.Ext(p) == ".c" {
			args = append(args, to)
		}
		return os.WriteFile(to, data, 0o644)
	})
	if err != nil {
		return "", err
	}
	if text, err := exec.Command(cc, args...).CombinedOutput(); err != nil {
		return "", fmt.Errorf("%s: %w: %s", cc, err, text)
	}
	return out, os.Chmod(out, 0o755)
}
