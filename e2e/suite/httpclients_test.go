package suite

import (
	"bufio"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sandlock/sandlock/internal/lab"
)

// httpClient is a client under HTTP rules. Nothing tells it of a certificate.
type httpClient struct {
	client
	rule string // that allows it, "GET HOST/NONCE" if empty
}

// withoutOptions are those clients of the endpoint tests that need no option for
// certificates there either.
func withoutOptions() []httpClient {
	var out []httpClient
	for _, c := range clients {
		switch c.name {
		case "java": // has a store of the lab's
		case "nc": // waits for the end of the connection
		case "git":
			out = append(out, httpClient{client: c, rule: "git-fetch HOST/git/NONCE/repo.git"})
		default:
			out = append(out, httpClient{client: c})
		}
	}
	return out
}

var httpClients = append(withoutOptions(), []httpClient{
	{client: client{name: "curl over HTTP/2", command: script("curl", "-fsS", "--http2", "https://HOST/NONCE")}},
	{client: client{name: "curl posts", command: script("curl", "-fsS", "-d", "data", "https://HOST/NONCE")}, rule: "POST HOST/NONCE"},
	{client: client{name: "git push", command: script("sh", "-ec", `git clone -q https://HOST/git/NONCE/repo.git out; cd out; echo NONCE >new; git add new
git -c user.name=x -c user.email=x@lab.test commit -qm new; git push -q origin HEAD:refs/heads/NONCE`)}, rule: "* HOST/git/NONCE/*"},
	{client: client{name: "java", command: javaWithoutOptions}},
	{client: client{name: "websockets", command: script(python, "-c", `import asyncio, websockets
async def main():
    async with websockets.connect("wss://HOST/ws/NONCE") as w:
        for n in (1, 1000, 100000):
            await w.send("x" * n); assert await w.recv() == "x" * n
asyncio.run(main())`)}, rule: "GET HOST/ws/*"},
	{client: client{name: "uv", command: script("sh", "-ec", `uv venv -q v; UV_CACHE_DIR=$PWD/c uv pip install -q --python v/bin/python --index-url https://HOST/simple labpkg; v/bin/python -c "import labpkg; assert labpkg.ok"`)}, rule: "GET,HEAD HOST/*"},
	// Chromium has a list of authorities of its own, built in, and a data base of the user's.
	{client: client{name: "chromium", command: script("sh", "-c", `chromium-headless-shell --no-sandbox --disable-gpu --user-data-dir=$PWD/d --ignore-certificate-errors --dump-dom https://HOST/NONCE | grep "lab HOST"`)}, rule: "GET HOST/*"},
	{client: client{name: "pip", command: script(python, "-m", "pip", "--disable-pip-version-check", "--retries", "0", "download", "--no-deps", "-i", "https://HOST/simple", "labpkg")}, rule: "GET HOST/*"},
	{client: client{name: "npm", command: script("npm", "--no-audit", "--no-fund", "--no-update-notifier", "--fetch-retries", "0", "--registry", "https://HOST/npm/", "install", "labpkg")}, rule: "GET HOST/npm/*"},
	{client: client{name: "cargo", command: script("sh", "-ec", `mkdir -p p/src p/.cargo home; cd p; : >src/lib.rs
printf '[package]\nname="p"\nversion="0.1.0"\nedition="2021"\n[dependencies]\nlabcrate={version="1",registry="lab"}\n' >Cargo.toml
printf '[registries.lab]\nindex="https://HOST/git/NONCE/index-HOST.git"\n[net]\nretry=0\n' >.cargo/config.toml
CARGO_HOME=$PWD/../home exec /usr/bin/cargo fetch`)}, rule: "GET,POST HOST/*"},
	{client: client{name: "maven", command: script("sh", "-ec", `mkdir p; cd p
echo '<settings><localRepository>'$PWD'/repo</localRepository><mirrors><mirror><id>lab</id><mirrorOf>*</mirrorOf><url>https://HOST/maven2</url></mirror></mirrors></settings>' >s.xml
echo '<project><modelVersion>4.0.0</modelVersion><parent><groupId>lab</groupId><artifactId>parent</artifactId><version>1</version><relativePath/></parent><artifactId>p</artifactId><packaging>pom</packaging></project>' >pom.xml
exec mvn -q -B -s s.xml validate`)}, rule: "GET HOST/maven2/*"},
}...)

// plain is an environment without a word of certificates.
func plain(args ...string) []string {
	return append([]string{"env", "-u", "NODE_EXTRA_CA_CERTS", "-u", "PIP_CERT"}, args...)
}

func httpNet(t *testing.T, u lab.User, flags []string, args ...string) lab.Result {
	t.Helper()
	log := filepath.Join(lab.Scratch(t, u), "log")
	r := lab.Run(t, u, plain(lab.NetArgs(append([]string{"--log", log}, flags...), args...)...)...)
	r.Log = lab.ReadLog(t, log)
	return r
}

