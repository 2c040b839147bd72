package suite

import (
	"fmt"
	"net/netip"
	"os"
	"strings"
	"testing"

	"github.com/sandlock/sandlock/internal/lab"
)

// A client that names an allowed host and goes elsewhere, or goes there and names
// another, gains nothing.
func TestNameMismatch(t *testing.T) {
	n := lab.Nonce()
	for name, c := range map[string]struct{ rule, url, args string }{
		"other SNI":             {"shared.test:443", "https://neighbour.test/" + n, "--connect-to neighbour.test:443:shared.test:443"},
		"SNI elsewhere":         {"allowed.test:443", "https://allowed.test/" + n, "--resolve allowed.test:443:" + lab.Evil4.String()},
		"SNI elsewhere, 6":      {"allowed.test:443", "https://allowed.test/" + n, "--resolve allowed.test:443:[" + lab.Evil6.String() + "]"},
		"other Host":            {"shared.test:80", "http://shared.test/" + n, "-H Host:neighbour.test"},
		"Host elsewhere":        {"allowed.test:80", "http://allowed.test/" + n, "--resolve allowed.test:80:" + lab.Evil4.String()},
		"an address, no name":   {"shared.test:443", "https://" + lab.Shared4.String() + "/" + n, "-k"},
		"another allowed names": {"shared.test:443", "https://evil.test/" + n, "--resolve evil.test:443:" + lab.Shared4.String()},
	} {
		t.Run(name, func(t *testing.T) {
			cmd := append([]string{"curl", "-fsS", "-m", "5", c.url}, strings.Fields(c.args)...)
			asUsers(t, func(t *testing.T, u lab.User) {
				lab.Bare(t, u, n, cmd...)
				m := lab.Now()
				r := lab.Net(t, u, []string{"--allow", c.rule}, cmd...)
				if r.Code == 0 {
					t.Errorf("it succeeded: %s", r.Stdout)
				}
				for _, a := range m.Since(t) {
					if a.Kind != "query" {
						t.Errorf("%s reached %s: %q", a.Kind, a.Sink, a.Text)
					}
				}
			})
		})
	}
}

// An allowed name whose owner points it at the host or its neighbours.
func TestRebinding(t *testing.T) {
	for _, name := range []string{"loop.test", "mapped.test", "nat64.test", "sixtofour.test", "metadata.test", "private.test", "cgnat.test", "alias.test"} {
		t.Run(name, func(t *testing.T) {
			asUsers(t, func(t *testing.T, u lab.User) {
				m := lab.Now()
				r := lab.Net(t, u, []string{"--allow", name + ":80"}, "curl", "-sS", "-m", "5", "http://"+name+"/")
				if r.Code == 0 {
					t.Errorf("it succeeded: %s", r.Stdout)
				}
				for _, a := range m.Since(t) {
					if a.Kind != "query" {
						t.Errorf("%s reached %s: %q", a.Kind, a.Sink, a.Text)
					}
				}
			})
		})
	}
	m := lab.Now()
	if r := lab.Net(t, lab.Ordinary, []string{"--allow-private", "--allow", "private.test:80"}, "curl", "-sS", "http://private.test/control"); r.Code != 0 {
		t.Fatalf("control: %+v", r)
	}
	m.Arrived(t, "/control")
}

