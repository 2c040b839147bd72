package sandbox

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"

	"github.com/sandlock/sandlock/internal/wire"
	"github.com/sandlock/sandlock/netfilter"
	httprule "github.com/sandlock/sandlock/proxy/rule"
)

// openInterceptor prepares the interceptor of a policy that needs one.
func openInterceptor(p *parts, c *Compiled, _ Options) error {
	if c.HTTP == nil {
		return nil
	}
	auth, err := httprule.NewPolicy(c.auth)
	if err != nil {
		return err
	}
	setup, err := setupOf(c)
	if err != nil {
		return err
	}
	defer clear(setup)
	path, err := interceptorPath()
	if err != nil {
		return err
	}
	x := &intercept{
		rules: c.HTTP, auth: auth, all: c.Policy.TLS == TLSIntercept, host: &companionHost{path: path, command: p.thread}, audit: c.Policy.Audit, emit: p.emit, awaited: c.awaitsAuthority(),
		queue: make(chan netfilter.Intercepted, flowQueue), dials: make(chan struct{}, maxDials),
		flows: map[uint64]flowState{}, stores: map[uint64]chan wire.Stored{}, authority: make(chan struct{}), barren: make(chan struct{}),
	}
	if err := x.setup.fill(setup); err != nil {
		return fmt.Errorf("interceptor: %w", err)
	}
	x.ctx, x.stop = context.WithCancel(context.Background())
	p.http = x
	p.onClose(x.Close)
	return nil
}

// setupOf is what the interceptor has to know, encoded.
func setupOf(c *Compiled) ([]byte, error) {
	s := wire.Setup{Audit: c.Policy.Audit}
	for _, list := range []struct {
		deny  bool
		texts []RuleText
	}{{false, c.Policy.HTTPAllow}, {true, c.Policy.HTTPDeny}} {
		for _, t := range list.texts {
			s.Rules = append(s.Rules, wire.Rule{Deny: list.deny, Text: t.Text, Source: t.Source})
		}
	}
	for _, t := range c.Policy.HTTPAuth {
		s.Auth = append(s.Auth, wire.Rule{Text: t.Text, Source: t.Source})
	}
	var err error
	if s.Credentials, err = c.readCredentials(); err != nil {
		return nil, err
	}
	defer func() {
		for _, secret := range s.Credentials {
			clear(secret.Secret)
		}
	}()
	if c.Policy.CAFile != "" {
		if s.Authority.Cert, err = readPEM("--ca", c.Policy.CAFile); err != nil {
			return nil, err
		}
		if s.Authority.Key, err = readPEM("--ca-key", c.Policy.CAKeyFile); err != nil {
			return nil, err
		}
		defer clear(s.Authority.Key)
	}
	return s.Encode(), nil
}

func readPEM(flag, path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, usage{fmt.Errorf("%s: %w", flag, err)}
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, wire.MaxPEM+1))
	switch {
	case err != nil:
		return nil, usage{fmt.Errorf("%s: %w", flag, err)}
	case len(text) > wire.MaxPEM:
		return nil, usage{fmt.Errorf("%s: %s is longer than %d bytes; name a file with one certificate, or one key, in PEM form", flag, path, wire.MaxPEM)}
	case !bytes.Contains(text, []byte("-----BEGIN ")):
		return nil, usage{fmt.Errorf("%s: %s holds nothing in PEM form (BEGIN CERTIFICATE, BEGIN PRIVATE KEY); convert it with openssl", flag, path)}
	}
	return text, nil
}
