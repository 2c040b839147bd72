package suite

import (
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/sandlock/sandlock/internal/lab"
)

const python = "/usr/bin/python3"

// client gets SCHEME://HOST/NONCE.
type client struct {
	name    string
	command func(t *testing.T, host, nonce string) []string
	http    bool // it speaks plain HTTP
}

// port is the one that its rule names.
func (c client) port() string {
	if c.http {
		return "80"
	}
	return "443"
}

// script is a client that is a program in some language: HOST and NONCE in it
// are replaced.
func script(command ...string) func(t *testing.T, host, nonce string) []string {
	return func(_ *testing.T, host, nonce string) []string {
		r := strings.NewReplacer("HOST", host, "NONCE", nonce)
		out := make([]string, len(command))
		for i, word := range command {
			out[i] = r.Replace(word)
		}
		return out
	}
}

var clients = []client{
	{name: "curl", command: script("curl", "-fsS", "https://HOST/NONCE")},
	{name: "curl over HTTP/1.1", command: script("curl", "-fsS", "--http1.1", "https://HOST/NONCE")},
	{name: "curl with GnuTLS", command: script(python, "-c", `import pycurl
c = pycurl.Curl(); c.setopt(pycurl.URL, "https://HOST/NONCE"); c.setopt(pycurl.FAILONERROR, 1); c.perform()`)},
	{name: "wget", command: script("wget", "-qO-", "https://HOST/NONCE")},
	{name: "git", command: script("git", "clone", "-q", "https://HOST/git/NONCE/repo.git", "out")},
	{name: "urllib", command: script(python, "-c", `import urllib.request as u; print(u.urlopen("https://HOST/NONCE").read())`)},
	{name: "requests", command: script(python, "-c", `import requests; print(requests.get("https://HOST/NONCE").text)`)},
	{name: "httpx", command: script(python, "-c", `import httpx; print(httpx.get("https://HOST/NONCE", verify="/etc/ssl/certs/ca-certificates.crt").text)`)},
	{name: "aiohttp", command: script(python, "-c", `import aiohttp, asyncio
async def main():
    async with aiohttp.ClientSession() as s, s.get("https://HOST/NONCE") as a: print(await a.text())
asyncio.run(main())`)},
	{name: "asyncio", command: script(python, "-c", `import asyncio
async def main():
    r, w = await asyncio.open_connection("HOST", 443, ssl=True)
    w.write(b"GET /NONCE HTTP/1.1\r\nHost: HOST\r\nConnection: close\r\n\r\n")
    assert b"200 OK" in await r.read()
asyncio.run(main())`)},
	{name: "node fetch", command: script("node", "-e", `fetch("https://HOST/NONCE").then(r => r.text()).then(console.log)`)},
	{name: "node https", command: script("node", "-e", `require("https").get("https://HOST/NONCE", r => r.pipe(process.stdout))`)},
	{name: "ruby", command: script("ruby", "-rnet/http", "-e", `puts Net::HTTP.get(URI("https://HOST/NONCE"))`)},
	{name: "php", command: script("php", "-r", `$t = file_get_contents("https://HOST/NONCE"); if ($t === false) exit(1); echo $t;`)},
	{name: "gnutls-cli", command: script("sh", "-c", `printf 'GET /NONCE HTTP/1.0\r\nHost: HOST\r\n\r\n' | gnutls-cli --x509cafile=/etc/ssl/certs/ca-certificates.crt HOST`)},
	{name: "openssl", command: script("sh", "-c", `printf 'GET /NONCE HTTP/1.0\r\nHost: HOST\r\n\r\n' | openssl s_client -quiet -verify_return_error -connect HOST:443 -servername HOST`)},
	{name: "go", command: func(t *testing.T, h, n string) []string { return lab.GoClient(t, "https://"+h+"/"+n) }},
	{name: "java", command: java},
	{name: "curl of HTTP", http: true, command: script("curl", "-fsS", "http://HOST/NONCE")},
	{name: "busybox wget", http: true, command: script("busybox", "wget", "-qO-", "http://HOST/NONCE")},
	{name: "perl", http: true, command: script("perl", "-MHTTP::Tiny", "-e", `my $a = HTTP::Tiny->new->get("http://HOST/NONCE"); die $a->{reason} unless $a->{success}; print $a->{content}`)},
	{name: "nc", http: true, command: script("sh", "-c", `printf 'GET /NONCE HTTP/1.0\r\nHost: HOST\r\n\r\n' | nc -N -w 5 HOST 80`)},
}

