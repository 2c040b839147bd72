package main

import (
	"fmt"

	"github.com/sandlock/sandlock/internal/wire"
	"github.com/sandlock/sandlock/proxy"
	"github.com/sandlock/sandlock/proxy/auth"
)

// credentialsOf joins the rules with their secrets, which it clears in the setup.
func credentialsOf(s *wire.Setup) ([]proxy.Credential, error) {
	secrets := map[string]string{}
	for _, c := range s.Credentials {
		secrets[c.Name] = string(c.Secret)
		clear(c.Secret)
	}
	var out []proxy.Credential
	for _, r := range s.Auth {
		parsed, err := auth.Parse(r.Text, r.Source)
		if err != nil {
			return nil, err
		}
		secret, ok := secrets[parsed.Credential]
		if !ok {
			return nil, fmt.Errorf("%s: there is no credential %q", r.Source, parsed.Credential)
		}
		out = append(out, proxy.Credential{Rule: parsed, Secret: secret})
	}
	return out, nil
}
