package sandbox

// httpTable is the table [http] of a policy file.
type httpTable struct {
	Allow    []string `toml:"allow"`
	Deny     []string `toml:"deny"`
	TLS      string   `toml:"tls"`
	InjectCA []string `toml:"inject_ca"`
	CA       string   `toml:"ca"`
	CAKey    string   `toml:"ca_key"`
	CAOut    string   `toml:"ca_out"`
}

// apply puts the table into a policy. rules adds the lines to the texts of a key.
func (h *httpTable) apply(p *Policy, rules func(key string, texts []string) []RuleText) {
	p.HTTPAllow, p.HTTPDeny = rules("http.allow", h.Allow), rules("http.deny", h.Deny)
	p.TLS, p.InjectCA = TLSMode(h.TLS), h.InjectCA
	p.CAFile, p.CAKeyFile, p.CAOut = h.CA, h.CAKey, h.CAOut
}
