package sandbox

import (
	"maps"
	"slices"
)

// httpTable is the table [http] of a policy file.
type httpTable struct {
	Allow    []string `toml:"allow"`
	Deny     []string `toml:"deny"`
	TLS      string   `toml:"tls"`
	InjectCA []string `toml:"inject_ca"`
	CA       string   `toml:"ca"`
	CAKey    string   `toml:"ca_key"`
	CAOut    string   `toml:"ca_out"`
	// NAME to env:VAR, file:PATH or fd:N.
	Credential map[string]string `toml:"credential"`
	Auth       []string          `toml:"auth"`
}

// apply puts the table into a policy. rules adds the lines to the texts of a key.
func (h *httpTable) apply(p *Policy, rules func(key string, texts []string) []RuleText) {
	p.HTTPAllow, p.HTTPDeny = rules("http.allow", h.Allow), rules("http.deny", h.Deny)
	p.TLS, p.InjectCA = TLSMode(h.TLS), h.InjectCA
	p.HTTPAuth = rules("http.auth", h.Auth)
	for _, name := range slices.Sorted(maps.Keys(h.Credential)) {
		at := rules("http.credential."+name, []string{name + "=" + h.Credential[name]})
		p.Credentials = append(p.Credentials, at...)
	}
	p.CAFile, p.CAKeyFile, p.CAOut = h.CA, h.CAKey, h.CAOut
}
