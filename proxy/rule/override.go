package rule

import "strings"

// Header fields by which some servers take another method or another path than the
// request has. The first are used by Google's services, OData and many frameworks,
// the second by IIS and by frameworks that run behind it.
var (
	methodFields = [...]string{"X-Http-Method-Override", "X-Http-Method", "X-Method-Override"}
	pathFields   = [...]string{"X-Original-Url", "X-Rewrite-Url"}
)

// Overrides returns the other requests that a server may read from the header of this
// one: the rules have to allow each. header returns the values of a field, whose
// name it gets in net/http's canonical form. There are hardly ever any. The error is
// an *Error with status 400: a value is malformed.
func (r Request) Overrides(header func(field string) []string) (out []Request, err error) {
	for _, field := range methodFields {
		for _, value := range header(field) {
			other := r
			if other.Method = strings.ToUpper(strings.TrimSpace(value)); !isToken(other.Method) {
				return nil, bad("%s is %q, which is not a method", field, shorten(value))
			}
			out = append(out, other)
		}
	}
	for _, field := range pathFields {
		for _, value := range header(field) {
			target, err := r.originForm(strings.TrimSpace(value))
			if err != nil {
				return nil, err
			}
			other := r
			path, query, _ := strings.Cut(target, "?")
			if other.Path, err = ParsePath(path); err != nil {
				return nil, err
			}
			if other.Query, err = cleanQuery(query); err != nil {
				return nil, err
			}
			out = append(out, other)
		}
	}
	return out, nil
}
