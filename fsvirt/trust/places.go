package trust

import (
	"os"
	"slices"
	"strings"
)

// Invented is a path that exists only as the answer to an open: the authority
// alone, for programs that add a bundle to their own.
const Invented = "/etc/sandlock-ca.pem"

// distributions are the bundles of the host's programs: of Debian, Fedora, SUSE,
// Alpine, Arch, OpenWrt, Nix and their relatives.
var distributions = [...]string{
	"/etc/ssl/certs/ca-certificates.crt",
	"/etc/pki/tls/certs/ca-bundle.crt",
	"/etc/ssl/ca-bundle.pem",
	"/etc/ssl/cert.pem",
	"/etc/pki/tls/cert.pem",
	"/etc/pki/tls/cacert.pem",
	"/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
	"/etc/pki/ca-trust/extracted/openssl/ca-bundle.trust.crt",
	"/etc/ca-certificates/extracted/tls-ca-bundle.pem",
	"/etc/ssl/certs/ca-bundle.crt",
	"/usr/share/ssl/certs/ca-bundle.crt",
	"/usr/local/share/certs/ca-root-nss.crt",
	"/var/lib/ca-certificates/ca-bundle.pem",
	"/etc/pki/ca-trust/extracted/java/cacerts",
	"/etc/ssl/certs/java/cacerts",
	"/var/lib/ca-certificates/java-cacerts",
}

// patterns are bundles that programs bring along: the end of the directory's
// name, and the file's.
var patterns = [...]struct{ dir, name string }{
	{"/certifi/", "cacert.pem"},  // Python packages, pip's own copy
	{"/botocore/", "cacert.pem"}, // the AWS clients
	{"/httplib2/", "cacerts.txt"},
	{"/grpc/_cython/_credentials/", "roots.pem"},
	{"/share/grpc/", "roots.pem"},     // gRPC of C and C++
	{"/ca-bundle/res/", "cacert.pem"}, // PHP's composer
	{"/ssl/", "cacert.pem"},           // conda
	{"/ssl/", "cert.pem"},             // OPENSSLDIR of builds with another prefix
	{"/lib/security/", "cacerts"},     // a Java runtime
	{"/lib/security/", "jssecacerts"},
	{"/security/", "cacerts"}, // a Java runtime with its configuration elsewhere
}

// variables name a bundle for the programs that read them. Where the host has a
// bundle it is that one, which also exists for programs that look before they
// open.
var variables = [...]string{
	"SSL_CERT_FILE",                    // OpenSSL, Go, rustls-native-certs, uv
	"CURL_CA_BUNDLE",                   // curl
	"REQUESTS_CA_BUNDLE",               // Python requests
	"GIT_SSL_CAINFO",                   // git
	"PIP_CERT",                         // pip
	"CARGO_HTTP_CAINFO",                // cargo
	"AWS_CA_BUNDLE",                    // the AWS clients
	"DENO_CERT",                        // deno
	"NIX_SSL_CERT_FILE",                // programs of Nix
	"GRPC_DEFAULT_SSL_ROOTS_FILE_PATH", // gRPC of C, C++, Python, Ruby and PHP
}

// nodeVariable adds to the authorities that are built into Node.
const nodeVariable = "NODE_EXTRA_CA_CERTS"

// Environment returns what to add, as NAME=VALUE, to an environment so that
// programs which read a variable find the authority. What the user has set stays
// as it is; Named returns those files, to be given to New as Bundles.
func Environment(env []string) []string {
	bundle := Invented
	for _, path := range distributions {
		if st, err := os.Stat(path); err == nil && st.Mode().IsRegular() && !strings.HasSuffix(path, "cacerts") {
			bundle = path
			break
		}
	}
	var add []string
	put := func(name, value string) {
		if !slices.ContainsFunc(env, func(kv string) bool { return strings.HasPrefix(kv, name+"=") }) {
			add = append(add, name+"="+value)
		}
	}
	for _, name := range variables {
		put(name, bundle)
	}
	put(nodeVariable, Invented)
	return add
}

// Named returns the absolute paths that an environment names as bundles.
func Named(env []string) []string {
	var out []string
	for _, kv := range env {
		name, value, _ := strings.Cut(kv, "=")
		if (name == nodeVariable || slices.Contains(variables[:], name)) && strings.HasPrefix(value, "/") {
			out = append(out, value)
		}
	}
	return out
}
