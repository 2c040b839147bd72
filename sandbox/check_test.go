package sandbox

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"

	"github.com/sandlock/sandlock/internal/sys"
	"golang.org/x/sys/unix"
)

func fakeHost(files map[string]string) *host {
	return &host{abi: 7, euid: 1000, env: func(string) string { return "" },
		read:   func(p string) (string, bool) { v, ok := files[p]; return v, ok },
		exists: func(p string) bool { _, ok := files[p]; return ok }}
}

func TestProbes(t *testing.T) {
	const yama, max, clone, aa = "/proc/sys/kernel/yama/ptrace_scope", "/proc/sys/user/max_user_namespaces",
		"/proc/sys/kernel/unprivileged_userns_clone", "/proc/sys/kernel/apparmor_restrict_unprivileged_userns"
	root := fakeHost(map[string]string{yama: "2"})
	root.euid = 0
	nested := fakeHost(nil)
	nested.seccomp.Listener = unix.EBUSY
	old := fakeHost(nil)
	old.abi = 5
	none := fakeHost(nil)
	none.abi = 0
	pod := fakeHost(nil)
	pod.env = func(k string) string { return map[string]string{"KUBERNETES_SERVICE_HOST": "x"}[k] }
	for _, tc := range []struct {
		name  string
		probe func(*host) (string, bool)
		host  *host
		ok    bool
		found string
	}{
		{"yama 0", probeYama, fakeHost(map[string]string{yama: "0"}), true, "0"},
		{"yama 1", probeYama, fakeHost(map[string]string{yama: "1"}), true, "1"},
		{"yama 2", probeYama, fakeHost(map[string]string{yama: "2"}), false, "2"},
		{"yama 2, root", probeYama, root, true, "2"},
		{"yama 3", probeYama, fakeHost(map[string]string{yama: "3"}), false, "3"},
		{"no yama", probeYama, fakeHost(nil), true, "no Yama"},
		{"max_user_namespaces", probeUserns, fakeHost(map[string]string{max: "0"}), false, "user.max_user_namespaces is 0"},
		{"unprivileged_userns_clone", probeUserns, fakeHost(map[string]string{clone: "0"}), false, "kernel.unprivileged_userns_clone is 0"},
		{"apparmor", probeUserns, fakeHost(map[string]string{aa: "1"}), false, "kernel.apparmor_restrict_unprivileged_userns is 1"},
		{"nested", probeListener, nested, false, "supervised already"},
		{"nested, ADDFD", probeAddFD, nested, false, "not tried"},
		{"not nested", probeListener, fakeHost(nil), true, "works"},
		{"ABI 5", landlockProbe(6), old, false, "ABI 5"},
		{"ABI 7", landlockProbe(6), fakeHost(nil), true, "ABI 7"},
		{"no Landlock", landlockProbe(4), none, false, "no Landlock"},
		{"Docker", probeContainer, fakeHost(map[string]string{"/.dockerenv": ""}), false, "Docker"},
		{"Kubernetes", probeContainer, pod, false, "Kubernetes"},
		{"no container", probeContainer, fakeHost(nil), true, "none"},
		{"filters", probeFilters, fakeHost(map[string]string{"/proc/self/status": "Seccomp:\t2\nSeccomp_filters:\t3\n"}), false, "3"},
	} {
		if found, ok := tc.probe(tc.host); ok != tc.ok || !strings.Contains(found, tc.found) {
			t.Errorf("%s: %q, %v; want %q, %v", tc.name, found, ok, tc.found, tc.ok)
		}
	}
}

func TestFeaturesAreComplete(t *testing.T) {
	seen := map[string]bool{}
	for _, f := range features {
		if f.Name == "" || seen[f.Name] || f.Why == "" || f.probe == nil || f.Need != Note && f.Remedy == "" {
			t.Errorf("feature %+v", f)
		}
		seen[f.Name] = true
	}
}

func TestOnlyRequiredFeaturesStopARun(t *testing.T) {
	for _, tc := range []struct {
		need Need
		ok   bool
		want bool
	}{{Required, true, true}, {Required, false, false}, {Optional, false, true}, {Note, false, true}} {
		if got := CanRun([]Finding{{Feature{Need: tc.need}, tc.ok, ""}}); got != tc.want {
			t.Errorf("%s, %v: can run %v", tc.need, tc.ok, got)
		}
	}
}

func TestReports(t *testing.T) {
	fs := []Finding{
		{Feature{Name: "there", Need: Required, Why: "w", Remedy: "no need"}, true, "works"},
		{Feature{Name: "gone", Kernel: "9.9", Need: Required, Why: "w", Remedy: "mend it"}, false, "EPERM"},
	}
	var text, js bytes.Buffer
	if err := WriteFindings(&text, fs); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"gone     9.9    MISSING", "gone: mend it\n", "cannot run here"} {
		if !strings.Contains(text.String(), want) {
			t.Errorf("no %q in\n%s", want, text.String())
		}
	}
	if strings.Contains(text.String(), "no need") {
		t.Error("a remedy for what is there")
	}
	if err := WriteFindingsJSON(&js, fs); err != nil {
		t.Fatal(err)
	}
	var got struct {
		CanRun   bool `json:"can_run"`
		Features []struct {
			Name, Remedy string
			OK           bool
		}
	}
	if err := json.Unmarshal(js.Bytes(), &got); err != nil {
		t.Fatal(err)
	}
	if got.CanRun || len(got.Features) != 2 || got.Features[0].Remedy != "" || got.Features[1].Remedy != "mend it" || got.Features[1].OK {
		t.Errorf("%+v", got)
	}
}

// The probe's filter must not stay on this process.
func TestCheckLeavesNothing(t *testing.T) {
	before := filterCounts(t)
	for range 3 {
		Check()
	}
	if after := filterCounts(t); after != before {
		t.Errorf("filters on the main thread: %s before, %s after", before, after)
	}
	if s := sys.ProbeSeccomp(); s.Notify == nil && s.Listener == nil && s.AddFDSend != nil {
		t.Errorf("a listener, but no ADDFD with SEND: %v", s.AddFDSend)
	}
}

func filterCounts(t *testing.T) string {
	t.Helper()
	found, _ := probeFilters(readHost())
	return found
}
