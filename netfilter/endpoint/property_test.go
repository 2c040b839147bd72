package endpoint

import (
	"math/rand/v2"
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"testing"
)

// A small world, in which random rules and questions meet often.
var (
	worldNames   = []string{"a.test", "b.a.test", "c.b.a.test", "test", "localhost", "z.org"}
	worldTargets = []string{"a.test", "*.a.test", "*.test", "b.a.test", "localhost", "*", "10.0.0.5", "10.0.0.0/8", "127.0.0.1", "::1", "[::1]", "[::/0]", "0.0.0.0/0", "203.0.113.5", "[2001:db8::]", "64:ff9b::a00:5", "*.localhost"}
	worldAddrs   = []string{"10.0.0.5", "10.9.9.9", "127.0.0.1", "::1", "0.0.0.0", "::", "203.0.113.5", "2001:db8::", "::ffff:10.0.0.5", "64:ff9b::a00:5", "2002:a00:5::1", "169.254.169.254"}
	worldPorts   = []string{"", ":80", ":443", ":22,80", ":1-100", ":*"}
	worldSchemes = []string{"", "", "tcp://", "udp://", "icmp://", "raw://"}
)

func pick[T any](r *rand.Rand, of []T) T { return of[r.IntN(len(of))] }

func randomRule(r *rand.Rand, a Action) Rule {
	for {
		text := pick(r, worldSchemes) + pick(r, worldTargets) + pick(r, worldPorts)
		if rule, err := ParseRule(a, text, "--"+a.String()); err == nil {
			return rule
		}
	}
}

func randomRules(r *rand.Rand) (rules []Rule) {
	for range r.IntN(5) {
		rules = append(rules, randomRule(r, Allow))
	}
	for range r.IntN(4) {
		rules = append(rules, randomRule(r, Deny))
	}
	return rules
}

// unchecked makes a policy also of rules that can never match, so that more denies
// can be added than NewPolicy takes.
func unchecked(rules []Rule, o Options) *Policy {
	p, _ := NewPolicy(nil, o)
	for _, r := range rules {
		if r.Action == Deny {
			p.deny = append(p.deny, r)
		} else {
			p.allow = append(p.allow, r)
		}
	}
	return p
}

// question is one of each kind of question to a policy.
type question struct {
	proto Protocol
	to    netip.AddrPort
	bound []Name
	name  Name
	hosts bool
}

func randomQuestion(r *rand.Rand, t testing.TB) question {
	q := question{
		proto: pick(r, protocols[:]), hosts: r.IntN(4) == 0, name: mustName(t, pick(r, worldNames)),
		to: netip.AddrPortFrom(netip.MustParseAddr(pick(r, worldAddrs)), pick(r, []uint16{0, 22, 80, 443, 8080})),
	}
	for range r.IntN(3) {
		q.bound = append(q.bound, mustName(t, pick(r, worldNames)))
	}
	return q
}

func (q question) ask(p *Policy) [3]Verdict {
	return [...]Verdict{p.Connect(q.proto, q.to, q.bound), p.Name(q.name), p.Answer(q.name, q.to.Addr(), q.hosts)}
}

const rounds = 10000

func TestOrderNeverMatters(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 4))
	for range rounds {
		rules, q := randomRules(r), randomQuestion(r, t)
		before := q.ask(unchecked(rules, Options{}))
		shuffled := slices.Clone(rules)
		r.Shuffle(len(shuffled), func(i, j int) { shuffled[i], shuffled[j] = shuffled[j], shuffled[i] })
		after := q.ask(unchecked(shuffled, Options{}))
		for i := range before {
			// Which of several rules is named may differ, nothing else.
			before[i].Rule, after[i].Rule = nil, nil
			if !reflect.DeepEqual(before[i], after[i]) {
				t.Fatalf("%v\n%v\n%+v: %+v, then %+v", rules, shuffled, q, before[i], after[i])
			}
		}
	}
}

