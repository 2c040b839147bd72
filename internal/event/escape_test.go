package event

import (
	"bytes"
	"encoding/json"
	"net/netip"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"time"
)

func TestEscape(t *testing.T) {
	for _, c := range []struct {
		in   string
		max  int
		want string
	}{
		{"curl", 64, "curl"},
		{`say "hi"`, 64, `say "hi"`},
		{`a\b`, 64, `a\\b`},
		{`\"`, 64, `\\"`},
		{"\x1b[2J\x9b", 64, `\x1b[2J\x9b`},
		{"a\nb\r\t\x00\x7f", 64, `a\nb\r\t\x00\x7f`},
		{"\u202egnp\u2066", 64, `\u202egnp\u2066`},
		{"аllowed", 64, `\u0430llowed`},
		{"🔐", 64, `\U0001f510`},
		{"\xff\xc3", 64, `\xff\xc3`},
		{"abcdef", 3, `abc\...`},
		{"aé", 2, `a\xc3\...`},
	} {
		if got := Escape(c.in, c.max); got != c.want {
			t.Errorf("Escape(%q, %d) = %s, want %s", c.in, c.max, got, c.want)
		}
	}
}

func FuzzEscape(f *testing.F) {
	for _, s := range []string{"", "curl", `\"`, "\x1b[31m", "\xff\xfe", "\u202e", "a\nb", "'; rm -rf ~", "\u2028", `\...`} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		for _, got := range []string{Escape(s, len(s)), Escape(s, 3), word(s, len(s)), word(s, 3), shellWord(s)} {
			if !plain(got, "") {
				t.Fatalf("%q became %q", s, got)
			}
		}
		// Nothing is lost, so no two texts look the same.
		if back := unescape(t, Escape(s, len(s))); back != s {
			t.Fatalf("%q became %q and back %q", s, Escape(s, len(s)), back)
		}
		if w := word(s, len(s)); w != s {
			if back, err := strconv.Unquote(w); err != nil || back != s {
				t.Fatalf("%q became the word %s, %v", s, w, err)
			}
		}
	})
}

// unescape is the inverse of Escape that docs/events.md describes.
func unescape(t *testing.T, s string) string {
	back, err := strconv.Unquote(`"` + strings.ReplaceAll(s, `"`, `\"`) + `"`)
	if err != nil {
		t.Fatalf("%s: %v", s, err)
	}
	return back
}

func FuzzJSONLines(f *testing.F) {
	f.Add("curl", "evil.example", "/tmp/x", "--allow-unix /tmp/x", int64(5))
	f.Add("\x1b[2J", "\xff\"\\", "a\nb\u2028", "</script>", int64(-1))
	f.Fuzz(func(t *testing.T, comm, name, path, flag string, n int64) {
		var b bytes.Buffer
		e := Event{Kind: Kind(uint8(n)), Comm: comm, Name: name, Path: path, AllowWith: flag, BytesUp: n, Count: n}
		if err := JSONLines(&b).Write(e); err != nil {
			t.Fatal(err)
		}
		line := b.String()
		if strings.Count(line, "\n") != 1 || !plain(strings.TrimSuffix(line, "\n"), "") {
			t.Fatalf("not one printable line: %q", line)
		}
		var got map[string]any
		if err := json.Unmarshal([]byte(line), &got); err != nil {
			t.Fatalf("%v: %s", err, line)
		}
		for field, want := range map[string]string{"comm": comm, "name": name, "path": path, "allow_with": flag} {
			text, _ := got[field].(string)
			if !plain(text, "") || len(want) <= maxText && unescape(t, text) != want {
				t.Fatalf("%s is %q, was %q", field, text, want)
			}
		}
	})
}

