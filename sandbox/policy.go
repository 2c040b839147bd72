package sandbox

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/sandlock/sandlock/netfilter/endpoint"
	"github.com/sandlock/sandlock/netfilter/tunnel"
	httprule "github.com/sandlock/sandlock/proxy/rule"
	"golang.org/x/sys/unix"
)

const (
	maxNameLen = 64 // of the name of a run: it becomes part of file names and messages
	dnsPort    = 53 // RFC 1035 section 4.2
)

// RuleText is a rule as its author wrote it. Source says where: the flag, such
// as "--allow", or a line of a policy file, such as "policy.toml:12".
type RuleText struct{ Text, Source string }

// Policy says what a command may reach and how it runs. The zero Policy denies
// every endpoint. Compile turns it into what a run needs.
type Policy struct {
	Allow, Deny []RuleText // endpoints, [tcp://|raw://|udp://|icmp://]TARGET[:PORTS]
	AllowUnix   []string   // absolute paths of unix sockets of others that may be connected to
	// AllowBind and DenyBind are lists of ports and ranges, or "*".
	AllowBind, DenyBind []RuleText
	// PortRemap lets the command's servers use ports that are in use outside, and
	// other sandboxes of the user find them at Name.sandlock.
	PortRemap    bool
	AllowPrivate bool             // names may lead to special-use addresses
	DNSServers   []netip.AddrPort // upstreams of the resolver; empty: those of resolv.conf
	// UpstreamProxy is the proxy that leads to public addresses,
	// http://[USER:PASSWORD@]HOST:PORT; empty: none.
	UpstreamProxy string

	Files *Files // nil: every file that the user may use

	Limits Limits

	SortedDirs bool // directories are listed in the order of their names; with Files

	DenySyscalls  []string // names as in syscalls(2), or of groups, that fail with EPERM
	AllowSyscalls []string // groups that Files would deny: sysv_ipc

	HTTPAllow, HTTPDeny []RuleText // requests, METHOD[,METHOD] HOST[:PORTS][/PATH]
	TLS                 TLSMode
	InjectCA            []string // absolute paths of more trust bundles that shall hold the authority
	CAFile, CAKeyFile   string   // an authority of the user's own, PEM; empty: one is made for the run
	// Credentials are secrets, NAME=env:VAR, NAME=file:PATH or NAME=fd:N, and HTTPAuth
	// the requests that they go along with, METHOD HOST/PATH KIND NAME [replace|add-only].
	Credentials, HTTPAuth []RuleText
	CAOut                 string // where its certificate is written to; empty: nowhere

	// RandomSeed, if not nil, makes all randomness that the kernel gives follow from
	// it. TimeStart, if not zero, is what the wall clock shows at the start.
	RandomSeed *uint64
	TimeStart  time.Time

	Audit   bool // allow endpoints and report what would be denied
	Quiet   bool // no text of ours on standard error
	LogFile string
	Name    string // of the run; may be empty

	Command  []string
	Env      []string // K=V, added to the environment; the last of a key wins
	CleanEnv bool     // drop what is not in the list of common variables
	Dir      string   // working directory of the command; empty: ours
	PassFDs  []int    // descriptors above 2 that the command keeps
	Timeout  time.Duration
}

// Compiled is a policy that was found right as a whole.
type Compiled struct {
	Policy    Policy
	Endpoints *endpoint.Policy
	HTTP      *httprule.Policy // nil when no connection has to be looked into
	Binds     endpoint.BindPolicy
	Unix      []string // AllowUnix, clean, and what its symbolic links lead to
	Env       []string // the whole environment of the command
	Files     *Files   // of the policy, with absolute paths

	DenySyscalls []int // their numbers

	rules       []endpoint.Rule
	auth        []httprule.Rule // what a request has to be to get a credential
	credentials []credential
	neighbours  neighbours
	proxy       *tunnel.Proxy // nil for none
}

