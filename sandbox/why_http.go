package sandbox

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"

	"github.com/sandlock/sandlock/netfilter/endpoint"
	httprule "github.com/sandlock/sandlock/proxy/rule"
)

// whyRequest judges "METHOD URL" as a run of the policy would: first the endpoint,
// then the request.
func (c *Compiled) whyRequest(text string, hosts map[endpoint.Name][]netip.Addr) ([]Answer, error) {
	req, err := parseRequest(text)
	if err != nil {
		return nil, fmt.Errorf("request %q: %w", text, err)
	}
	place := req.Host.String()
	if req.Host.Name.IsZero() || place != "localhost" {
		place = fmt.Sprintf("%s:%d", place, req.Port)
	}
	answers, err := c.why(place, hosts)
	if err != nil {
		return nil, err
	}
	for i := range answers {
		a := &answers[i]
		if !a.Verdict.Allowed {
			if a.Verdict.Reason.Unruled() {
				v := httprule.Verdict{Reason: httprule.NoRule, AllowWith: "--http-allow " + req.Method + " " + strings.TrimPrefix(req.Host.String()+req.Path.String(), "https://")}
				if req.Port == httpPort || req.Port == httpsPort {
					a.Verdict.AllowWith = v.AllowWith
				}
			}
			continue
		}
		to := httprule.Destination{Addr: a.addr}
		if c.HTTP == nil || !c.opens(req.Host.Name, to, req.Port) {
			a.Endpoint = req.String()
			a.Notes = append(a.Notes, "No HTTP rule speaks of the connection: every request on it passes.")
			continue
		}
		v := c.HTTP.Decide(req, to)
		a.Endpoint, a.Request, a.Notes = req.String(), &v, []string{"The connection is opened and each request is judged."}
		if c.Policy.TLS == TLSPassthrough && req.TLS {
			a.Notes = []string{"--tls passthrough: TLS is not opened."}
		}
	}
	return answers, nil
}

// opens tells whether connections to a name at an address are looked into.
func (c *Compiled) opens(n endpoint.Name, to httprule.Destination, port uint16) bool {
	if c.Policy.TLS == TLSIntercept && !n.IsZero() && (port == httpPort || port == httpsPort) || c.HTTP.Terminates(n, to, port) {
		return true
	}
	auth, err := httprule.NewPolicy(c.auth)
	return err == nil && auth.Terminates(n, to, port)
}

// parseRequest reads METHOD URL.
func parseRequest(text string) (httprule.Request, error) {
	var none httprule.Request
	method, url, _ := strings.Cut(text, " ")
	url = strings.TrimSpace(url)
	rest, tls := strings.CutPrefix(url, "https://")
	port := uint16(httpsPort)
	if !tls {
		var ok bool
		if rest, ok = strings.CutPrefix(url, "http://"); !ok {
			return none, errors.New("write METHOD and a URL, as in GET https://api.example.com/v1/models")
		}
		port = httpPort
	}
	authority, target := rest, "/"
	if i := strings.IndexAny(rest, "/?#"); i >= 0 {
		authority, target = rest[:i], rest[i:]
	}
	if target[0] == '?' {
		target = "/" + target
	}
	_, said, err := httprule.ParseAuthority(authority)
	if err != nil {
		return none, err
	}
	if said != 0 {
		port = said
	}
	return httprule.NewRequest(method, tls, authority, target, port)
}