func javaWithoutOptions(t *testing.T, host, nonce string) []string {
	cmd := java(t, host, nonce)
	var out []string
	for _, a := range cmd {
		if !strings.HasPrefix(a, "-Djavax.net.ssl.") {
			out = append(out, a)
		}
	}
	return out
}

// grpcServer serves lab.Echo with one unary call and one that streams both ways.
const grpcServer = `import grpc, sys
from concurrent import futures
cert, key, at = sys.argv[1:]
one = grpc.unary_unary_rpc_method_handler(lambda q, c: (c.set_trailing_metadata((("lab-trailer", "end"),)), q)[1])
both = grpc.stream_stream_rpc_method_handler(lambda qs, c: (q for q in qs))
s = grpc.server(futures.ThreadPoolExecutor(4))
s.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("lab.Echo", {"One": one, "Both": both}),))
s.add_secure_port(at, grpc.ssl_server_credentials([(open(key, "rb").read(), open(cert, "rb").read())]))
s.start(); print("up", flush=True); sys.stdin.read()`

const grpcClient = `import grpc, sys
c = grpc.secure_channel(sys.argv[1], grpc.ssl_channel_credentials())
try:
    answer, call = c.unary_unary("/lab.Echo/One").with_call(b"one", timeout=20)
    assert answer == b"one" and ("lab-trailer", "end") in [tuple(t) for t in call.trailing_metadata()], call.trailing_metadata()
    def ask(): # the next only after the answer to the last
        for i in range(20): yield b"q%d" % i
    assert list(c.stream_stream("/lab.Echo/Both")(ask(), timeout=20)) == [b"q%d" % i for i in range(20)]
    print("all answered")
except grpc.RpcError as e:
    print(e.code(), e.details()); sys.exit(1)`

// gRPC calls work with trailers and in both directions, and what no rule allows is
// PERMISSION_DENIED.
func TestGRPC(t *testing.T) {
	at := lab.Allowed4.String() + ":50051"
	in, feed, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	out, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	server := lab.Command(t.Context(), t, lab.Root, python, "-c", grpcServer, lab.LeafFile()+".pem", lab.LeafFile()+".key", at)
	server.Stdin, server.Stdout, server.Stderr = in, w, os.Stderr
	if err := server.Start(); err != nil {
		t.Fatal(err)
	}
	in.Close()
	w.Close()
	t.Cleanup(func() { feed.Close(); server.Wait(); out.Close() })
	if line, err := bufio.NewReader(out).ReadString('\n'); err != nil || line != "up\n" {
		t.Fatalf("the server: %q %v", line, err)
	}
	asUsers(t, func(t *testing.T, u lab.User) {
		cmd := []string{python, "-c", grpcClient, "four.test:50051"}
		if r := httpNet(t, u, []string{"--http-allow", "POST four.test:50051/lab.Echo/*"}, cmd...); r.Code != 0 {
			t.Errorf("code %d: %s%s", r.Code, r.Stdout, r.Stderr)
		}
		r := httpNet(t, u, []string{"--http-allow", "POST four.test:50051/lab.Other/*"}, cmd...)
		if r.Code != 1 || !strings.Contains(r.Stdout, "PERMISSION_DENIED") || !r.Denied("four.test") {
			t.Errorf("code %d: %s%s", r.Code, r.Stdout, r.Stderr)
		}
	})
}

// Every client trusts the connection without being told of a certificate, gets
// what a rule allows, and is refused the rest before the server sees anything.
func TestHTTPClients(t *testing.T) {
	const host = "allowed.test"
	for _, c := range httpClients {
		t.Run(c.name, func(t *testing.T) {
			asUsers(t, func(t *testing.T, u lab.User) {
				n := lab.Nonce()
				rule := c.rule
				if rule == "" {
					rule = "GET HOST/NONCE"
				}
				rule = strings.NewReplacer("HOST", host, "NONCE", n).Replace(rule)
				cmd := c.command(t, host, n)
				m := lab.Now()
				r := httpNet(t, u, []string{"--http-allow", rule}, cmd...)
				if r.Code != 0 && !pipes[c.name] {
					t.Fatalf("%q: code %d: %s%s", rule, r.Code, r.Stdout, r.Stderr)
				}
				if got := m.Arrived(t, host+"/"); got.Kind != "request" {
					t.Errorf("%+v", got)
				}
				m = lab.Now()
				r = httpNet(t, u, []string{"--http-allow", "GET " + host + "/elsewhere"}, cmd...)
				for _, a := range m.Since(t) {
					if a.Kind != "query" {
						t.Errorf("%s reached %s: %q", a.Kind, a.Sink, a.Text)
					}
				}
				if !r.Denied(host) {
					t.Errorf("no denial in the log: %v: code %d: %s%s", r.Log, r.Code, r.Stdout, r.Stderr)
				}
			})
		})
	}
}
