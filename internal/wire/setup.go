package wire

import (
	"fmt"
	"io"
)

// MaxSetup bounds a Setup, in bytes: a policy file of 1 MiB, credentials, and room.
const MaxSetup = 8 << 20

const (
	maxRules       = 1 << 17
	maxRuleText    = 64 << 10
	maxCredentials = 1024
	maxSecret      = 64 << 10
)

// Setup is what an interceptor has to know. It holds secrets: it travels in a
// file in memory, never in a message, an argument or the environment.
type Setup struct {
	Rules       []Rule
	Auth        []Rule // --http-auth
	Credentials []Credential
	Audit       bool
	Authority   Authority // the user's own CA; zero: make one
}

// Rule is a rule as it was written, and where.
type Rule struct {
	Deny         bool
	Text, Source string
}

// Credential is a secret and the name that rules call it by.
type Credential struct {
	Name   string
	Secret []byte
}

// Encode returns the form that DecodeSetup reads. It holds the secrets.
func (s *Setup) Encode() []byte {
	var e encoder
	for _, list := range [][]Rule{s.Rules, s.Auth} {
		e.u32(uint32(len(list)))
		for _, r := range list {
			e.flag(r.Deny)
			e.text(r.Text)
			e.text(r.Source)
		}
	}
	e.u32(uint32(len(s.Credentials)))
	for _, c := range s.Credentials {
		e.text(c.Name)
		e.bytes(c.Secret)
	}
	e.flag(s.Audit)
	s.Authority.encode(&e)
	return e.b
}

// DecodeSetup reads a Setup to the end of r.
func DecodeSetup(r io.Reader) (*Setup, error) {
	b, err := io.ReadAll(io.LimitReader(r, MaxSetup+1))
	if err != nil {
		return nil, fmt.Errorf("wire: setup: %w", err)
	}
	if len(b) > MaxSetup {
		return nil, ErrMalformed
	}
	defer clear(b)
	d := &decoder{b: b}
	s := new(Setup)
	for _, list := range []*[]Rule{&s.Rules, &s.Auth} {
		for range d.count(maxRules) {
			*list = append(*list, Rule{Deny: d.flag(), Text: d.text(maxRuleText), Source: d.text(maxRuleText)})
		}
	}
	for range d.count(maxCredentials) {
		s.Credentials = append(s.Credentials, Credential{Name: d.text(MaxText), Secret: d.bytes(maxSecret)})
	}
	s.Audit = d.flag()
	s.Authority = Authority{Cert: d.bytes(MaxPEM), Key: d.bytes(MaxPEM)}
	return s, d.end()
}

// Encode returns the form that DecodeAuthority reads. It holds the key.
func (a *Authority) Encode() []byte {
	var e encoder
	a.encode(&e)
	return e.b
}

// DecodeAuthority reads an Authority to the end of r.
func DecodeAuthority(r io.Reader) (*Authority, error) {
	b, err := io.ReadAll(io.LimitReader(r, 3*MaxPEM))
	if err != nil {
		return nil, fmt.Errorf("wire: authority: %w", err)
	}
	defer clear(b)
	d := &decoder{b: b}
	a := &Authority{Cert: d.bytes(MaxPEM), Key: d.bytes(MaxPEM)}
	return a, d.end()
}