// Compile validates the policy as a whole and joins every error that it finds
// (errors.Join): each is one line that names the input and the remedy. It reads
// the environment, looks at the descriptors of PassFDs and at file names, and
// starts and opens nothing. An empty Command is no error here: Run refuses it.
func (p *Policy) Compile() (*Compiled, error) {
	c := &Compiled{Policy: *p}
	var errs []error
	keep := func(err error) {
		if err != nil {
			errs = append(errs, err)
		}
	}
	keep(c.compileProxy(p))
	keep(c.compileRules(p))
	keep(c.compileFiles(p))
	var errAllow, errDeny error
	c.Binds.Allow, errAllow = portSet(p.AllowBind)
	c.Binds.Deny, errDeny = portSet(p.DenyBind)
	keep(errAllow)
	keep(errDeny)
	if errAllow == nil && errDeny == nil {
		keep(c.uselessBinds(p))
	}
	for _, path := range p.AllowUnix {
		paths, err := unixPaths(path)
		keep(err)
		c.Unix = append(c.Unix, paths...)
	}
	keep(c.compileSyscalls(p))
	for _, check := range []func(*Policy) error{checkEnv, checkSurroundings, checkFDs, checkPortRemap, checkLimits, checkDeterminism} {
		keep(check(p))
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	c.Env = environment(c.hideCredentials(os.Environ()), p.Env, p.CleanEnv)
	return c, nil
}

func (c *Compiled) compileRules(p *Policy) error {
	var errs []error
	for _, list := range []struct {
		action endpoint.Action
		texts  []RuleText
	}{{endpoint.Allow, p.Allow}, {endpoint.Deny, p.Deny}} {
		for _, t := range list.texts {
			r, err := endpoint.ParseRule(list.action, t.Text, t.Source)
			if err != nil {
				errs = append(errs, err)
				continue
			}
			c.rules = append(c.rules, r)
		}
	}
	if len(errs) > 0 {
		return errors.Join(errs...)
	}
	if err := c.compileNeighbours(); err != nil {
		return err
	}
	implied, err := c.compileHTTP(p)
	if err != nil {
		return err
	}
	c.rules = append(c.rules, implied...)
	c.Endpoints, err = endpoint.NewPolicy(c.rules, endpoint.Options{AllowPrivate: p.AllowPrivate, Chained: c.chained()})
	return err
}

// Warnings returns what the user should be told about a policy that is right, a
// line each.
func (c *Compiled) Warnings() []string { return c.Endpoints.Warnings() }

func portSet(texts []RuleText) (endpoint.PortSet, error) {
	var errs []error
	var parts []string
	for _, t := range texts {
		if _, err := endpoint.ParsePorts(t.Text); err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", t.Source, err))
			continue
		}
		if t.Text == "*" {
			parts = []string{"*"}
			break
		}
		parts = append(parts, t.Text)
	}
	if len(errs) > 0 || len(parts) == 0 {
		return endpoint.PortSet{}, errors.Join(errs...)
	}
	return endpoint.ParsePorts(strings.Join(parts, ","))
}

// uselessBinds refuses a bind rule all of whose ports are denied.
func (c *Compiled) uselessBinds(p *Policy) error {
	var errs []error
	for _, t := range p.AllowBind {
		if set, err := endpoint.ParsePorts(t.Text); err == nil && c.Binds.Deny.Covers(set) {
			errs = append(errs, fmt.Errorf("%s: ports %q can never be served, because --deny-bind covers them; remove one of the two", t.Source, t.Text))
		}
	}
	return errors.Join(errs...)
}

// unixPaths returns the clean form of a socket's path and, where symbolic links
// lead elsewhere, that place too.
func unixPaths(path string) ([]string, error) {
	switch {
	case path == "" || strings.ContainsRune(path, 0):
		return nil, fmt.Errorf("--allow-unix: %q is not a path; write one such as /run/example.sock", path)
	case path[0] == '@':
		return nil, fmt.Errorf("--allow-unix: %q is an abstract name, which cannot be opened; use a server with a socket file", path)
	case !filepath.IsAbs(path):
		return nil, fmt.Errorf("--allow-unix: %q is relative; write the whole path, from / on", path)
	}
	clean := filepath.Clean(path)
	out := []string{clean}
	real, err := filepath.EvalSymlinks(clean)
	if err != nil { // nothing is there yet
		dir, err := filepath.EvalSymlinks(filepath.Dir(clean))
		if err != nil {
			return out, nil
		}
		real = filepath.Join(dir, filepath.Base(clean))
	}
	if real != clean {
		out = append(out, real)
	}
	return out, nil
}

