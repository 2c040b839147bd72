package suite

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sandlock/sandlock/internal/lab"
)

// An authority that the user brings is the one that programs see, and --ca-out writes
// it; one that cannot be used is refused before the command starts.
func TestOwnAuthority(t *testing.T) {
	asUsers(t, func(t *testing.T, u lab.User) {
		dir := lab.Scratch(t, u)
		at := func(name string) string { return filepath.Join(dir, name) }
		make := `cd "$0" && openssl req -x509 -newkey rsa:2048 -nodes -keyout ca.key -out ca.pem -subj '/CN=own authority' -days 30 &&
			openssl req -x509 -newkey rsa:2048 -nodes -keyout server.key -out server.pem -subj /CN=server -days 30 -addext basicConstraints=critical,CA:FALSE &&
			openssl req -x509 -newkey ed25519 -nodes -keyout ed.key -out ed.pem -subj '/CN=ed' -days 30 &&
			openssl pkey -in ca.key -aes256 -passout pass:secret -out locked.key && : > empty.pem && cp ca.pem bundle.pem`
		if r := lab.Run(t, u, "sh", "-c", make, dir); r.Code != 0 {
			t.Fatal(r.Stderr)
		}
		flags := []string{"--http-allow", "GET allowed.test/ok/*", "--ca", at("ca.pem"), "--ca-key", at("ca.key"), "--ca-out", at("out.pem")}
		r := lab.Net(t, u, flags, "curl", "-sSv", "https://allowed.test/ok/x")
		if r.Code != 0 || !strings.Contains(r.Stderr, "issuer: CN=own authority") || !strings.Contains(r.Stdout, "lab allowed.test /ok/x") {
			t.Errorf("code %d: %s%s", r.Code, r.Stdout, r.Stderr)
		}
		out, err := os.ReadFile(at("out.pem"))
		given, _ := os.ReadFile(at("ca.pem"))
		if err != nil || string(out) != string(given) {
			t.Errorf("--ca-out wrote %q: %v", out, err)
		}
		// With a bundle of its own a program knows no other authority.
		own := []string{"curl", "-sS", "--cacert", at("bundle.pem"), "https://allowed.test/ok/x"}
		plain := []string{"--http-allow", "GET allowed.test/ok/*"}
		if r := lab.Net(t, u, plain, own...); r.Code != 60 {
			t.Errorf("without --inject-ca: code %d: %s%s", r.Code, r.Stdout, r.Stderr)
		}
		if r := lab.Net(t, u, append(plain, "--inject-ca", at("bundle.pem")), own...); r.Code != 0 || !strings.Contains(r.Stdout, "lab allowed.test") {
			t.Errorf("--inject-ca: code %d: %s%s", r.Code, r.Stdout, r.Stderr)
		}
		for _, c := range []struct{ cert, key, want string }{
			{"server.pem", "server.key", "not one of a CA"}, {"ca.pem", "server.key", "does not belong"}, {"ed.pem", "ed.key", "Ed25519"}, {"ca.pem", "locked.key", "passphrase"},
			{"empty.pem", "ca.key", "PEM form"}, {"ca.key", "ca.key", "no certificate"}, {"ca.pem", "ca.pem", "no private key"}, {"none.pem", "ca.key", "none.pem"}, {"ca.pem", "", "--ca-key"},
		} {
			flags := []string{"--http-allow", "GET allowed.test/ok/*", "--ca", at(c.cert)}
			if c.key != "" {
				flags = append(flags, "--ca-key", at(c.key))
			}
			r := lab.Run(t, u, lab.NetArgs(flags, "echo", "started")...)
			if r.Code != 2 || r.Stdout != "" || !strings.Contains(r.Stderr, c.want) || strings.Count(r.Stderr, "\n") != 1 {
				t.Errorf("%s, %s: code %d, want %q: %s%s", c.cert, c.key, r.Code, c.want, r.Stdout, r.Stderr)
			}
		}
	})
}
