package main

import (
	"errors"
	"fmt"
	"path/filepath"
	"time"

	"github.com/sandlock/sandlock/sandbox"
	"github.com/spf13/pflag"
	"golang.org/x/sys/unix"
)

// policyFlags are the flags of `net` and `why` that make a policy.
type policyFlags struct {
	set    *pflag.FlagSet
	prefix string // of the flags on endpoints and ports
	file   string
	run    *runFlags // nil but for `run`

	allow, deny, allowUnix, allowBind, denyBind, dns, env []string
	httpAllow, httpDeny, injectCA, credential, httpAuth   []string
	tls, ca, caKey, caOut                                 string
	allowPrivate, audit, quiet, cleanEnv, portRemap       bool
	log, name, cwd, proxy                                 string
	passFD                                                []int
	timeout                                               time.Duration
}

// newPolicyFlags adds the flags to f; prefix stands before those on endpoints and
// ports.
func newPolicyFlags(f *pflag.FlagSet, prefix string) *policyFlags {
	p := &policyFlags{set: f, prefix: prefix}
	f.SortFlags = false
	f.StringArrayVar(&p.allow, prefix+"allow", nil, "allow `ENDPOINT`: NAME, *.NAME, IP, CIDR, localhost or *, with :PORTS; repeatable")
	f.StringArrayVar(&p.deny, prefix+"deny", nil, "deny `ENDPOINT`; a deny always wins; repeatable")
	f.StringArrayVar(&p.httpAllow, "http-allow", nil, "allow requests `RULE`: METHOD[,METHOD] HOST[:PORT]/PATH, read HOST/PATH or git-fetch HOST/PATH; repeatable")
	f.StringArrayVar(&p.httpDeny, "http-deny", nil, "deny requests `RULE`; a deny always wins; repeatable")
	f.StringVar(&p.tls, "tls", "", "open TLS connections: `auto`, intercept or passthrough")
	f.StringArrayVar(&p.credential, "credential", nil, "take a secret from `NAME=env:VAR`, NAME=file:PATH or NAME=fd:N; the command does not see it; repeatable")
	f.StringArrayVar(&p.httpAuth, "http-auth", nil, "attach a secret to requests: `RULE` is METHOD HOST/PATH KIND NAME with bearer, basic:USER, header:NAME or query:PARAM; repeatable")
	f.StringArrayVar(&p.injectCA, "inject-ca", nil, "show the command the trust bundle at `PATH` with the authority of opened connections added; repeatable")
	f.StringVar(&p.ca, "ca", "", "open TLS connections with the authority whose certificate is in `FILE`")
	f.StringVar(&p.caKey, "ca-key", "", "and its key in `FILE`")
	f.StringVar(&p.caOut, "ca-out", "", "write the certificate of the authority to `FILE`")
	f.StringArrayVar(&p.allowUnix, "allow-unix", nil, "allow to connect to the unix socket at `PATH`; repeatable")
	f.StringArrayVar(&p.allowBind, prefix+"allow-bind", nil, "serve others than the sandbox on `PORTS`, such as 8080,9000-9010 or *; repeatable")
	f.StringArrayVar(&p.denyBind, prefix+"deny-bind", nil, "close `PORTS` for servers; repeatable")
	f.BoolVar(&p.portRemap, "port-remap", false, "let servers use ports that are in use outside; with --name, other sandboxes reach them at NAME.sandlock")
	f.BoolVar(&p.allowPrivate, "allow-private", false, "let names lead to private and other special-use addresses")
	f.StringArrayVar(&p.dns, "dns-server", nil, "resolve names with the server at `ADDR[:PORT]`; repeatable")
	f.StringVar(&p.proxy, "upstream-proxy", "", "reach public addresses through the proxy at `URL`: http://[USER:PASSWORD@]HOST:PORT")
	f.BoolVar(&p.audit, "audit", false, "allow endpoints and report what would be denied")
	f.StringVar(&p.log, "log", "", "write events as JSON Lines to `FILE`")
	f.BoolVar(&p.quiet, "quiet", false, "print nothing of our own")
	f.StringVar(&p.file, "policy", "", "read more of the policy from the TOML `FILE`; lists add up, single values given as flags win")
	f.StringVar(&p.name, "name", "", "give the run the `NAME`")
	f.StringArrayVar(&p.env, "env", nil, "set `K=V` for the command; repeatable")
	f.BoolVar(&p.cleanEnv, "clean-env", false, "keep only PATH HOME USER LOGNAME SHELL TERM LANG LC_* TZ TMPDIR and what --env sets")
	f.StringVar(&p.cwd, "cwd", "", "run in `DIR`")
	f.IntSliceVar(&p.passFD, "pass-fd", nil, "leave descriptor `N` open for the command; repeatable")
	f.DurationVar(&p.timeout, "timeout", 0, "end the command after `DURATION`, such as 90s or 10m")
	return p
}