func checkEnv(p *Policy) error {
	var errs []error
	for _, kv := range p.Env {
		if i := strings.IndexByte(kv, '='); i < 1 || strings.ContainsRune(kv, 0) {
			errs = append(errs, fmt.Errorf("--env: %q is no variable; write NAME=VALUE", kv))
		}
	}
	return errors.Join(errs...)
}

func checkSurroundings(p *Policy) error {
	var errs []error
	if p.Timeout < 0 {
		errs = append(errs, fmt.Errorf("--timeout: %v lies in the past; write a duration such as 90s or 10m", p.Timeout))
	}
	if p.Dir != "" {
		if st, err := os.Stat(p.Dir); err != nil {
			errs = append(errs, fmt.Errorf("--cwd: %w; name a directory that is there", err))
		} else if !st.IsDir() {
			errs = append(errs, fmt.Errorf("--cwd: %q is not a directory", p.Dir))
		}
	}
	if p.Name != "" && !validName(p.Name) {
		errs = append(errs, fmt.Errorf("--name: %q is not a name; use 1 to %d of a-z A-Z 0-9 . _ -, beginning with a letter or digit", p.Name, maxNameLen))
	}
	return errors.Join(errs...)
}

func validName(s string) bool {
	for i, c := range []byte(s) {
		alnum := c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9'
		if !alnum && (i == 0 || c != '.' && c != '_' && c != '-') {
			return false
		}
	}
	return len(s) <= maxNameLen
}

func checkFDs(p *Policy) error {
	var errs []error
	for _, fd := range p.PassFDs {
		switch _, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0); {
		case fd <= 2:
			errs = append(errs, fmt.Errorf("--pass-fd: %d: 0 to 2 are passed anyway; name descriptors from 3 on", fd))
		case err != nil:
			errs = append(errs, fmt.Errorf("--pass-fd: %d is not open; open it for sandlock, as the shell does with %d<FILE", fd, fd))
		}
	}
	return errors.Join(errs...)
}

// commonVars are the variables that --clean-env keeps, beside LC_*.
var commonVars = [...]string{"PATH", "HOME", "USER", "LOGNAME", "SHELL", "TERM", "LANG", "TZ", "TMPDIR"}

// environment returns base, cleaned if asked for, with the additions over it.
func environment(base, add []string, clean bool) []string {
	var out []string
	at := map[string]int{}
	put := func(kv string) {
		key, _, _ := strings.Cut(kv, "=")
		if i, ok := at[key]; ok {
			out[i] = kv
			return
		}
		at[key] = len(out)
		out = append(out, kv)
	}
	for _, kv := range base {
		if key, _, _ := strings.Cut(kv, "="); !clean || common(key) {
			put(kv)
		}
	}
	for _, kv := range add {
		put(kv)
	}
	return out
}

func common(key string) bool {
	for _, v := range commonVars {
		if v == key {
			return true
		}
	}
	return strings.HasPrefix(key, "LC_")
}

// ParseDNSServer reads ADDR[:PORT], with an IPv6 address in brackets where a
// port follows. Without a port it is 53.
func ParseDNSServer(text string) (netip.AddrPort, error) {
	if a, err := netip.ParseAddr(strings.Trim(text, "[]")); err == nil {
		return netip.AddrPortFrom(a, dnsPort), nil
	}
	ap, err := netip.ParseAddrPort(text)
	if err != nil || ap.Port() == 0 {
		return ap, fmt.Errorf("%q is not the address of a name server; write 192.0.2.53, 192.0.2.53:5353 or [2001:db8::53]:53", text)
	}
	return ap, nil
}
