package event

import (
	"bytes"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"testing"
)

const noRule = "no rule allows it"

func explained(t *testing.T, events ...Event) (during, end string) {
	t.Helper()
	var b bytes.Buffer
	x := newExplainer(&b)
	for _, e := range events {
		if err := x.Write(e); err != nil {
			t.Fatal(err)
		}
	}
	during = b.String()
	b.Reset()
	if err := x.Close(); err != nil {
		t.Fatal(err)
	}
	return during, b.String()
}

func TestLinesOfEvents(t *testing.T) {
	evil := netip.MustParseAddr("203.0.113.5")
	for _, c := range []struct {
		e    Event
		want string
	}{
		{Event{Protocol: "tcp", Name: "evil.example", Addr: evil, Port: 443, Comm: "curl", PID: 1234, Reason: noRule, AllowWith: "--allow evil.example:443"},
			"denied tcp evil.example:443 (203.0.113.5) by curl[1234]: no rule allows it; allow with --allow evil.example:443"},
		{Event{Protocol: "tcp", Addr: evil, Port: 22, Comm: "ssh", PID: 5, Reason: noRule, AllowWith: "--allow 203.0.113.5:22"},
			"denied tcp 203.0.113.5:22 by ssh[5]: no rule allows it; allow with --allow 203.0.113.5:22"},
		{Event{Protocol: "tcp", Addr: netip.MustParseAddr("2001:db8::1"), Port: 443, Comm: "curl", PID: 5, Reason: noRule, AllowWith: "--allow [2001:db8::1]:443"},
			"denied tcp [2001:db8::1]:443 by curl[5]: no rule allows it; allow with --allow '[2001:db8::1]:443'"},
		{Event{Kind: Audit, Protocol: "dns", Name: "t.example", Reason: noRule, AllowWith: "--allow t.example:443"},
			"would deny dns t.example: no rule allows it; allow with --allow t.example:443"},
		{Event{Protocol: "unix", Path: "/run/docker.sock", PID: 9, Comm: "docker", Reason: "r", AllowWith: "--allow-unix /run/docker.sock"},
			"denied unix /run/docker.sock by docker[9]: r; allow with --allow-unix /run/docker.sock"},
		{Event{Protocol: "tcp", Port: 8080, PID: 9, Comm: "node", Reason: "r"}, "denied tcp port 8080 by node[9]: r"},
		{Event{Protocol: "icmp", Addr: evil, PID: 9, Reason: "r"}, "denied icmp 203.0.113.5 by process 9: r"},
		{Event{Protocol: "tcp", Name: "a.example", Port: 80, Reason: "a deny rule covers it", Rule: "*.example", Source: "--deny"},
			"denied tcp a.example:80: a deny rule covers it (--deny *.example)"},
		{Event{Kind: Fault, Reason: "listener: broken"}, "fault: listener: broken"},
		{Event{Kind: Lost, Count: 3, Reason: "r"}, "3 events lost: r"},
		{Event{Kind: Lost, Reason: "r"}, "1 event lost: r"},
	} {
		got, _ := explained(t, c.e)
		if want := "sandlock: " + c.want + "\n"; got != want {
			t.Errorf("\ngot  %s\nwant %s", got, want)
		}
	}
}

func TestWhatIsAllowedIsNotExplained(t *testing.T) {
	during, end := explained(t, Event{Kind: Flow, Name: "a"}, Event{Kind: Allow}, Event{Kind: Start}, Event{Kind: Exit}, Event{Kind: Fault, Reason: "f"})
	if during != "sandlock: fault: f\n" || end != "" {
		t.Errorf("wrote %q, and at the end %q", during, end)
	}
}

