package main

import (
	"embed"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
)

// envBuilt names the directory of what was built, for the process in the lab.
const envBuilt = "SANDLOCK_BENCH_DIR"

//go:embed c/*.c c/*.h
var sources embed.FS

const emptyProgram = "package main\n\nfunc main() {}\n"

func (b *bench) sandlock() string { return filepath.Join(b.dir, "sandlock") }
func (b *bench) worker() string   { return filepath.Join(b.dir, "worker") }
func (b *bench) empty() string    { return filepath.Join(b.dir, "empty") }
func (b *bench) self() string     { return filepath.Join(b.dir, "bench") }

// build makes everything that is measured. The directory is open to everybody,
// for a sandbox of another user may have to read it.
func (b *bench) build(binary string) error {
	if err := os.Chmod(b.dir, 0o755); err != nil {
		return err
	}
	if err := os.CopyFS(filepath.Join(b.dir, "src"), sub(sources, "c")); err != nil {
		return err
	}
	files, err := filepath.Glob(filepath.Join(b.dir, "src", "*.c"))
	if err != nil {
		return err
	}
	if err := run("gcc", append([]string{"-O2", "-o", b.worker()}, files...)...); err != nil {
		return err
	}
	empty := filepath.Join(b.dir, "empty.go")
	if err := os.WriteFile(empty, []byte(emptyProgram), 0o644); err != nil {
		return err
	}
	if err := goBuild(b.empty(), empty); err != nil {
		return err
	}
	if err := copyFile(b.self(), "/proc/self/exe"); err != nil {
		return err
	}
	for _, name := range []string{"sandlock", "sandlock-proxy"} {
		to := filepath.Join(b.dir, name)
		if binary != "" {
			err = copyFile(to, filepath.Join(filepath.Dir(binary), name))
		} else {
			err = goBuild(to, "./cmd/"+name)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// scratch is a directory for files of the process in the lab.
func (b *bench) scratch() string { return os.Getenv("TMPDIR") }

func sub(f embed.FS, dir string) fs.FS {
	s, err := fs.Sub(f, dir)
	if err != nil {
		panic(err) // the directory is embedded
	}
	return s
}

// goBuild builds as the Makefile does and copies the result, as an installation
// does: pages that were written in order are mapped at less cost than those of
// the linker, a sixth of a start.
func goBuild(out, pkg string) error {
	os.Setenv("CGO_ENABLED", "0")
	linked := out + ".linked"
	if err := run("go", "build", "-trimpath", "-ldflags", "-s -w", "-o", linked, pkg); err != nil {
		return err
	}
	defer os.Remove(linked)
	return copyFile(out, linked)
}

func run(name string, args ...string) error {
	if out, err := exec.Command(name, args...).CombinedOutput(); err != nil {
		return fmt.Errorf("%s: %w: %s", name, err, out)
	}
	return nil
}

func copyFile(to, from string) error {
	data, err := os.ReadFile(from)
	if err != nil {
		return err
	}
	return os.WriteFile(to, data, 0o755)
}
