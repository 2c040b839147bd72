// Package auth reads the rules that say which secret goes to which requests. It
// depends on neither net/http nor net/url, as proxy/rule does.
package auth

import (
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/sandlock/sandlock/netfilter/endpoint"
	"github.com/sandlock/sandlock/proxy/rule"
)

// Kind is how a secret is put into a request.
type Kind uint8

// The kinds. The zero Kind is none.
const (
	Bearer Kind = iota + 1 // Authorization: Bearer SECRET (RFC 6750)
	Basic                  // Authorization: Basic, with Param as the user (RFC 7617)
	Header                 // the header field Param
	Query                  // the parameter Param of the query
)

// kinds are the words of the kinds, and whether a parameter follows a colon.
var kinds = map[string]struct {
	kind  Kind
	param string // what it is called, "" for none
}{
	"bearer": {Bearer, ""}, "basic": {Basic, "USER"}, "header": {Header, "NAME"}, "apikey": {Header, "NAME"}, "query": {Query, "PARAM"},
}

// Rule sends a secret along with the requests that Match covers.
type Rule struct {
	Match      rule.Rule
	Kind       Kind
	Param      string
	Credential string
	AddOnly    bool // what the client sent itself stays
}

// reserved are header fields that say where a message ends, or whom it is for.
var reserved = map[string]bool{"host": true, "content-length": true, "transfer-encoding": true, "connection": true, "upgrade": true,
	"te": true, "trailer": true, "keep-alive": true, "proxy-connection": true, "proxy-authorization": true, "expect": true}

// Parse reads METHOD[,METHOD] HOST[:PORTS][/PATH] KIND CREDENTIAL [replace|add-only].
// The first two words are those of rule.Parse, with a host that is not *; KIND is
// bearer, basic:USER, header:NAME, apikey:NAME or query:PARAM. Secrets go over TLS
// only. The error names the text, quoted, and the remedy.
func Parse(text, source string) (Rule, error) {
	r, err := parse(text, source)
	if err != nil {
		return Rule{}, fmt.Errorf("%s %s: %w", source, strconv.Quote(text[:min(len(text), 200)]), err)
	}
	return r, nil
}

func parse(text, source string) (Rule, error) {
	fields := strings.Fields(text)
	if len(fields) < 4 || len(fields) > 5 {
		return Rule{}, errors.New("write METHOD HOST/PATH KIND CREDENTIAL, as in * api.example.com/v1/* bearer KEY")
	}
	host, _, _ := strings.Cut(strings.TrimPrefix(fields[1], "https://"), "/")
	if host, _, _ = strings.Cut(host, ":"); host == "*" {
		return Rule{}, errors.New("a secret is for one host, or for those below one; write it in place of *")
	}
	match, err := rule.Parse(endpoint.Allow, fields[0]+" "+fields[1], source)
	if err != nil {
		return Rule{}, errors.Unwrap(err)
	}
	if !match.Encrypted() {
		return Rule{}, errors.New("a secret goes over TLS only; leave out http://")
	}
	match.Text = text
	r := Rule{Match: match, Credential: fields[3]}
	word, param, _ := strings.Cut(fields[2], ":")
	k, ok := kinds[strings.ToLower(word)]
	switch {
	case !ok:
		return Rule{}, fmt.Errorf("%q is none of bearer, basic:USER, header:NAME and query:PARAM", fields[2])
	case k.param == "" && param != "":
		return Rule{}, fmt.Errorf("nothing follows %q", word)
	case k.param != "" && param == "":
		return Rule{}, fmt.Errorf("%s follows %q, as in %s:x", k.param, word, word)
	case k.kind == Basic && strings.Contains(param, ":"):
		return Rule{}, errors.New("a user has no colon in it")
	case k.kind == Header && !validField(param):
		return Rule{}, fmt.Errorf("%q is not the name of a header field that can hold a secret", param)
	}
	r.Kind, r.Param = k.kind, param
	if len(fields) == 5 {
		switch fields[4] {
		case "replace":
		case "add-only":
			r.AddOnly = true
		default:
			return Rule{}, fmt.Errorf("%q is neither replace nor add-only", fields[4])
		}
	}
	return r, nil
}

func validField(s string) bool {
	for i := range len(s) {
		c := s[i]
		if !(c|0x20 >= 'a' && c|0x20 <= 'z' || c >= '0' && c <= '9' || c == '-' || c == '_') {
			return false
		}
	}
	return s != "" && !reserved[strings.ToLower(s)]
}