func TestEqualDenialsAreOneLineAndASummary(t *testing.T) {
	a := Event{Comm: "curl", PID: 1, Protocol: "tcp", Name: "a.example", Port: 443, Reason: noRule, AllowWith: "--allow a.example:443",
		Addr: netip.MustParseAddr("203.0.113.1")}
	again := a
	again.PID, again.Addr = 2, netip.MustParseAddr("203.0.113.2")
	other := a
	other.Comm = "wget"
	b := Event{Comm: "curl", PID: 3, Protocol: "unix", Path: "/tmp/a b", Reason: "r", AllowWith: "--allow-unix /tmp/a b"}
	during, end := explained(t, a, Event{Kind: Flow}, again, Event{Kind: Flow}, again, other, b)
	if n := strings.Count(during, "\n"); n != 3 {
		t.Errorf("%d lines, want 3:\n%s", n, during)
	}
	const want = `sandlock: summary: 2 connections allowed, 5 attempts denied
sandlock:   3x tcp a.example:443 by curl: no rule allows it
sandlock:   1x tcp a.example:443 by wget: no rule allows it
sandlock:   1x unix "/tmp/a b" by curl: r
sandlock: to allow this, add: --allow a.example:443 --allow-unix '/tmp/a b'
`
	if end != want {
		t.Errorf("got\n%s\nwant\n%s", end, want)
	}
	if _, end := explained(t, Event{Kind: Audit, Protocol: "tcp", Port: 1, Reason: "r"}); !strings.HasPrefix(end,
		"sandlock: summary: 0 connections allowed, 1 attempt would be denied\n") {
		t.Errorf("the summary of an audit is\n%s", end)
	}
}

func TestAFloodOfDenialsIsBounded(t *testing.T) {
	var b bytes.Buffer
	x := newExplainer(&b)
	const flood = 3 * maxDistinct
	for i := range flood {
		x.Write(Event{Protocol: "tcp", Name: fmt.Sprintf("h%d.example", i), Port: 1, Reason: noRule, AllowWith: fmt.Sprintf("--allow h%d.example:1", i)})
	}
	if n := strings.Count(b.String(), "\n"); n != maxDistinct+1 {
		t.Errorf("%d lines for %d denials, want %d and a notice", n, flood, maxDistinct)
	}
	if len(x.seen) != maxDistinct || len(x.list) != maxDistinct {
		t.Errorf("remembers %d denials", len(x.list))
	}
	b.Reset()
	x.Close()
	end := b.String()
	if n := strings.Count(end, "\n"); n != maxListed+3 {
		t.Errorf("the summary has %d lines:\n%s", n, end)
	}
	if want := fmt.Sprintf("%dx others", flood-maxListed); !strings.Contains(end, want) {
		t.Errorf("no %q in\n%s", want, end)
	}
	if want := fmt.Sprintf("%d attempts denied", flood); !strings.Contains(end, want) {
		t.Errorf("no %q in\n%s", want, end)
	}
}

func TestLinesOnATerminal(t *testing.T) {
	for term, want := range map[string]string{
		"xterm": "\rsandlock: fault: f\x1b[K\r\n", "dumb": "\rsandlock: fault: f\r\n", "": "\rsandlock: fault: f\r\n"} {
		var b bytes.Buffer
		x := newExplainer(&b)
		x.asTerminal(term)
		x.Write(Event{Kind: Fault, Reason: "f"})
		if b.String() != want {
			t.Errorf("TERM=%s: %q, want %q", term, b.String(), want)
		}
	}
}

func TestAHostilePathIsNeverSuggested(t *testing.T) {
	during, end := explained(t, Event{Protocol: "unix", Path: "/tmp/\x1b]0;x\a\nsandlock: fine", Comm: "a\nb", PID: 1, Reason: "r\u202e", AllowWith: "--allow-unix /tmp/\x1b]0;x\a\nsandlock: fine"})
	const want = `sandlock: denied unix "/tmp/\x1b]0;x\a\nsandlock: fine" by "a\nb"[1]: r\u202e` + "\n"
	if during != want {
		t.Errorf("got %q\nwant %q", during, want)
	}
	if strings.Contains(end, "--allow-unix") || strings.Count(end, "\n") != 2 {
		t.Errorf("the summary is %q", end)
	}
}

type failing struct{}

var errFailing = errors.New("gone")

func (failing) Write([]byte) (int, error) { return 0, errFailing }

func TestExplainReportsThatItCannotWrite(t *testing.T) {
	x := newExplainer(failing{})
	if err := x.Write(Event{}); !errors.Is(err, errFailing) {
		t.Errorf("Write returned %v", err)
	}
	if err := x.Close(); !errors.Is(err, errFailing) {
		t.Errorf("Close returned %v", err)
	}
}
