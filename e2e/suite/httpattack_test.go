package suite

import (
	"fmt"
	"net/netip"
	"strconv"
	"strings"
	"testing"

	"github.com/sandlock/sandlock/internal/lab"
)

// rawClient sends texts to an address, in clear or inside TLS with the server name
// given ("-" for clear, "" for none), and prints what comes back.
const rawClient = `
import socket, ssl, sys
addr, port, name = sys.argv[1], int(sys.argv[2]), sys.argv[3]
family = socket.AF_INET6 if ':' in addr else socket.AF_INET
try:
	s = socket.socket(family, socket.SOCK_STREAM)
	if family == socket.AF_INET6:
		s.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
	s.settimeout(20)
	s.connect((addr, port))
	if name != '-':
		c = ssl.create_default_context()
		c.check_hostname, c.verify_mode = False, ssl.CERT_NONE
		s = c.wrap_socket(s, server_hostname=name or None)
	for text in sys.argv[4:]:
		s.sendall(text.encode('latin-1').decode('unicode_escape').encode('latin-1'))
		answer = s.recv(65536)
		while answer and b'\r\n\r\n' not in answer:
			more = s.recv(65536)
			if not more:
				break
			answer += more
		print(answer.split(b'\r\n')[0].decode() or 'closed')
except OSError as e:
	print('error', e)
`

func head(line, host, nonce string, more ...string) string {
	out := line + " HTTP/1.1\\r\\nHost: " + host + "\\r\\nX-Nonce: " + nonce + "\\r\\n"
	for _, m := range more {
		out += m + "\\r\\n"
	}
	return out + "\\r\\n"
}

// Ways around HTTP rules: whatever was sent, no server sees a request that the rules
// do not allow, and no address that they do not open sees a byte.
func TestHTTPAttacks(t *testing.T) {
	allowed, evil := lab.Allowed4.String(), lab.Evil4.String()
	flags := []string{"--http-allow", "GET allowed.test/ok/*", "--http-allow", "GET shared.test/ok/*"}
	for _, c := range []struct {
		name  string
		args  func(n string) []string // of rawClient
		flags []string
		want  string // in the answer
		ok    int    // requests that arrive
	}{
		{"allowed", func(n string) []string {
			return []string{allowed, "443", "allowed.test", head("GET /ok/"+n, "allowed.test", n)}
		}, flags, "200", 1},
		{"allowed, in clear", func(n string) []string { return []string{allowed, "80", "-", head("GET /ok/"+n, "allowed.test", n)} }, flags, "200", 1},
		{"allowed, IPv6 only", func(n string) []string {
			return []string{lab.Allowed6.String(), "443", "allowed.test", head("GET /ok/"+n, "allowed.test", n)}
		}, flags, "200", 1},
		{"each of a connection", func(n string) []string {
			return []string{allowed, "443", "allowed.test", head("GET /ok/1", "allowed.test", n), head("GET /no/"+n, "allowed.test", n), head("GET /ok/2", "allowed.test", n)}
		}, flags, "403", 2},
		{"another Host", func(n string) []string {
			return []string{allowed, "443", "allowed.test", head("GET /ok/"+n, "evil.test", n)}
		}, flags, "421", 0},
		{"another Host that is allowed elsewhere", func(n string) []string {
			return []string{allowed, "443", "allowed.test", head("GET /ok/"+n, "shared.test", n)}
		}, flags, "421", 0},
		{"another Host on a later request", func(n string) []string {
			return []string{allowed, "443", "allowed.test", head("GET /ok/1", "allowed.test", n), head("GET /ok/2", "evil.test", n)}
		}, flags, "421", 1},
		{"the metadata service as Host", func(n string) []string {
			return []string{allowed, "80", "-", head("GET /ok/"+n, lab.Metadata.String(), n)}
		}, flags, "4", 0},
		{"another port in Host", func(n string) []string {
			return []string{allowed, "80", "-", head("GET /ok/"+n, "allowed.test:5432", n)}
		}, flags, "421", 0},
		{"another server name", func(n string) []string {
			return []string{allowed, "443", "evil.test", head("GET /ok/"+n, "allowed.test", n)}
		}, flags, "421", 0},
		{"no server name", func(n string) []string { return []string{allowed, "443", "", head("GET /ok/"+n, "allowed.test", n)} }, flags, "421", 0},
		{"an allowed name at another address", func(n string) []string {
			return []string{evil, "443", "allowed.test", head("GET /ok/"+n, "allowed.test", n)}
		}, flags, "error", 0},
		{"an allowed name at another address, in clear", func(n string) []string { return []string{evil, "80", "-", head("GET /ok/"+n, "allowed.test", n)} }, flags, "error", 0},
		{"a proxy's request", func(n string) []string {
			return []string{allowed, "80", "-", head("GET http://evil.test/ok/"+n, "evil.test", n)}
		}, flags, "", 0},
		{"CONNECT", func(n string) []string {
			return []string{allowed, "80", "-", head("CONNECT evil.test:443", "evil.test:443", n)}
		}, flags, "", 0},
		{"CONNECT inside TLS", func(n string) []string {
			return []string{allowed, "443", "allowed.test", head("CONNECT evil.test:443", "evil.test:443", n), head("GET /ok/"+n, "evil.test", n)}
		}, flags, "421", 0},
		{"h2c", func(n string) []string {
			return []string{allowed, "80", "-", head("GET /no/"+n, "allowed.test", n, "Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", "HTTP2-Settings: AAMAAABkAAQAAP__")}
		}, flags, "403", 0},
		{"prior knowledge of HTTP/2", func(string) []string {
			return []string{allowed, "80", "-", "PRI * HTTP/2.0\\r\\n\\r\\nSM\\r\\n\\r\\n\\x00\\x00\\x00\\x04\\x00\\x00\\x00\\x00\\x00"}
		}, flags, "", 0},
		{"a method in a header", func(n string) []string {
			return []string{allowed, "443", "allowed.test", head("GET /ok/"+n, "allowed.test", n, "X-HTTP-Method-Override: DELETE")}
		}, flags, "403", 0},
		{"two lengths", func(n string) []string {
			return []string{allowed, "443", "allowed.test", head("GET /ok/"+n, "allowed.test", n, "Content-Length: 3", "Transfer-Encoding: chunked") + "0\\r\\n\\r\\n" + head("GET /no", "allowed.test", n)}
		}, flags, "400", 0},
		{"a hidden dot segment", func(n string) []string {
			return []string{allowed, "443", "allowed.test", head("GET /ok/..%2fno/"+n, "allowed.test", n)}
		}, flags, "400", 0},
		{"every host, but not loopback", func(n string) []string {
			at := lab.TCP(t, netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), 0))
			return []string{"127.0.0.1", strconv.Itoa(int(at.Port())), "-", head("GET /"+n, "127.0.0.1:"+strconv.Itoa(int(at.Port())), n)}
		}, []string{"--http-allow", "* *:1-65535/*", "--deny", "127.0.0.0/8"}, "error", 0},
		{"every host, but not the metadata service", func(n string) []string {
			return []string{lab.Metadata.String(), "80", "-", head("GET /"+n, lab.Metadata.String(), n)}
		}, []string{"--http-allow", "* */*", "--deny", "169.254.0.0/16"}, "error", 0},
		{"a denied path by address", func(n string) []string {
			return []string{allowed, "80", "-", head("GET /secret/"+n, allowed, n)}
		}, []string{"--allow", "*", "--http-deny", "* allowed.test/secret/*"}, "", 0},
	} {
		t.Run(strings.ReplaceAll(c.name, " ", "_"), func(t *testing.T) {
			asUsers(t, func(t *testing.T, u lab.User) {
				n := lab.Nonce()
				// The resolver binds the names first, as for any program.
				script := `getent ahosts allowed.test >/dev/null; getent ahosts shared.test >/dev/null; exec python3 -c "$0" "$@"`
				m := lab.Now()
				r := lab.Net(t, u, c.flags, append([]string{"sh", "-c", script, rawClient}, c.args(n)...)...)
				if r.Code != 0 || !strings.Contains(r.Stdout, c.want) {
					t.Errorf("code %d: %s%s", r.Code, r.Stdout, r.Stderr)
				}
				requests := 0
				for _, a := range m.Since(t) {
					switch {
					case a.Kind == "query":
					case a.Kind == "request":
						requests++
						if !strings.Contains(a.Text, "/ok/") {
							t.Errorf("%s saw %q", a.Sink, a.Text)
						}
					case c.ok == 0:
						t.Errorf("%s: %s %q", a.Sink, a.Kind, a.Text)
					}
				}
				if requests != c.ok {
					t.Errorf("%d requests arrived, want %d: %s%s", requests, c.ok, r.Stdout, r.Stderr)
				}
				logged := 0
				for _, e := range r.Log {
					if e["kind"] == "request" {
						logged++
					}
				}
				if logged != c.ok {
					t.Errorf("%d requests in the log, want %d", logged, c.ok)
				}
			})
		})
	}
}