// java compiles a client of java.net.http once and runs it.
func java(t *testing.T, host, nonce string) []string {
	dir := filepath.Join(lab.Dir(), "java")
	if _, err := os.Stat(filepath.Join(dir, "Get.class")); err != nil {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		src := filepath.Join(dir, "Get.java")
		if err := os.WriteFile(src, []byte(`import java.net.URI; import java.net.http.*;
class Get { public static void main(String[] a) throws Exception {
HttpResponse<String> r = HttpClient.newHttpClient().send(HttpRequest.newBuilder(URI.create(a[0])).build(), HttpResponse.BodyHandlers.ofString());
System.out.println(r.body()); System.exit(r.statusCode() == 200 ? 0 : 1); } }
`), 0o644); err != nil {
			t.Fatal(err)
		}
		if out, err := exec.Command("javac", "-d", dir, src).CombinedOutput(); err != nil {
			t.Fatalf("javac: %v: %s", err, out)
		}
	}
	return []string{"java", "-Xshare:auto", "-XX:TieredStopAtLevel=1", "-Djavax.net.ssl.trustStore=" + lab.Dir() + "/etc/java.p12",
		"-Djavax.net.ssl.trustStorePassword=changeit", "-cp", dir, "Get", "https://" + host + "/" + nonce}
}

func TestClients(t *testing.T) {
	for _, host := range []string{"four.test", "six.test"} {
		for _, c := range clients {
			t.Run(host+"/"+c.name, func(t *testing.T) {
				asUsers(t, func(t *testing.T, u lab.User) {
					n, m := lab.Nonce(), lab.Now()
					r := lab.Net(t, u, []string{"--allow", host + ":" + c.port()}, c.command(t, host, n)...)
					if r.Code != 0 {
						t.Fatalf("code %d: %s%s", r.Code, r.Stdout, r.Stderr)
					}
					m.Arrived(t, n)
				})
			})
		}
	}
}

// Every client is told quickly that another name does not exist, no query for it
// leaves, and the flag that the log names allows it.
func TestClientsDenied(t *testing.T) {
	for _, c := range clients {
		t.Run(c.name, func(t *testing.T) {
			for _, u := range lab.Users {
				n := lab.Nonce()
				cmd := c.command(t, "evil.test", n)
				r := lab.Denied(t, lab.Denial{User: u, Flags: []string{"--allow", "allowed.test:" + c.port()}, Command: cmd, Nonce: n,
					Lost: pipes[c.name], Log: "evil.test"})
				pasted(t, u, r, cmd, n)
			}
		})
	}
}

// Every client is told quickly that nothing listens at an address of another's
// that it knows by itself, and the flag that the log names allows it.
func TestClientsAtAddresses(t *testing.T) {
	for _, c := range clients {
		if !c.http {
			continue // its certificate is for names
		}
		t.Run(c.name, func(t *testing.T) {
			for _, a := range []string{lab.Evil4.String(), "[" + lab.Evil6.String() + "]"} {
				n := lab.Nonce()
				if c.name == "nc" {
					a = strings.Trim(a, "[]")
				}
				cmd := c.command(t, a, n)
				r := lab.Denied(t, lab.Denial{User: lab.Ordinary, Flags: []string{"--allow", "allowed.test:80"}, Command: cmd, Nonce: n,
					Lost: pipes[c.name], Log: strings.Trim(a, "[]")})
				pasted(t, lab.Ordinary, r, cmd, n)
			}
		})
	}
}

// pipes are clients whose exit code tells nothing.
var pipes = map[string]bool{"openssl": true, "gnutls-cli": true}

// pasted runs a denied command again with the flags that its log names: those of
// the name that did not resolve, and then those of the port that it led to.
func pasted(t *testing.T, u lab.User, r lab.Result, cmd []string, nonce string) {
	t.Helper()
	var flags []string
	m := lab.Now()
	for range 2 {
		known := len(flags)
		for _, e := range r.Log {
			if with, ok := e["allow_with"].(string); ok && !slices.Contains(flags, strings.TrimPrefix(with, "--allow ")) {
				flags = append(flags, strings.SplitN(with, " ", 2)...)
			}
		}
		if len(flags) == known {
			break
		}
		r = lab.Net(t, u, flags, cmd...)
	}
	if r.Code != 0 && !pipes[cmd[0]] {
		t.Errorf("with %q: code %d: %s%s", flags, r.Code, r.Stdout, r.Stderr)
		return
	}
	m.Arrived(t, nonce)
}

