package rule

import (
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/sandlock/sandlock/netfilter/endpoint"
)

// A small world, in which random rules and requests meet often.
var (
	worldMethods = []string{"GET", "POST", "DELETE"}
	ruleMethods  = []string{"GET", "GET,POST", "read", "*", "DELETE", "*", "*"}
	worldHosts   = []string{"a.test", "b.a.test", "z.org", "localhost", "10.0.0.5", "[::1]"}
	ruleHosts    = []string{"a.test", "*.a.test", "*.test", "localhost", "*", "*", "10.0.0.5", "https://a.test", "http://*", "*:8443", "a.test:80,8443"}
	worldParts   = []string{"a", "b", "A", "..", "", ".", "%61", "a%2Fb", "a;b", "b.", "%2e", "é", "*", "a%252fb"}
	ruleParts    = []string{"a", "b", "*", "a%2Fb", "*", "b", "é"}
	worldPorts   = []uint16{80, 443, 8443}
)

func pick[T any](r *rand.Rand, of []T) T { return of[r.IntN(len(of))] }

func join(r *rand.Rand, parts []string) string {
	out := ""
	for range r.IntN(4) {
		out += "/" + pick(r, parts)
	}
	return out
}

func randomRule(r *rand.Rand, a endpoint.Action) Rule {
	for {
		text := pick(r, ruleMethods) + " " + pick(r, ruleHosts) + join(r, ruleParts)
		if rule, err := Parse(a, text, "--http-"+a.String()); err == nil {
			return rule
		}
	}
}

func randomRules(r *rand.Rand) (rules []Rule) {
	for range r.IntN(5) {
		rules = append(rules, randomRule(r, endpoint.Allow))
	}
	for range r.IntN(4) {
		rules = append(rules, randomRule(r, endpoint.Deny))
	}
	return rules
}

// unchecked makes a policy also of rules that can never match.
func unchecked(rules []Rule) *Policy {
	p := &Policy{}
	for _, r := range rules {
		if r.Action == endpoint.Deny {
			p.deny = append(p.deny, r)
		} else {
			p.allow = append(p.allow, r)
		}
	}
	return p
}

type question struct {
	request Request
	to      Destination
}

func randomQuestion(r *rand.Rand, t testing.TB) question {
	for {
		port := pick(r, worldPorts)
		req, err := NewRequest(pick(r, worldMethods), port != 80, pick(r, worldHosts), join(r, worldParts)+"/"+pick(r, worldParts), port)
		if err != nil {
			continue
		}
		q := question{request: req}
		if r.IntN(2) == 0 {
			q.to.Addr = netip.MustParseAddr(pick(r, []string{"10.0.0.5", "203.0.113.5", "::1"}))
		}
		if r.IntN(2) == 0 {
			q.to.Bound = []endpoint.Name{mustName(t, pick(r, []string{"a.test", "b.a.test", "z.org"}))}
		}
		return q
	}
}

func (q question) ask(rules []Rule) Verdict { return unchecked(rules).Decide(q.request, q.to) }

const rounds = 20000

func TestOrderNeverMatters(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for range rounds {
		rules, q := randomRules(r), randomQuestion(r, t)
		before := q.ask(rules)
		r.Shuffle(len(rules), func(i, j int) { rules[i], rules[j] = rules[j], rules[i] })
		after := q.ask(rules)
		// Which of several rules is named may differ, nothing else.
		before.Rule, after.Rule = nil, nil
		if before != after {
			t.Fatalf("%v: %v: %+v, then %+v", rules, q, before, after)
		}
	}
}

func TestADenyNeverAllowsMore(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 4))
	lost, allowed := 0, 0
	for range rounds {
		rules, q := randomRules(r), randomQuestion(r, t)
		before := q.ask(rules)
		after := q.ask(append(slices.Clone(rules), randomRule(r, endpoint.Deny)))
		if after.Allowed && (!before.Allowed || before.Reason != after.Reason) {
			t.Fatalf("%v: %v: %+v, then %+v", rules, q, before, after)
		}
		if before.Allowed {
			allowed++
			if !after.Allowed {
				lost++
			}
		}
	}
	if lost < rounds/100 || allowed < rounds/20 {
		t.Errorf("only %d denies of %d had an effect", lost, allowed)
	}
}

// An allow rule takes nothing from what allow rules cover, and from the rest only
// where it speaks of the host.
func TestAnAllowForbidsNothingThatRulesAllow(t *testing.T) {
	r := rand.New(rand.NewPCG(5, 6))
	for range rounds {
		rules, q := randomRules(r), randomQuestion(r, t)
		allow := randomRule(r, endpoint.Allow)
		before, after := q.ask(rules), q.ask(append(slices.Clone(rules), allow))
		if before.Reason == AllowRule && after.Reason != AllowRule || before.Allowed && !after.Allowed && !allow.meets(q.request.Host, q.to) {
			t.Fatalf("%v and %v: %v: %+v, then %+v", rules, allow, q, before, after)
		}
	}
}

