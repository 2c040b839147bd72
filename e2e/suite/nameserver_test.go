package suite

import (
	"strings"
	"testing"

	"github.com/sandlock/sandlock/internal/lab"
)

// When the name servers are silent or refuse, the line says that it is not the
// policy.
func TestNoNameServerAnswers(t *testing.T) {
	asUsers(t, func(t *testing.T, u lab.User) {
		flags := []string{"--allow", "allowed.test:443", "--dns-server"}
		cmd := []string{"getent", "hosts", "allowed.test"}
		if r := lab.Net(t, u, append(flags, lab.Resolver.String()), cmd...); r.Code != 0 || r.Stderr != "" {
			t.Fatalf("control: code %d: %s%s", r.Code, r.Stdout, r.Stderr)
		}
		r := lab.Net(t, u, append(flags, lab.Private4.String()), cmd...)
		if r.Code == 0 {
			t.Fatalf("a name was resolved without a server: %s", r.Stdout)
		}
		want := "allowed.test by getent["
		if !strings.Contains(r.Stderr, want) || !strings.Contains(r.Stderr, "no name server answers: "+lab.Private4.String()+":53: ") {
			t.Fatalf("the line does not say why: %q", r.Stderr)
		}
	})
}
