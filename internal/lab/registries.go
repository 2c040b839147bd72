package lab

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
)

// crate is the source package of labcrate 1.0.0.
func crate() []byte {
	return tarball(map[string]string{"labcrate-1.0.0/Cargo.toml": "[package]\nname = \"labcrate\"\nversion = \"1.0.0\"\n", "labcrate-1.0.0/src/lib.rs": ""})
}

// crateIndex makes the repository that is served as /git/index-HOST.git: the index
// of a registry at the host with one crate.
func crateIndex(host string) error {
	return bareRepository("index-"+host, map[string]string{
		"config.json": `{"dl":"https://` + host + `/crates/{crate}-{version}.crate"}`,
		"la/bc/labcrate": fmt.Sprintf(`{"name":"labcrate","vers":"1.0.0","deps":[],"cksum":"%x","features":{},"yanked":false}`+"\n",
			sha256.Sum256(crate())),
	})
}

// bareRepository makes the repository /git/NAME.git with one commit, which may be
// pushed to.
func bareRepository(name string, files map[string]string) error {
	work, bare := filepath.Join(Dir(), "git", name), filepath.Join(Dir(), "git", name+".git")
	for file, text := range files {
		path := filepath.Join(work, file)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			return err
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			return err
		}
	}
	for _, args := range [][]string{{"init", "-q", work}, {"-C", work, "add", "."},
		{"-C", work, "-c", "user.name=lab", "-c", "user.email=lab@lab.test", "commit", "-qm", "first"},
		{"clone", "-q", "--bare", work, bare}, {"-C", bare, "config", "http.receivepack", "true"}} {
		c := exec.Command("git", args...)
		c.Env = append(os.Environ(), "HOME="+Dir(), "GIT_CONFIG_GLOBAL=/dev/null")
		if out, err := c.CombinedOutput(); err != nil {
			return fmt.Errorf("git %s: %w: %s", args, err, out)
		}
	}
	return nil
}

// parentPOM is a Maven project that others may have as their parent.
const parentPOM = `<project><modelVersion>4.0.0</modelVersion><groupId>lab</groupId><artifactId>parent</artifactId><version>1</version><packaging>pom</packaging></project>`

// registries serves the package registries but those of pip, npm and apt.
func registries(mux *http.ServeMux) {
	serve := func(path string, data []byte) {
		mux.HandleFunc(path, func(w http.ResponseWriter, _ *http.Request) { bytes.NewReader(data).WriteTo(w) })
	}
	serve("/crates/labcrate-1.0.0.crate", crate())
	serve("/maven2/lab/parent/1/parent-1.pom", []byte(parentPOM))
	mux.HandleFunc("/maven2/", http.NotFound)
}