// No query for a name without a rule leaves, whatever server is asked.
func TestQueriesStay(t *testing.T) {
	asUsers(t, func(t *testing.T, u lab.User) {
		for _, args := range [][]string{{}, {"+tcp"}, {"TXT"}, {"ANY"}, {"@8.8.8.8"}, {"@8.8.8.8", "+tcp"}} {
			t.Run(strings.Join(args, " "), func(t *testing.T) {
				n := lab.Nonce() + ".evil.test"
				cmd := append([]string{"dig", "+tries=1", "+time=3", n}, args...)
				lab.Bare(t, u, n, cmd...)
				m := lab.Now()
				r := lab.Net(t, u, []string{"--allow", "allowed.test:443"}, cmd...)
				for _, a := range m.Since(t) {
					t.Errorf("%s reached %s: %q", a.Kind, a.Sink, a.Text)
				}
				if !strings.Contains(r.Stdout, "NXDOMAIN") && !strings.Contains(r.Stdout, "REFUSED") {
					t.Errorf("no quick answer: %s%s", r.Stdout, r.Stderr)
				}
			})
		}
		for name, cmd := range map[string][]string{"host": {"host"}, "nslookup": {"nslookup"}, "getent": {"getent", "ahosts"}, "busybox": {"busybox", "nslookup"}} {
			n := lab.Nonce() + ".evil.test"
			lab.Bare(t, u, n, append(cmd, n)...)
			r := lab.Denied(t, lab.Denial{User: u, Flags: []string{"--allow", "four.test:443"}, Command: append(cmd, n), Log: n})
			if r := lab.Net(t, u, []string{"--allow", "four.test:443"}, append(cmd, "four.test")...); !strings.Contains(r.Stdout, lab.Allowed4.String()) {
				t.Errorf("control: %s: %s", name, r.Stdout)
			}
			if !strings.Contains(r.Stderr, "allow with --allow "+n+":443") {
				t.Errorf("%s: no flag: %s", name, r.Stderr)
			}
		}
		for _, server := range []string{"@10.0.0.53", "@8.8.8.8"} {
			r := lab.Net(t, u, []string{"--allow", "four.test:443"}, "dig", "+short", "four.test", server)
			if strings.TrimSpace(r.Stdout) != lab.Allowed4.String() {
				t.Errorf("control: dig %s answers %q", server, r.Stdout)
			}
		}
	})
}

// Rules hold for the addresses that a name really has, and for each answer anew.
func TestAnswers(t *testing.T) {
	var many []netip.Addr
	for i := range 60 {
		many = append(many, netip.AddrFrom4([4]byte{203, 0, 112, byte(i)}))
	}
	lab.SetName("many.test", append(many, lab.Allowed4)...)
	lab.SetTurns("turns.test", lab.Allowed4, netip.MustParseAddr("127.0.0.1"), lab.Metadata)
	lab.SetRecords("hop0.test", "hop0.test. 0 IN CNAME hop1.test.")
	for i := 1; i < 8; i++ {
		lab.SetRecords(fmt.Sprintf("hop%d.test", i), fmt.Sprintf("hop%d.test. 0 IN CNAME hop%d.test.", i, i+1))
	}
	lab.SetName("hop8.test", lab.Allowed4)
	lab.SetRecords("tometa.test", "tometa.test. 0 IN CNAME hop8.test.", "tometa.test. 0 IN A 169.254.169.254")
	at := sink(t, lab.Allowed4)
	_, port := hostPort(at)
	p := lab.Probe(t)
	asUsers(t, func(t *testing.T, u lab.User) {
		for _, name := range []string{"many.test", "turns.test", "hop0.test", "long.test"} {
			n, m := lab.Nonce(), lab.Now()
			cmd := []string{"getent", "ahostsv4", name}
			r := lab.Net(t, u, []string{"--allow", name + ":" + port}, cmd...)
			if want := lab.Allowed4.String(); r.Code != 0 || !strings.Contains(r.Stdout, want) {
				t.Errorf("%s: code %d: %q %s", name, r.Code, r.Stdout, r.Stderr)
			}
			// The address is open to whom the resolver gave it.
			script := `getent ahostsv4 ` + name + ` >/dev/null; exec "$@"`
			if r = lab.Net(t, u, []string{"--allow", name + ":" + port}, "sh", "-c", script, "sh", p, "tcp", lab.Allowed4.String(), port, n); name == "turns.test" {
				continue // it may be another answer's turn
			}
			if r.Code != 0 {
				t.Errorf("%s: code %d: %s%s", name, r.Code, r.Stdout, r.Stderr)
				continue
			}
			m.Arrived(t, n)
		}
		// Whatever turn it is, loopback and metadata stay closed.
		local := sink(t, netip.MustParseAddr("127.0.0.1"))
		_, port := hostPort(local)
		for range 4 {
			m := lab.Now()
			r := lab.Net(t, u, []string{"--allow", "turns.test:" + port}, "sh", "-c",
				`for i in 1 2 3 4; do getent ahostsv4 turns.test; "$@"; done`, "sh", p, "tcp", "127.0.0.1", port, lab.Nonce())
			for _, a := range m.Since(t) {
				if a.Kind != "query" {
					t.Errorf("%s reached %s: %q", a.Kind, a.Sink, a.Text)
				}
			}
			if strings.Contains(r.Stdout, "127.0.0.1") || strings.Contains(r.Stdout, "169.254") {
				t.Errorf("turns.test: %s", r.Stdout)
			}
		}
		if r := lab.Net(t, u, []string{"--allow", "tometa.test:80"}, "getent", "ahostsv4", "tometa.test"); strings.Contains(r.Stdout, "169.254") {
			t.Errorf("tometa.test: %s", r.Stdout)
		}
	})
}

