package sandbox

import (
	"errors"
	"fmt"
	"path/filepath"
	"slices"

	"github.com/sandlock/sandlock/netfilter/endpoint"
	httprule "github.com/sandlock/sandlock/proxy/rule"
)

// TLSMode says which TLS connections are opened.
type TLSMode string

// The modes.
const (
	TLSAuto        TLSMode = "auto"        // those that an HTTP rule has to see inside; "" means the same
	TLSIntercept   TLSMode = "intercept"   // all connections to names on ports 80 and 443
	TLSPassthrough TLSMode = "passthrough" // none; a rule that would need it is an error
)

// compileHTTP reads the HTTP rules. It returns the endpoint rules that they stand for.
func (c *Compiled) compileHTTP(p *Policy) ([]endpoint.Rule, error) {
	var errs []error
	var rules []httprule.Rule
	for _, list := range []struct {
		action endpoint.Action
		texts  []RuleText
	}{{endpoint.Allow, p.HTTPAllow}, {endpoint.Deny, p.HTTPDeny}} {
		for _, t := range list.texts {
			r, err := httprule.Parse(list.action, t.Text, t.Source)
			if err != nil {
				errs = append(errs, err)
				continue
			}
			if p.TLS == TLSPassthrough && r.Encrypted() {
				errs = append(errs, fmt.Errorf("%s %q has to see inside TLS, and --tls passthrough forbids it; write http:// before the host for plain requests only, or leave out --tls", t.Source, t.Text))
			}
			if err := c.checkSeen(&r, t.Source, t.Text); err != nil {
				errs = append(errs, err)
			}
			rules = append(rules, r)
		}
	}
	modes := []TLSMode{"", TLSAuto, TLSIntercept, TLSPassthrough}
	if !slices.Contains(modes, p.TLS) {
		errs = append(errs, fmt.Errorf("--tls: %q is none of auto, intercept and passthrough", p.TLS))
	}
	if err := c.compileCredentials(p); err != nil {
		errs = append(errs, err)
	}
	if len(errs) > 0 {
		return nil, errors.Join(errs...)
	}
	policy, err := httprule.NewPolicy(rules)
	if err != nil {
		return nil, err
	}
	if !policy.IsEmpty() || p.TLS == TLSIntercept || len(c.auth) > 0 {
		c.HTTP = policy
	}
	return policy.Implied(), c.checkAuthority(p)
}

// checkAuthority refuses settings of an authority that would have no effect.
func (c *Compiled) checkAuthority(p *Policy) error {
	var errs []error
	if (p.CAFile == "") != (p.CAKeyFile == "") {
		errs = append(errs, errors.New("--ca and --ca-key go together: the certificate of an authority, and its key"))
	}
	for flag, set := range map[string]bool{"--ca": p.CAFile != "", "--ca-out": p.CAOut != "", "--inject-ca": len(p.InjectCA) > 0} {
		if set && c.HTTP == nil {
			errs = append(errs, fmt.Errorf("%s has no use: no TLS is opened; add an HTTP rule, or --tls intercept", flag))
		}
	}
	for _, path := range p.InjectCA {
		if !filepath.IsAbs(path) {
			errs = append(errs, fmt.Errorf("--inject-ca: %q is relative; write the whole path, from / on", path))
		}
	}
	return errors.Join(errs...)
}