func FuzzExplain(f *testing.F) {
	f.Add("curl", "evil.example", "no rule", "--allow evil.example", "--deny x")
	f.Add("\x1b[2J", "\xff\r", "a\nb", "--allow-unix $(id)", "\u202e")
	f.Fuzz(func(t *testing.T, comm, name, reason, flag, rule string) {
		var b bytes.Buffer
		x := newExplainer(&b)
		e := Event{Comm: comm, PID: 1, Name: name, Path: name, Protocol: name, Reason: reason, AllowWith: flag, Rule: rule, Source: rule}
		x.Write(e)
		e.Path = ""
		x.Write(e)
		x.Close()
		for line := range strings.Lines(b.String()) {
			if !strings.HasPrefix(line, "sandlock: ") || !plain(strings.TrimSuffix(line, "\n"), "") {
				t.Fatalf("line %q", line)
			}
		}
	})
}

// The oracle is a shell: what is suggested must reach a program as the two
// arguments that it stands for, and nothing else may happen.
func TestFlagsForAShell(t *testing.T) {
	for _, value := range []string{"a.example:443", "*.example", "[2001:db8::1]:443", "/tmp/a b", "/tmp/it's", "$(id)", "`id`;id&", "~", "#x", `\n"`, "!!", "{a,b}", "a=b"} {
		flag := shellFlag("--allow " + value)
		out, err := exec.Command("sh", "-c", "printf '<%s>' "+flag).Output()
		if err != nil {
			t.Fatalf("%s: %v", flag, err)
		}
		if want := "<--allow><" + value + ">"; string(out) != want {
			t.Errorf("%s is read as %s, want %s", flag, out, want)
		}
	}
	for _, value := range []string{"", "/tmp/\n", "/tmp/é", "\x1b"} {
		if flag := shellFlag("--allow-unix " + value); flag != "" {
			t.Errorf("%q is suggested as %q", value, flag)
		}
	}
	if got := shellFlag("--allow-private"); got != "--allow-private" {
		t.Errorf("a flag without a value is %q", got)
	}
}

func TestTheLinesOfTheLog(t *testing.T) {
	at := time.Date(2026, 11, 24, 9, 30, 0, 123456789, time.FixedZone("", 3600))
	for _, c := range []struct {
		e    Event
		want string
	}{
		{Event{Time: at, Run: "build", PID: 12, TID: 13, Comm: "curl", Exe: "/usr/bin/curl", Syscall: "connect", Protocol: "tcp", Name: "evil.example",
			Addr: netip.MustParseAddr("203.0.113.5"), Port: 443, Reason: noRule, Rule: "evil.example", Source: "policy.toml:3", AllowWith: "--allow evil.example:443"},
			`{"v":1,"time":"2026-11-24T08:30:00.123456789Z","kind":"deny","verdict":"denied","run":"build","pid":12,"tid":13,"comm":"curl","exe":"/usr/bin/curl","syscall":"connect","protocol":"tcp","name":"evil.example","addr":"203.0.113.5","port":443,"reason":"no rule allows it","rule":"evil.example","source":"policy.toml:3","allow_with":"--allow evil.example:443"}`},
		{Event{Time: at, Kind: Flow, BytesDown: 9, Duration: time.Second}, `{"v":1,"time":"2026-11-24T08:30:00.123456789Z","kind":"flow","verdict":"allowed","bytes_up":0,"bytes_down":9,"duration_ns":1000000000}`},
		{Event{Time: at, Kind: Exit}, `{"v":1,"time":"2026-11-24T08:30:00.123456789Z","kind":"exit","code":0}`},
		{Event{Time: at, Kind: Lost, Count: 4}, `{"v":1,"time":"2026-11-24T08:30:00.123456789Z","kind":"lost","count":4}`},
		{Event{Time: at, Kind: Fault, Path: "a\"\\\n"}, `{"v":1,"time":"2026-11-24T08:30:00.123456789Z","kind":"fault","path":"a\"\\\\\\n"}`},
	} {
		var b bytes.Buffer
		if err := JSONLines(&b).Write(c.e); err != nil {
			t.Fatal(err)
		}
		if b.String() != c.want+"\n" {
			t.Errorf("\ngot  %s\nwant %s", b.String(), c.want)
		}
	}
}
