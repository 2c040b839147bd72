package rule

import (
	"iter"
	"strings"
)

// overriding are header fields by which some servers take another method or another
// path than the request has. The first are used by Google's services, OData and many
// frameworks, the others by IIS and by frameworks that run behind it.
var overriding = [...]struct {
	field  string
	method bool
}{
	{"x-http-method-override", true},
	{"x-http-method", true},
	{"x-method-override", true},
	{"x-original-url", false},
	{"x-rewrite-url", false},
}

// overrides tells whether a header field is one that overrides, and what. Gateways to
// CGI and its heirs make no difference between a hyphen and an underscore.
func overrides(field string) (method, found bool) {
	if field == "" || field[0]|0x20 != 'x' {
		return false, false
	}
	for _, o := range overriding {
		if len(field) == len(o.field) && strings.EqualFold(strings.ReplaceAll(field, "_", "-"), o.field) {
			return o.method, true
		}
	}
	return false, false
}

// Overrides returns the other requests that a server may read from the header of this
// one: the rules have to allow each. There are hardly ever any. The error is an
// *Error with status 400: a value is malformed.
func (r Request) Overrides(header iter.Seq2[string, []string]) (out []Request, err error) {
	for field, values := range header {
		method, found := overrides(field)
		if !found {
			continue
		}
		for _, value := range values {
			other, err := r.overridden(method, strings.TrimSpace(value))
			if err != nil {
				return nil, err
			}
			out = append(out, other)
		}
	}
	return out, nil
}

// overridden returns the request with another method, or another target.
func (r Request) overridden(method bool, value string) (Request, error) {
	if method {
		if r.Method = strings.ToUpper(value); !isToken(r.Method) {
			return Request{}, bad("a header of the request asks for the method %q", shorten(value))
		}
		return r, nil
	}
	target, err := r.originForm(value)
	if err != nil {
		return Request{}, err
	}
	path, query, _ := strings.Cut(target, "?")
	if r.Path, err = ParsePath(path); err != nil {
		return Request{}, err
	}
	r.Query, err = cleanQuery(query)
	return r, err
}
