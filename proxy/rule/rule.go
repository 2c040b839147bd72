package rule

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/sandlock/sandlock/netfilter/endpoint"
)

// Rule allows or denies requests. Parse makes one.
type Rule struct {
	Action endpoint.Action
	Text   string // as the user wrote it
	Source string // where it was written: "--http-allow", "policy.toml:12"

	scheme scheme
	// target is the host, and the ports on which requests to it are looked at.
	target endpoint.Rule
	// everyPort: a deny rule that names no port holds wherever requests are seen.
	everyPort bool
	clauses   []clause
}

// clause is one combination that a rule covers.
type clause struct {
	methods []string // nil for every one
	paths   patterns
	// query is the whole query that is asked for, when exact is set.
	query string
	exact bool
}

// scheme restricts a rule to requests with or without TLS.
type scheme uint8

const (
	anyScheme scheme = iota
	cleartext
	encrypted
)

// schemes are what may stand before the host, and the ports that each means.
var schemes = [...]struct {
	word  string
	ports []uint16
}{
	anyScheme: {"", []uint16{80, 443}},
	cleartext: {"http", []uint16{80}},
	encrypted: {"https", []uint16{443}},
}

// parseScheme reads the word before "://".
func parseScheme(word string) (scheme, bool) {
	for s := cleartext; int(s) < len(schemes); s++ {
		if strings.EqualFold(schemes[s].word, word) {
			return s, true
		}
	}
	return anyScheme, false
}

// Encrypted tells whether the rule is about requests over TLS too: then TLS has to be
// ended for it.
func (r *Rule) Encrypted() bool { return r.scheme != cleartext }

// Target returns the host, and the ports on which requests to it are looked at.
func (r *Rule) Target() endpoint.Rule { return r.target }

// reading are the methods that RFC 9110 section 9.2.1 calls safe, but for TRACE,
// which echoes credentials.
var reading = []string{"GET", "HEAD", "OPTIONS"}

// Parse reads METHOD[,METHOD] HOST[:PORTS][/PATH], read HOST[:PORTS][/PATH] or
// git-fetch HOST[:PORTS]/PATH. METHOD is a method or * for every one; read stands
// for GET, HEAD and OPTIONS, git-fetch for what a clone or a fetch over HTTP
// needs, and no push. HOST is a name, *.name, an address, an IPv6 address in
// brackets, localhost or *; http:// or https:// before it restricts the rule to
// requests without or with TLS. PORTS is what endpoint.ParsePorts reads; without
// it the ports are 80 and 443, and a deny rule holds on every other port too, if
// requests are seen there. In PATH a segment * stands for any one segment, and at
// the end for everything below; without PATH every path is meant.
//
// source says where the text was written and goes into errors and reports
// ("--http-allow"). What can never match is an error; an error names the text,
// quoted, and the remedy.
func Parse(a endpoint.Action, text, source string) (Rule, error) {
	r := Rule{Action: a, Text: text, Source: source}
	if err := r.parse(text); err != nil {
		return Rule{}, fmt.Errorf("%s: %w", r.origin(), err)
	}
	return r, nil
}

// origin names the rule in an error.
func (r *Rule) origin() string {
	source := r.Source
	if source == "" {
		source = "HTTP " + r.Action.String() + " rule"
	}
	return source + " " + strconv.Quote(shorten(r.Text))
}

func (r *Rule) parse(text string) error {
	if r.Action != endpoint.Allow && r.Action != endpoint.Deny {
		return errors.New("a rule allows or denies")
	}
	fields := strings.Fields(text)
	switch len(fields) {
	case 0:
		return errors.New("the rule is empty; write METHOD HOST/PATH, as in GET api.example.com/v1/*")
	case 1:
		return fmt.Errorf("a rule has a method and a host; write one of GET %[1]s, read %[1]s or * %[1]s", shorten(fields[0]))
	case 2:
	default:
		return errors.New("a rule is METHOD HOST/PATH with one blank; methods are separated by commas, and a blank in a path is written %20")
	}
	host, path, err := r.splitTarget(fields[1])
	if err != nil {
		return err
	}
	if err := r.setHost(host, path); err != nil {
		return err
	}
	if strings.EqualFold(fields[0], "git-fetch") {
		return r.gitFetch(path)
	}
	methods, err := parseMethods(fields[0])
	if err != nil {
		return err
	}
	if path == "" {
		path = "/*"
	}
	paths, err := parsePattern(path)
	r.clauses = []clause{{methods: methods, paths: paths}}
	return err
}

