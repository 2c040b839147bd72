package wire

import (
	"fmt"
	"io"
)

// MaxSetup bounds a Setup, in bytes: a policy file of 1 MiB, and room.
const MaxSetup = 8 << 20

const (
	maxRules    = 1 << 17
	maxRuleText = 64 << 10
)

// Setup is what an interceptor has to know. It may hold a key: it travels in a
// file in memory, never in a message, an argument or the environment.
type Setup struct {
	Rules     []Rule
	Audit     bool
	Authority Authority // the user's own CA; zero: make one
}

// Rule is a rule as it was written, and where.
type Rule struct {
	Deny         bool
	Text, Source string
}

// Encode returns the form that DecodeSetup reads. It may hold a key.
func (s *Setup) Encode() []byte {
	var e encoder
	e.u32(uint32(len(s.Rules)))
	for _, r := range s.Rules {
		e.flag(r.Deny)
		e.text(r.Text)
		e.text(r.Source)
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
	for range d.count(maxRules) {
		s.Rules = append(s.Rules, Rule{Deny: d.flag(), Text: d.text(maxRuleText), Source: d.text(maxRuleText)})
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
