package suite

import (
	"slices"
	"strings"
	"testing"

	"github.com/sandlock/sandlock/internal/lab"
)

// proxied has an address where nothing answers: it is reached through a proxy, or
// not at all.
const proxied = "proxied.wild.test"

// proxyFlags are flags for a proxy of the lab that wants a password.
func proxyFlags(t *testing.T, status int, flags ...string) []string {
	lab.SetName(proxied, lab.Black4)
	return append(flags, "--upstream-proxy", "http://me:pw@"+lab.ConnectProxy(t, status))
}

// asked returns what proxies were asked for since m, and fails the test when a
// server was reached from elsewhere.
func asked(t *testing.T, m lab.Mark) (out []string) {
	t.Helper()
	for _, a := range m.Since(t) {
		switch {
		case a.Kind == "connect":
			out = append(out, a.Text)
		case strings.HasPrefix(a.Sink, "tcp ") && !strings.HasPrefix(a.Text, lab.Private4.String()+":"):
			t.Errorf("%s was reached without the proxy: %s %s", a.Sink, a.Kind, a.Text)
		}
	}
	return out
}

// Connections to names go through the proxy, which hears the name and the password:
// passed through and opened, of clients that block and that do not.
func TestUpstreamProxy(t *testing.T) {
	asUsers(t, func(t *testing.T, u lab.User) {
		python := func(url string) []string {
			return []string{"python3", "-c", "import sys,urllib.request;print(urllib.request.urlopen(sys.argv[1]).read().decode())", url}
		}
		for _, rule := range [][]string{{"--allow", proxied}, {"--http-allow", "GET " + proxied + "/ok/*"}, {"--allow", "*"}, {"--audit"},
			{"--allow", proxied, "--http-allow", "GET allowed.test/*"}, {"--allow", proxied, "--tls", "intercept"}} {
			if rule[0] == "--audit" {
				rule = append(rule, "--allow", proxied)
			}
			flags := proxyFlags(t, 200, rule...)
			for scheme, port := range map[string]string{"http": ":80", "https": ":443"} {
				for _, client := range [][]string{{"curl", "-sS", "--http1.1"}, {"curl", "-sS", "--http2"}, python("")[:3], lab.GoClient(t, "")} {
					m, path := lab.Now(), "/ok/"+lab.Nonce()
					url := scheme + "://" + proxied + path
					args := append(slices.Clone(client), url)
					if client[0] == "env" {
						args = lab.GoClient(t, url)
					}
					r := lab.Net(t, u, flags, args...)
					if r.Code != 0 || !strings.Contains(r.Stdout, "lab "+proxied+" "+path) {
						t.Errorf("%q: %q: code %d: %s%s", rule, args, r.Code, r.Stdout, r.Stderr)
						continue
					}
					m.Arrived(t, path)
					if got := asked(t, m); !slices.Equal(got, []string{proxied + port + " Basic bWU6cHc="}) {
						t.Errorf("%q: %q: the proxy was asked for %q", rule, args, got)
					}
				}
			}
		}
	})
}

// What the proxy does not do is said, with its own words, and is no success.
func TestUpstreamProxyRefuses(t *testing.T) {
	asUsers(t, func(t *testing.T, u lab.User) {
		for _, rule := range []string{"--allow=" + proxied, "--http-allow=GET " + proxied + "/*"} {
			for _, scheme := range []string{"http", "https"} {
				m := lab.Now()
				r := lab.Net(t, u, proxyFlags(t, 403, rule), "curl", "-sS", "-w", " %{http_code}", scheme+"://"+proxied+"/x")
				through := scheme == "https" && strings.HasPrefix(rule, "--allow")
				if through != (r.Code != 0) || !through && !strings.Contains(r.Stdout, "403 Forbidden") || !through && !strings.HasSuffix(r.Stdout, " 502") {
					t.Errorf("%s %s: code %d: %s%s", rule, scheme, r.Code, r.Stdout, r.Stderr)
				}
				if !strings.Contains(r.Stderr, "the proxy answered 403 Forbidden") || strings.Contains(r.Stderr, "pw") {
					t.Errorf("%s %s: %s", rule, scheme, r.Stderr)
				}
				if got := asked(t, m); len(got) == 0 {
					t.Errorf("%s %s: the proxy was not asked", rule, scheme)
				}
				flags := []string{rule, "--upstream-proxy", "http://10.0.0.5:1"} // where nothing listens
				r = lab.Net(t, u, flags, "curl", "-sS", "-w", " %{http_code}", scheme+"://"+proxied+"/x")
				if strings.HasSuffix(r.Stdout, " 200") || strings.HasPrefix(rule, "--allow") && r.Code != 7 || !strings.Contains(r.Stderr, "--upstream-proxy 10.0.0.5:1: connection refused") {
					t.Errorf("no proxy: %s %s: code %d: %s%s", rule, scheme, r.Code, r.Stdout, r.Stderr)
				}
				// A server that says something else.
				flags = []string{rule, "--upstream-proxy", "http://" + sink(t, lab.Private4).String()}
				r = lab.Net(t, u, flags, "curl", "-sS", "-w", " %{http_code}", scheme+"://"+proxied+"/x")
				if through != (r.Code != 0) || !through && !strings.HasSuffix(r.Stdout, " 502") || !strings.Contains(r.Stderr, "the answer is not HTTP/1") || r.Denied(proxied) {
					t.Errorf("no HTTP: %s %s: code %d: %s%s", rule, scheme, r.Code, r.Stdout, r.Stderr)
				}
			}
		}
	})
}

