package proxy

import (
	"encoding/base64"
	"fmt"
	"net/http"
	"net/url"
	"strings"

	"github.com/elazarl/goproxy"
	"github.com/sandlock/sandlock/proxy/auth"
	"golang.org/x/net/http/httpguts"
)

// Credential is a rule with its secret.
type Credential struct {
	Rule   auth.Rule
	Secret string
}

// attach adds the credential of the first rule that covers an allowed request, which
// leaves over TLS and after the server's certificate was verified.
func attach(r *http.Request, _ *goproxy.ProxyCtx) (*http.Request, *http.Response) {
	x := exchangeOf(r)
	if !x.req.TLS || x.outcome != Allowed || r.Method == http.MethodTrace { // TRACE is answered with what was sent
		return r, nil
	}
	for i := range x.p.config.Credentials {
		c := &x.p.config.Credentials[i]
		if !c.Rule.Match.Covers(x.req) {
			continue
		}
		added, err := c.add(r)
		switch {
		case err != nil:
			x.outcome, x.reason = Refused, err.Error()
			return r, x.refusal(http.StatusBadGateway, x.reason)
		case x.reason != "":
		case added:
			x.reason = "credential " + c.Rule.Credential + " attached"
		default:
			x.reason = "credential " + c.Rule.Credential + " not attached: the client sent its own"
		}
		break
	}
	return r, nil
}

// add puts the secret into a request, and tells whether it did.
func (c *Credential) add(r *http.Request) (bool, error) {
	field, value := "Authorization", c.Secret
	switch c.Rule.Kind {
	case auth.Query:
		return c.addQuery(r.URL), nil
	case auth.Bearer:
		value = "Bearer " + value
	case auth.Basic:
		value = "Basic " + base64.StdEncoding.EncodeToString([]byte(c.Rule.Param+":"+value))
	case auth.Header:
		field = http.CanonicalHeaderKey(c.Rule.Param)
	}
	if !httpguts.ValidHeaderFieldValue(value) {
		return false, fmt.Errorf("credential %s cannot be written into a header: it has control characters", c.Rule.Credential)
	}
	if _, sent := r.Header[field]; sent && c.Rule.AddOnly {
		return false, nil
	}
	r.Header[field] = []string{value}
	return true, nil
}

// addQuery replaces every parameter of the name, in whatever spelling.
func (c *Credential) addQuery(u *url.URL) bool {
	var keep []string
	for pair := range strings.SplitSeq(u.RawQuery, "&") {
		name, _, _ := strings.Cut(pair, "=")
		decoded, err := url.QueryUnescape(name)
		if err == nil && decoded == c.Rule.Param {
			if c.Rule.AddOnly {
				return false
			}
			continue
		}
		if pair != "" {
			keep = append(keep, pair)
		}
	}
	u.RawQuery = strings.Join(append(keep, url.QueryEscape(c.Rule.Param)+"="+url.QueryEscape(c.Secret)), "&")
	return true
}