// compile joins the policy file and the flags. The file is read once, here,
// before anything starts.
func (p *policyFlags) compile(command []string) (*sandbox.Compiled, error) {
	var errs []error
	// Whatever we open ourselves is close-on-exec; what we were given is not.
	for _, fd := range p.passFD {
		if flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0); err == nil && flags&unix.FD_CLOEXEC != 0 {
			errs = append(errs, fmt.Errorf("--pass-fd: %d was not given to sandlock; open it in the shell, as with %d<FILE", fd, fd))
		}
	}
	pol := &sandbox.Policy{}
	if p.set.Changed("policy") {
		var err error
		if pol, err = sandbox.ReadPolicy(p.file); err != nil {
			return nil, errors.Join(append(errs, err)...)
		}
	}
	pol.Command = command
	pol.Allow = texts(pol.Allow, p.allow, "--"+p.prefix+"allow")
	pol.Deny = texts(pol.Deny, p.deny, "--"+p.prefix+"deny")
	pol.AllowBind = texts(pol.AllowBind, p.allowBind, "--"+p.prefix+"allow-bind")
	pol.DenyBind = texts(pol.DenyBind, p.denyBind, "--"+p.prefix+"deny-bind")
	pol.HTTPAllow = texts(pol.HTTPAllow, p.httpAllow, "--http-allow")
	pol.Credentials = texts(pol.Credentials, p.credential, "--credential")
	pol.HTTPAuth = texts(pol.HTTPAuth, p.httpAuth, "--http-auth")
	pol.HTTPDeny = texts(pol.HTTPDeny, p.httpDeny, "--http-deny")
	for _, path := range p.allowUnix {
		if path != "" && path[0] != '@' {
			if abs, err := filepath.Abs(path); err == nil {
				path = abs
			}
		}
		pol.AllowUnix = append(pol.AllowUnix, path)
	}
	for _, text := range p.dns {
		ap, err := sandbox.ParseDNSServer(text)
		if err != nil {
			errs = append(errs, fmt.Errorf("--dns-server: %w", err))
		}
		pol.DNSServers = append(pol.DNSServers, ap)
	}
	pol.Env = append(pol.Env, p.env...)
	pol.PassFDs = append(pol.PassFDs, p.passFD...)
	override(p.set, "port-remap", &pol.PortRemap, p.portRemap)
	override(p.set, "allow-private", &pol.AllowPrivate, p.allowPrivate)
	for _, path := range p.injectCA {
		if abs, err := filepath.Abs(path); err == nil && path != "" {
			path = abs
		}
		pol.InjectCA = append(pol.InjectCA, path)
	}
	override(p.set, "ca", &pol.CAFile, p.ca)
	override(p.set, "ca-key", &pol.CAKeyFile, p.caKey)
	override(p.set, "ca-out", &pol.CAOut, p.caOut)
	override(p.set, "tls", &pol.TLS, sandbox.TLSMode(p.tls))
	if p.set.Changed("upstream-proxy") && p.proxy == "" {
		errs = append(errs, errors.New("--upstream-proxy: it is empty; write http://HOST:PORT, or leave the flag out"))
	}
	override(p.set, "upstream-proxy", &pol.UpstreamProxy, p.proxy)
	override(p.set, "audit", &pol.Audit, p.audit)
	override(p.set, "quiet", &pol.Quiet, p.quiet)
	override(p.set, "clean-env", &pol.CleanEnv, p.cleanEnv)
	override(p.set, "log", &pol.LogFile, p.log)
	override(p.set, "name", &pol.Name, p.name)
	override(p.set, "cwd", &pol.Dir, p.cwd)
	override(p.set, "timeout", &pol.Timeout, p.timeout)
	switch {
	case p.run != nil:
		if err := p.run.add(pol); err != nil {
			errs = append(errs, err)
		}
	case pol.Files != nil:
		errs = append(errs, fmt.Errorf("--policy: %s: [filesystem] is for `sandlock run`; remove it, or use that", p.file))
	case pol.RandomSeed != nil || !pol.TimeStart.IsZero():
		errs = append(errs, fmt.Errorf("--policy: %s: [determinism] is for `sandlock run`; remove it, or use that", p.file))
	}
	c, err := pol.Compile()
	if err := errors.Join(append(errs, err)...); err != nil {
		return nil, err
	}
	return c, nil
}

func texts(to []sandbox.RuleText, from []string, source string) []sandbox.RuleText {
	for _, t := range from {
		to = append(to, sandbox.RuleText{Text: t, Source: source})
	}
	return to
}

func override[T any](f *pflag.FlagSet, flag string, to *T, value T) {
	if f.Changed(flag) {
		*to = value
	}
}
