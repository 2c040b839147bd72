package sandbox

import (
	"os"
	"path/filepath"
	"slices"
	"testing"
)

func TestParseBytes(t *testing.T) {
	for text, want := range map[string]uint64{"1": 1, "512M": 512 << 20, "2g": 2 << 30, "4K": 4096, "0": 0, "": 0, "M": 0, "-1M": 0, "1.5G": 0, "17179869184G": 0, "1T": 0} {
		got, err := ParseBytes(text)
		if got != want || (err == nil) != (want > 0) {
			t.Errorf("%q: %d %v, want %d", text, got, err, want)
		}
	}
}

// A rule that would open something closed is broken up into what lies beside it.
func TestOpenedTrees(t *testing.T) {
	dir, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range []string{"a/b/closed", "a/b/open", "a/c"} {
		if err := os.MkdirAll(filepath.Join(dir, d), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink("b/closed", filepath.Join(dir, "a/link")); err != nil {
		t.Fatal(err)
	}
	o := opened{closed: []string{filepath.Join(dir, "a/b/closed")}}
	for _, path := range []string{"a", "a/b/closed", "a/b/closed/x"} {
		if err := o.add(fileTree{path: filepath.Join(dir, path), write: true}); err != nil {
			t.Fatal(err)
		}
	}
	var got []string
	for _, tr := range o.trees {
		rel, _ := filepath.Rel(dir, tr.path)
		got = append(got, rel)
	}
	if want := []string{"a/b/open", "a/c"}; !slices.Equal(got, want) || len(o.listed) != 2 {
		t.Errorf("opened %q, listed %q; want %q", got, o.listed, want)
	}
	for _, c := range []struct {
		path, tree string
		want       bool
	}{{"/a", "/a", true}, {"/a/b", "/a", true}, {"/ab", "/a", false}, {"/a", "/", true}, {"/", "/a", false}} {
		if got := within(c.path, c.tree); got != c.want {
			t.Errorf("%s within %s: %v", c.path, c.tree, got)
		}
	}
}

func TestProgramTrees(t *testing.T) {
	home, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	write := func(name, content string) string {
		path := filepath.Join(home, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(content), 0o700); err != nil {
			t.Fatal(err)
		}
		return path
	}
	write("tool/lib/x", "")
	write(".local/lib/x", "")
	write("lib/x", "")
	tool := write("tool/bin/tool", "")
	for _, c := range []struct {
		name, content string
		want          []string
	}{
		{"script", "#!" + tool + " -x\n", []string{"script", "tool/bin/tool", "tool"}}, {".local/bin/x", "", []string{".local/bin/x"}}, {"bin/x", "", []string{"bin/x"}}, {"tool/bin/y", "", []string{"tool/bin/y", "tool"}},
	} {
		var got []string
		for _, tr := range programTrees(write(c.name, c.content), home) {
			rel, _ := filepath.Rel(home, tr.path)
			got = append(got, rel)
			if tr.write {
				t.Errorf("%s may be written", tr.path)
			}
		}
		if !slices.Equal(got, c.want) {
			t.Errorf("%s: %q, want %q", c.name, got, c.want)
		}
	}
}