func TestADenyNeverAllowsMore(t *testing.T) {
	r := rand.New(rand.NewPCG(5, 6))
	lost := 0
	for range rounds {
		rules, q := randomRules(r), randomQuestion(r, t)
		deny := randomRule(r, Deny)
		before := q.ask(unchecked(rules, Options{}))
		after := q.ask(unchecked(append(slices.Clone(rules), deny), Options{}))
		for i := range before {
			more := after[i].Allowed && (!before[i].Allowed || before[i].Inspect && !after[i].Inspect || len(after[i].Names) > len(before[i].Names))
			if more {
				t.Fatalf("%v and deny %v\n%+v: %+v, then %+v", rules, deny, q, before[i], after[i])
			}
			if before[i].Allowed && !after[i].Allowed {
				lost++
			}
		}
	}
	if lost < rounds/100 {
		t.Errorf("only %d denies had an effect", lost)
	}
}

func TestAnAllowNeverForbids(t *testing.T) {
	r := rand.New(rand.NewPCG(7, 8))
	for range rounds {
		rules, q := randomRules(r), randomQuestion(r, t)
		allow := randomRule(r, Allow)
		before := q.ask(unchecked(rules, Options{}))
		after := q.ask(unchecked(append(slices.Clone(rules), allow), Options{}))
		// Not for answers: a rule for more ports of a name needs more rules for a private address.
		for i := range before[:2] {
			if before[i].Allowed && !after[i].Allowed {
				t.Fatalf("%v and allow %v\n%+v: %+v, then %+v", rules, allow, q, before[i], after[i])
			}
		}
	}
}

// The flag that a denial names is one that the parser takes and that allows.
func TestAllowWithAllows(t *testing.T) {
	r := rand.New(rand.NewPCG(9, 10))
	tried := [3]int{}
	for range rounds {
		rules, q := randomRules(r), randomQuestion(r, t)
		p, err := NewPolicy(rules, Options{})
		if err != nil {
			continue
		}
		for i, v := range q.ask(p) {
			if v.Allowed && v.AllowWith != "" || v.Reason == DenyRule && v.AllowWith != "" {
				t.Fatalf("%v\n%+v: %+v", rules, q, v)
			}
			if v.AllowWith == "" {
				if !v.Allowed && v.Reason != DenyRule && !(i == 0 && q.to.Port() == 0) {
					t.Fatalf("%v\n%+v: no flag: %+v", rules, q, v)
				}
				continue
			}
			tried[i]++
			more, o := rules, Options{AllowPrivate: v.AllowWith == "--allow-private"}
			if !o.AllowPrivate {
				text, ok := strings.CutPrefix(v.AllowWith, "--allow ")
				rule, err := ParseRule(Allow, text, "--allow")
				if !ok || err != nil {
					t.Fatalf("%q: %v", v.AllowWith, err)
				}
				more = append(slices.Clone(rules), rule)
			}
			wider, err := NewPolicy(more, o)
			if err != nil {
				t.Fatalf("%v with %q: %v", rules, v.AllowWith, err)
			}
			if now := q.ask(wider)[i]; !now.Allowed {
				t.Fatalf("%v with %q\n%+v: %+v", rules, v.AllowWith, q, now)
			}
		}
	}
	for i, n := range tried {
		if n < rounds/100 {
			t.Errorf("question %d: only %d flags", i, n)
		}
	}
}

// A set of IPv4 rules says the same about an address and about its mapped form.
func TestMappedIsTheSame(t *testing.T) {
	r := rand.New(rand.NewPCG(11, 12))
	for range rounds {
		p, q := unchecked(randomRules(r), Options{}), randomQuestion(r, t)
		if !q.to.Addr().Is4() {
			continue
		}
		mapped := q
		mapped.to = netip.AddrPortFrom(netip.AddrFrom16(q.to.Addr().As16()), q.to.Port())
		if a, b := q.ask(p), mapped.ask(p); !reflect.DeepEqual(a, b) {
			t.Fatalf("%+v: %+v, mapped %+v", q, a, b)
		}
	}
}