// A request in the packet that opens a connection does not go round the rules, nor do
// datagrams to the ports of HTTP.
func TestHTTPOverOtherRoads(t *testing.T) {
	const fast = `
import socket, sys
s = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
try:
	s.sendto(sys.argv[2].encode(), socket.MSG_FASTOPEN, (sys.argv[1], 80))
	print(s.recv(100))
except OSError as e:
	print('error', e)
`
	const datagram = `
import socket, sys
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
try:
	s.connect((sys.argv[1], 443))
	s.send(sys.argv[2].encode())
	print('sent')
except OSError as e:
	print('error', e)
`
	quic := lab.UDP(t, netip.AddrPortFrom(lab.Allowed4, 443))
	for name, script := range map[string]string{"fast open": fast, "datagram": datagram} {
		asUsers(t, func(t *testing.T, u lab.User) {
			n, m := lab.Nonce(), lab.Now()
			message := fmt.Sprintf("GET /no/%s HTTP/1.1\r\nHost: allowed.test\r\n\r\n", n)
			args := []string{"sh", "-c", `getent ahosts allowed.test; exec python3 -c "$0" "$@"`, script, lab.Allowed4.String(), message}
			lab.Bare(t, u, n, args...)
			r := lab.Net(t, u, []string{"--http-allow", "GET allowed.test/ok/*"}, args...)
			seen := 0
			for _, a := range m.Since(t) {
				if strings.Contains(a.Text, n) {
					seen++
				}
			}
			if seen != 1 {
				t.Errorf("%s to %s: seen %d times, and the control once: %s%s", name, quic, seen, r.Stdout, r.Stderr)
			}
		})
	}
}