// The flag that a refusal names is one that Parse takes and that allows.
func TestAllowWithAllows(t *testing.T) {
	r := rand.New(rand.NewPCG(7, 8))
	tried := 0
	for range rounds {
		rules, q := randomRules(r), randomQuestion(r, t)
		v := q.ask(rules)
		if (v.AllowWith == "") != (v.Allowed || v.Reason == DenyRule) {
			t.Fatalf("%v: %v: %+v", rules, q, v)
		}
		if v.AllowWith == "" {
			continue
		}
		tried++
		text, ok := strings.CutPrefix(v.AllowWith, "--http-allow ")
		rule, err := Parse(endpoint.Allow, text, "--http-allow")
		if !ok || err != nil {
			t.Fatalf("%q: %v", v.AllowWith, err)
		}
		if now := q.ask(append(slices.Clone(rules), rule)); !now.Allowed {
			t.Fatalf("%v with %q: %v: %+v", rules, v.AllowWith, q, now)
		}
	}
	if tried < rounds/100 {
		t.Errorf("only %d flags", tried)
	}
}

// Whoever reads the forwarded request with our own eyes reads the same.
func TestTheForwardedPathIsTheJudgedOne(t *testing.T) {
	r := rand.New(rand.NewPCG(9, 10))
	for range rounds {
		q := randomQuestion(r, t)
		again, err := NewRequest(q.request.Method, q.request.TLS, q.request.Authority(), q.request.Target(), q.request.Port)
		if err != nil || again.String() != q.request.String() || again.Target() != q.request.Target() || !slices.Equal(again.Path.all(), q.request.Path.all()) {
			t.Fatalf("%v became %v: %v", q.request, again, err)
		}
	}
}

func FuzzParsePath(f *testing.F) {
	for _, s := range spellings {
		f.Add(s)
	}
	p := mustPolicy(f, lines("* a.test"), lines("* */admin/*"))
	f.Fuzz(func(t *testing.T, s string) {
		path, err := ParsePath(s)
		if err != nil {
			return
		}
		text := path.String()
		again, err := ParsePath(text)
		if err != nil || again.String() != text || !slices.Equal(again.all(), path.all()) {
			t.Fatalf("%q became %q, then %q: %v", s, text, again, err)
		}
		for i := range len(text) {
			if text[i] <= ' ' || text[i] >= 0x7f || strings.IndexByte("\\#?\"<>", text[i]) >= 0 {
				t.Fatalf("%q became %q", s, text)
			}
		}
		for _, part := range strings.Split(text, "/") {
			if part == "." || part == ".." {
				t.Fatalf("%q became %q", s, text)
			}
		}
		// Whoever decodes the forwarded text in whole once, and cleans it as a server
		// does, finds nothing that the rule denies.
		decoded, _, _ := decodeOnce(text, '/')
		r := Request{Method: "GET", Host: Host{Name: mustName(t, "a.test")}, Port: 80, Path: path}
		if v := p.Decide(r, Destination{}); v.Allowed && strings.HasPrefix(strings.ToLower(collapse(decoded)), "/admin/") {
			t.Fatalf("%q is forwarded as %q", s, text)
		}
	})
}

func FuzzParseAuthority(f *testing.F) {
	for _, s := range []string{"a.test", "a.test:80", "[::1]:8080", "127.0.0.1", "xn--bcher-kva.test", "a.test.", "0x7f.1"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		h, port, err := ParseAuthority(s)
		if err != nil {
			return
		}
		again, _, err := ParseAuthority(h.String())
		if err != nil || again != h || h.Name.IsZero() == !h.Addr.IsValid() {
			t.Fatalf("%q became %v, then %v: %v", s, h, again, err)
		}
		if strings.ContainsAny(h.String(), "\x00\\@/#?% ") || port != 0 && !strings.Contains(s, ":") {
			t.Fatalf("%q became %v, port %d", s, h, port)
		}
	})
}

func FuzzParse(f *testing.F) {
	for _, s := range []string{"GET a.test/x", "read *.a.test:80-90/*", "git-fetch g.test/o/r", "* [::1]:1/%2A/*", "GET,POST https://a.test"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		for _, a := range []endpoint.Action{endpoint.Allow, endpoint.Deny} {
			r, err := Parse(a, s, "--flag")
			if err != nil {
				if !strings.HasPrefix(err.Error(), "--flag ") {
					t.Fatal(err)
				}
				continue
			}
			if _, err := NewPolicy([]Rule{r}); err != nil {
				t.Fatal(err)
			}
			if a == endpoint.Allow {
				if _, err := endpoint.NewPolicy([]endpoint.Rule{r.target}, endpoint.Options{}); err != nil {
					t.Fatal(err)
				}
			}
		}
	})
}
