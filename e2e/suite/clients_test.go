package suite

import (
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sandlock/sandlock/internal/lab"
)

const python = "/usr/bin/python3"

// clients get https://NAME/nonce in many ways.
var clients = []struct {
	name    string
	command func(t *testing.T, host, nonce string) []string
}{
	{"curl", func(_ *testing.T, h, n string) []string { return []string{"curl", "-sS", "https://" + h + "/" + n} }},
	{"wget", func(_ *testing.T, h, n string) []string { return []string{"wget", "-qO-", "https://" + h + "/" + n} }},
	{"git", func(_ *testing.T, h, n string) []string {
		return []string{"git", "clone", "-q", "https://" + h + "/git/" + n + "/repo.git", "out"}
	}},
	{"urllib", func(_ *testing.T, h, n string) []string {
		return []string{python, "-c", "import urllib.request as u;print(u.urlopen('https://" + h + "/" + n + "').read())"}
	}},
	{"requests", func(_ *testing.T, h, n string) []string {
		return []string{python, "-c", "import requests;print(requests.get('https://" + h + "/" + n + "').text)"}
	}},
	{"httpx", func(_ *testing.T, h, n string) []string {
		return []string{python, "-c", "import httpx;print(httpx.get('https://" + h + "/" + n + "', verify='/etc/ssl/certs/ca-certificates.crt').text)"}
	}},
	{"asyncio", func(_ *testing.T, h, n string) []string {
		return []string{python, "-c", `import asyncio
async def main():
    r, w = await asyncio.open_connection("` + h + `", 443, ssl=True)
    w.write(b"GET /` + n + ` HTTP/1.1\r\nHost: ` + h + `\r\nConnection: close\r\n\r\n")
    print(await r.read())
asyncio.run(main())`}
	}},
	{"node-fetch", func(_ *testing.T, h, n string) []string {
		return []string{"node", "-e", "fetch('https://" + h + "/" + n + "').then(r=>r.text()).then(console.log)"}
	}},
	{"node-https", func(_ *testing.T, h, n string) []string {
		return []string{"node", "-e", "require('https').get('https://" + h + "/" + n + "',r=>r.pipe(process.stdout))"}
	}},
	{"java", func(t *testing.T, h, n string) []string {
		src := filepath.Join(lab.Dir(), "tmp", "Get.java")
		if err := os.WriteFile(src, []byte(`import java.net.URI; import java.net.http.*;
class Get { public static void main(String[] a) throws Exception {
System.out.println(HttpClient.newHttpClient().send(HttpRequest.newBuilder(URI.create(a[0])).build(), HttpResponse.BodyHandlers.ofString()).body()); } }
`), 0o644); err != nil {
			t.Fatal(err)
		}
		return []string{"java", "-Xshare:auto", "-XX:TieredStopAtLevel=1", "-Djavax.net.ssl.trustStore=" + lab.Dir() + "/etc/java.p12", "-Djavax.net.ssl.trustStorePassword=changeit",
			src, "https://" + h + "/" + n}
	}},
	{"go", func(t *testing.T, h, n string) []string { return lab.GoClient(t, "https://"+h+"/"+n) }},
	{"openssl", func(_ *testing.T, h, n string) []string {
		return []string{"sh", "-c", `printf 'GET /` + n + ` HTTP/1.0\r\nHost: ` + h + `\r\n\r\n' | openssl s_client -quiet -verify_return_error -connect ` + h + `:443 -servername ` + h}
	}},
}

func TestClients(t *testing.T) {
	for _, host := range []string{"four.test", "six.test"} {
		for _, c := range clients {
			t.Run(host+"/"+c.name, func(t *testing.T) {
				asUsers(t, func(t *testing.T, u lab.User) {
					n, m := lab.Nonce(), lab.Now()
					r := lab.Net(t, u, []string{"--allow", host + ":443"}, c.command(t, host, n)...)
					if r.Code != 0 {
						t.Fatalf("code %d: %s%s", r.Code, r.Stdout, r.Stderr)
					}
					m.Arrived(t, n)
				})
			})
		}
	}
}

// Every client is told quickly that another name does not exist, and no query
// for it leaves.
func TestClientsDenied(t *testing.T) {
	for _, c := range clients {
		t.Run(c.name, func(t *testing.T) {
			n := lab.Nonce()
			cmd := c.command(t, "evil.test", n)
			m := lab.Now()
			r := lab.Net(t, lab.Ordinary, []string{"--allow", "allowed.test:443"}, cmd...)
			for _, a := range m.Since(t) {
				t.Errorf("%s reached %s: %q", a.Kind, a.Sink, a.Text)
			}
			if c.name != "openssl" && r.Code == 0 {
				t.Errorf("it succeeded: %s", r.Stdout)
			}
			if !r.Denied("evil.test") {
				t.Errorf("the log does not name evil.test: %v; code %d: %s%s", r.Log, r.Code, r.Stdout, r.Stderr)
			}
		})
	}
}

func TestPackageClients(t *testing.T) {
	asUsers(t, func(t *testing.T, u lab.User) {
		for _, c := range []struct {
			name, rule string
			command    []string
		}{
			{"pip", "four.test:443", []string{python, "-m", "pip", "--disable-pip-version-check", "download", "--no-deps", "-i", "https://four.test/simple", "labpkg"}},
			{"npm", "four.test:443", []string{"npm", "--no-audit", "--no-fund", "--no-update-notifier", "--registry", "https://four.test/npm/", "install", "labpkg"}},
			{"apt", "four.test:80", []string{"/usr/lib/apt/apt-helper", "-o", "APT::Sandbox::User=root", "download-file", "http://four.test/labpkg.deb", "got"}},
		} {
			t.Run(c.name, func(t *testing.T) {
				m := lab.Now()
				r := lab.Net(t, u, []string{"--allow", c.rule}, c.command...)
				if r.Code != 0 {
					t.Fatalf("code %d: %s%s", r.Code, r.Stdout, r.Stderr)
				}
				m.Arrived(t, "labpkg")
			})
		}
	})
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