// What cannot go through the proxy does not leave; private addresses are reached
// directly.
func TestPastUpstreamProxy(t *testing.T) {
	asUsers(t, func(t *testing.T, u lab.User) {
		open := sink(t, lab.Allowed4)
		host, port := hostPort(open)
		lab.SetName("other.wild.test", lab.Allowed4)
		for _, flag := range []string{host + ":" + port, "raw://other.wild.test:" + port, "other.wild.test:" + port, "*"} {
			m := lab.Now()
			script := "getent ahosts other.wild.test; exec python3 -c 'import socket,sys;socket.create_connection(sys.argv[1:3]).send(b\"hello\")' " + host + " " + port
			r := lab.Net(t, u, proxyFlags(t, 200, "--allow", flag), "sh", "-c", script)
			if !strings.Contains(r.Stderr, "ConnectionRefusedError") || !r.Denied("--upstream-proxy") {
				t.Errorf("%s: code %d: %s%s", flag, r.Code, r.Stdout, r.Stderr)
			}
			if got := asked(t, m); len(got) > 0 {
				t.Errorf("%s: the proxy was asked for %q", flag, got)
			}
			if r := lab.Net(t, u, []string{"--allow", flag}, "sh", "-c", script); r.Code != 0 {
				t.Errorf("without a proxy: %s: code %d: %s%s", flag, r.Code, r.Stdout, r.Stderr)
			}
		}
		datagrams := lab.UDP(t, open)
		m := lab.Now()
		_, port = hostPort(datagrams)
		send := []string{"python3", "-c", "import socket,sys;s=socket.socket(socket.AF_INET,socket.SOCK_DGRAM);s.sendto(b'datagram',(sys.argv[1],int(sys.argv[2])))", host, port}
		lab.Net(t, u, proxyFlags(t, 200, "--allow", "udp://"+host+":"+port), send...)
		for _, a := range m.Since(t) {
			if strings.Contains(a.Text, "datagram") {
				t.Errorf("a datagram reached %s", a.Sink)
			}
		}
		lab.Net(t, u, []string{"--allow", "udp://" + host + ":" + port}, send...)
		m.Arrived(t, "datagram")

		// Another name at the address of an allowed one, and no name at all.
		for _, audit := range [][]string{nil, {"--audit"}} {
			m = lab.Now()
			r := lab.Net(t, u, proxyFlags(t, 200, append(audit, "--allow", proxied)...), "sh", "-c", "getent ahosts "+proxied+
				"; curl -ksS --resolve evil.test:443:"+lab.Black4.String()+" https://evil.test/x; printf 'CONNECT evil.test:443 HTTP/1.1\r\nHost: evil.test:443\r\n\r\n' | timeout 10 nc "+lab.Black4.String()+" 80")
			if got := asked(t, m); len(got) > 0 || !r.Denied("host name is not the one") || strings.Contains(r.Stdout, "lab evil.test") {
				t.Errorf("%v: the proxy was asked for %q: %+v", audit, got, r)
			}
		}

		m = lab.Now()
		r := lab.Net(t, u, proxyFlags(t, 200, "--allow", lab.HostsName), "curl", "-sS", "http://"+lab.HostsName+"/near")
		if r.Code != 0 || !strings.Contains(r.Stdout, "lab "+lab.HostsName+" /near") {
			t.Errorf("a private address: %+v", r)
		}
		for _, a := range m.Since(t) {
			if a.Kind == "connect" {
				t.Errorf("the proxy was asked for %s", a.Text)
			}
		}
	})
}

func TestUpstreamProxyIsChecked(t *testing.T) {
	for url, want := range map[string]string{"": "is empty", "https://a.test:1": "TLS to the proxy", "a.test:3128": "http://HOST:PORT", "http://none.invalid:1": "name a proxy"} {
		r := lab.Run(t, lab.Ordinary, lab.NetArgs([]string{"--upstream-proxy", url}, "echo", "ran")...)
		if r.Code != 2 || r.Stdout != "" || strings.Count(r.Stderr, "\n") != 1 || !strings.Contains(r.Stderr, "--upstream-proxy: ") || !strings.Contains(r.Stderr, want) {
			t.Errorf("%q: code %d: %q%q", url, r.Code, r.Stdout, r.Stderr)
		}
	}
	r := lab.Run(t, lab.Ordinary, lab.Sandlock(), "run", "--upstream-proxy", "http://10.0.0.5:1", "--", "echo", "ran")
	if r.Code != 0 {
		t.Errorf("run: %+v", r)
	}
}