func TestPackageClients(t *testing.T) {
	for _, c := range packageClients {
		t.Run(c.name, func(t *testing.T) {
			for _, host := range []string{"four.test", "six.test"} {
				asUsers(t, func(t *testing.T, u lab.User) {
					m := lab.Now()
					r := lab.Net(t, u, []string{"--allow", host + ":" + c.port()}, c.command(t, host, "")...)
					if r.Code != 0 {
						t.Fatalf("code %d: %s%s", r.Code, r.Stdout, r.Stderr)
					}
					m.Arrived(t, "labpkg")
				})
			}
			lab.Denied(t, lab.Denial{User: lab.Ordinary, Flags: []string{"--allow", "four.test:" + c.port()}, Command: c.command(t, "evil.test", ""), Log: "evil.test"})
		})
	}
}

var packageClients = []client{
	{name: "pip", command: script(python, "-m", "pip", "--disable-pip-version-check", "--retries", "0", "download", "--no-deps", "-i", "https://HOST/simple", "labpkg")},
	{name: "npm", command: script("npm", "--no-audit", "--no-fund", "--no-update-notifier", "--fetch-retries", "0", "--registry", "https://HOST/npm/", "install", "labpkg")},
	{name: "apt", http: true, command: apt},
}

// apt updates its lists from the lab's repository and downloads a package.
func apt(t *testing.T, host, _ string) []string {
	const run = `d=$PWD; mkdir -p lists/partial cache/archives/partial etc/preferences.d etc/apt.conf.d; touch status
echo "deb [trusted=yes] http://HOST/deb ./" >sources.list
set -e; o="-o Dir::State::Lists=$d/lists -o Dir::Cache=$d/cache -o Dir::Etc::SourceList=$d/sources.list -o Dir::Etc::SourceParts=/dev/null -o Dir::State::Status=$d/status
 -o Dir::Etc::Parts=/dev/null -o APT::Sandbox::User=$(id -un) -o Debug::NoLocking=1 -o Acquire::Languages=none -o Acquire::Retries=0"
apt-get $o -o APT::Update::Error-Mode=any update; apt-get $o download labpkg; ls labpkg_*.deb`
	return []string{"sh", "-c", strings.ReplaceAll(run, "HOST", host)}
}

// A name's other ports connect directly.
func TestNamedPort(t *testing.T) {
	at := sink(t, lab.Allowed4)
	_, port := hostPort(at)
	asUsers(t, func(t *testing.T, u lab.User) {
		n := lab.Nonce()
		script := []string{"bash", "-c", "exec 3<>/dev/tcp/four.test/" + port + " && echo " + n + " >&3 && read x <&3"}
		lab.Bare(t, u, n, script...)
		n = lab.Nonce()
		script[2] = "exec 3<>/dev/tcp/four.test/" + port + " && echo " + n + " >&3 && read x <&3"
		m := lab.Now()
		if r := lab.Net(t, u, []string{"--allow", "four.test:" + port}, script...); r.Code != 0 {
			t.Fatalf("code %d: %s", r.Code, r.Stderr)
		}
		m.Arrived(t, n)
		if other := lab.Net(t, u, []string{"--allow", "four.test:1"}, script...); other.Code == 0 || !strings.Contains(other.Stderr, "denied") {
			t.Fatalf("another port was not denied: %+v", other)
		}
	})
}

// A static musl program accepts an answer only from the server it asked.
func TestMusl(t *testing.T) {
	p := lab.MuslProbe(t)
	for name, a := range map[string]netip.Addr{"four.test": lab.Allowed4, "six.test": lab.Allowed6} {
		_, port := hostPort(sink(t, a))
		asUsers(t, func(t *testing.T, u lab.User) {
			n, m := lab.Nonce(), lab.Now()
			r := lab.Net(t, u, []string{"--allow", name + ":" + port}, p, "name", name, port, n)
			if r.Code != 0 {
				t.Fatalf("code %d: %s%s", r.Code, r.Stdout, r.Stderr)
			}
			m.Arrived(t, n)
		})
		lab.Denied(t, lab.Denial{User: lab.Ordinary, Flags: []string{"--allow", name + ":" + port}, Command: []string{p, "name", "evil.test", port, "x"}, Log: "evil.test"})
	}
}
