package suite

import (
	"strings"
	"testing"

	"github.com/sandlock/sandlock/internal/lab"
)

// The handler that shows certificate bundles comes before the one that judges
// opens. What it has no interest in is judged all the same.
func TestRunDeniesUnderTheNamesOfBundles(t *testing.T) {
	asUsers(t, func(t *testing.T, u lab.User) {
		dir := scratch(t, u, "secret", "open", "cert.pem -> secret", "cacerts -> secret", "ca-bundle.crt -> secret", "ca-certificates.crt -> open")
		flags := []string{"--quiet", "--http-allow", "GET allowed.test/*", "-w", dir, "--fs-deny", dir + "/secret"}
		r := runIn(t, u, dir, flags, "sh", "-c", "cat ca-certificates.crt; cat cert.pem cacerts ca-bundle.crt secret")
		if !strings.Contains(r.Stdout, "content of open") {
			t.Fatalf("control: %s%s", r.Stdout, r.Stderr)
		}
		if strings.Contains(r.Stdout, "content of secret") || strings.Count(r.Stderr, "Permission denied") != 4 {
			t.Errorf("a denied file was read under another name: %s%s", r.Stdout, r.Stderr)
		}
	})
}
