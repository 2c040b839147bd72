package rule

import (
	"strconv"
	"strings"
)

// Reason says why a verdict is as it is.
type Reason uint8

// The reasons. The zero Reason is that nothing allows it.
const (
	NoRule        Reason = iota // no rule speaks of the host in the request
	OtherMethod                 // rules allow the path with other methods only
	OtherPath                   // rules allow other paths of the host only
	DenyRule                    // a deny rule covers it
	AllowRule                   // allow rules cover it
	EndpointRules               // no HTTP rule forbids it, and the endpoint rules decide
)

// String returns the reason for people.
func (r Reason) String() string {
	switch r {
	case NoRule:
		return "no HTTP rule allows it"
	case OtherMethod:
		return "no HTTP rule allows this method"
	case OtherPath:
		return "no HTTP rule allows this path"
	case DenyRule:
		return "an HTTP deny rule covers it"
	case AllowRule:
		return "an HTTP rule allows it"
	case EndpointRules:
		return "no HTTP rule forbids it"
	}
	return "unknown"
}

// Verdict is a decision and what stands behind it. The zero Verdict denies.
type Verdict struct {
	Allowed bool
	// Rule is the rule behind the verdict; it belongs to the policy and is not to
	// be changed. nil when no rule is behind it.
	Rule   *Rule
	Reason Reason
	// AllowWith is a flag of `sandlock net` that would allow what was denied, a
	// blank and its value, not quoted for a shell; "" when there is none.
	AllowWith string
}

// nearest says how far from allowing a request the allow rules are.
func (p *Policy) nearest(r *Request) Reason {
	out := NoRule
	reading := r.Path.all()[0]
	for i := range p.allow {
		a := &p.allow[i]
		if !a.target.CoversName(r.Host.Name) && !a.target.CoversAddr(r.Host.Addr) {
			continue
		}
		out = max(out, OtherPath)
		for k := range a.clauses {
			if !a.clauses[k].speaks(r.Method) && a.clauses[k].paths.cover(reading) {
				return OtherMethod
			}
		}
	}
	return out
}

// maxFlag bounds the path in a flag that is suggested, in bytes.
const maxFlag = 200

// allowWith returns the narrowest flag that allows a request which no deny rule
// covers.
func allowWith(r *Request) string {
	host := r.Host.String()
	if r.Port != r.schemePort() {
		host += ":" + strconv.Itoa(int(r.Port))
	}
	path := strings.ReplaceAll(r.Path.text, "*", "%2A")
	if r.Path.text == asterisk {
		path = "/"
	}
	for _, suffix := range []string{"/info/refs", "/git-upload-pack"} {
		if repo, ok := strings.CutSuffix(path, suffix); ok && strings.HasPrefix(repo, "/") && strings.Contains(suffix+r.Query, "git-upload-pack") {
			return "--http-allow git-fetch " + host + repo
		}
	}
	if len(path) > maxFlag {
		path = path[:strings.LastIndexByte(path[:maxFlag], '/')+1] + "*"
	}
	return "--http-allow " + r.Method + " " + host + path
}