// splitTarget separates the host with its ports from the path, and reads a scheme.
func (r *Rule) splitTarget(s string) (host, path string, err error) {
	word, rest, ok := strings.Cut(s, "://")
	if i := strings.IndexByte(s, '/'); ok && i == len(word)+1 {
		if r.scheme, ok = parseScheme(word); !ok {
			return "", "", fmt.Errorf("a rule about requests is for http:// or https://, not %q; leave it out", shorten(word+"://"))
		}
		s = rest
	}
	if i := strings.IndexByte(s, '/'); i >= 0 {
		return s[:i], s[i:], nil
	}
	return s, "", nil
}

// setHost reads the host and its ports. The path is looked at only to tell a range
// of addresses from a host with a path.
func (r *Rule) setHost(host, path string) error {
	switch {
	case host == "":
		return errors.New("there is no host before the path; write METHOD HOST/PATH, or * as the host for every one")
	case strings.Contains(host, "@"):
		return errors.New("a rule has no user; write only what follows the @")
	case strings.ContainsAny(host, "?#"):
		return errors.New("rules look at the path only; leave out the ? or # and what follows")
	case !strings.HasPrefix(host, "[") && strings.Count(host, ":") > 1:
		return errors.New("an IPv6 address goes into brackets, as in [2001:db8::1]:443/path")
	}
	ported := strings.Contains(host[strings.LastIndexByte(host, ']')+1:], ":")
	if a, err := netip.ParseAddr(strings.Trim(host, "[]")); err == nil && !ported {
		if n, err := strconv.Atoi(strings.TrimPrefix(path, "/")); err == nil && n <= a.BitLen() {
			return fmt.Errorf("a rule about requests is for one address, not for a range; write %s:80/%d if that is a path", host, n)
		}
	}
	target, err := endpoint.ParseRule(r.Action, "tcp://"+host, "")
	if err != nil {
		return errors.Unwrap(err)
	}
	if target.Kind == endpoint.KindPrefix && !target.Prefix.IsSingleIP() {
		return errors.New("a rule about requests is for one address, not for a range")
	}
	if !ported {
		target.Ports = endpoint.Ports(schemes[r.scheme].ports...)
		r.everyPort = r.Action == endpoint.Deny
	}
	target.Text, target.Source = r.Text, r.Source
	r.target = target
	return nil
}

// parseMethods reads a list of methods, and returns nil for every one.
func parseMethods(text string) (methods []string, err error) {
	if text == "*" {
		return nil, nil
	}
	if strings.EqualFold(text, "read") {
		return reading, nil
	}
	for m := range strings.SplitSeq(text, ",") {
		upper := strings.ToUpper(m)
		switch {
		case m == "*":
			return nil, fmt.Errorf("%q mixes * with methods; write * alone for every method", shorten(text))
		case strings.EqualFold(m, "read"), strings.EqualFold(m, "git-fetch"):
			return nil, fmt.Errorf("%q mixes a word with methods; write a rule for each", shorten(text))
		case upper == "CONNECT":
			return nil, errors.New("CONNECT asks for a host, not for a path; tunnels are opened where some rule allows requests inside")
		case !isToken(m) || !slices.Contains(common, upper) && m != upper:
			return nil, fmt.Errorf("%q is not a method; write one such as GET, several between commas, * for every method, read or git-fetch", shorten(m))
		}
		methods = append(methods, upper)
	}
	return methods, nil
}

// common are the methods that may be written in lower case: others are custom, and
// a word in lower case is more likely a mistake.
var common = []string{"GET", "HEAD", "OPTIONS", "POST", "PUT", "PATCH", "DELETE", "TRACE"}

// isToken tells whether a text is a token of RFC 9110 section 5.6.2.
func isToken(s string) bool {
	for i := range len(s) {
		c := s[i]
		if (c|0x20 < 'a' || c|0x20 > 'z') && (c < '0' || c > '9') && strings.IndexByte("!#$%&'*+-.^_`|~", c) < 0 {
			return false
		}
	}
	return s != ""
}

// gitFetch makes the rule one for reading a repository, or those below a path. The
// two requests are those of the smart protocol (gitprotocol-http(5)).
func (r *Rule) gitFetch(path string) error {
	if r.Action == endpoint.Deny {
		return errors.New("git-fetch only allows; deny with a method and a path, as in POST HOST/OWNER/REPO/git-upload-pack")
	}
	if path == "" || path == "/" {
		return errors.New("git-fetch needs the path of a repository, as in git-fetch HOST/OWNER/REPO, or HOST/OWNER/* for all below")
	}
	// A server takes a repository with and without the ending.
	base, err := parsePattern(strings.TrimSuffix(strings.TrimSuffix(path, "/"), ".git"))
	if err != nil {
		return err
	}
	const refs, pack = "/info/refs", "/git-upload-pack"
	r.clauses = []clause{
		{methods: []string{"GET"}, paths: base.extend(refs, ".git"+refs), query: "service=git-upload-pack", exact: true},
		{methods: []string{"POST"}, paths: base.extend(pack, ".git"+pack), exact: true},
	}
	return nil
}