// Local name services on unix sockets are refused at once: libc asks over DNS
// then, and what they would tell or ask stays.
func TestNameServices(t *testing.T) {
	for _, s := range []struct{ network, path string }{{"unix", "/run/nscd/socket"}, {"unix", "/run/systemd/resolve/io.systemd.Resolve"}} {
		lab.Unix(t, s.network, s.path)
		if err := os.Chmod(s.path, 0o777); err != nil {
			t.Fatal(err)
		}
	}
	p := lab.Probe(t)
	asUsers(t, func(t *testing.T, u lab.User) {
		n := lab.Nonce() + ".evil.test"
		lab.Bare(t, u, n, "getent", "hosts", n)
		m := lab.Now()
		r := lab.Net(t, u, []string{"--allow", "four.test:443"}, "sh", "-c", "getent hosts "+n+"; getent hosts four.test")
		for _, a := range m.Since(t) {
			if a.Text != "four.test" {
				t.Errorf("%s reached %s: %q", a.Kind, a.Sink, a.Text)
			}
		}
		if !strings.Contains(r.Stdout, lab.Allowed4.String()) || r.Code != 0 || !r.Denied(n) {
			t.Errorf("code %d: %q: %s", r.Code, r.Stdout, r.Stderr)
		}
		for _, path := range []string{"/run/nscd/socket", "/var/run/nscd/socket", "/run/systemd/resolve/io.systemd.Resolve"} {
			n := lab.Nonce()
			lab.Bare(t, u, n, p, "unix-stream", path, n)
			lab.Denied(t, lab.Denial{User: u, Flags: []string{"--allow", "four.test:443"}, Command: []string{p, "unix-stream", path, n}, Log: strings.Replace(path, "/var/", "/", 1)})
		}
	})
}

// An address in another form is the address.
func TestAddressForms(t *testing.T) {
	p := lab.Probe(t)
	at := sink(t, netip.MustParseAddr("127.0.0.1"))
	at6 := lab.TCP(t, netip.AddrPortFrom(netip.IPv6Loopback(), at.Port()))
	_, port := hostPort(at6)
	asUsers(t, func(t *testing.T, u lab.User) {
		for _, host := range []string{"0x7f.1", "0177.0.0.1", "2130706433", "127.1", "0x7f000001", "localhost", "::ffff:127.0.0.1", "::ffff:7f00:1", "::", "0.0.0.0", "0", "::1"} {
			t.Run(host, func(t *testing.T) {
				n := lab.Nonce()
				cmd := []string{p, "name", host, port, n}
				lab.Bare(t, u, n, cmd...)
				lab.Denied(t, lab.Denial{User: u, Flags: []string{"--allow", "allowed.test:" + port, "--allow", lab.Allowed4.String()}, Command: cmd, Nonce: n, Answer: "ECONNREFUSED", Log: "--allow localhost:" + port})
				m := lab.Now()
				if r := lab.Net(t, u, []string{"--allow", "localhost:" + port}, cmd...); r.Code != 0 {
					t.Errorf("allowed: %s%s", r.Stdout, r.Stderr)
				}
				m.Arrived(t, n)
			})
		}
		// Those that hold an IPv4 address in IPv6 lead nowhere here, but the rule for
		// the IPv4 address denies them.
		for _, host := range []string{"64:ff9b::7f00:1", "2002:7f00:1::", "::7f00:1", "64:ff9b::9765:145", "2002:9765:145::"} {
			lab.Denied(t, lab.Denial{User: u, Flags: []string{"--allow", "*", "--deny", "127.0.0.0/8", "--deny", lab.Evil4.String()},
				Command: []string{p, "tcp", host, port, "x"}, Answer: "ECONNREFUSED", Log: host})
		}
	})
}
