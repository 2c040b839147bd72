package rule

import "testing"

func benchPolicy(tb testing.TB) *Policy {
	return mustPolicy(tb, lines("GET,HEAD api.github.com/repos/*; POST api.openai.com/v1/*; read *.example.com/*/items/*; git-fetch github.com/o/*; GET registry.npmjs.org/*"),
		lines("* */admin/*; DELETE */*"))
}

func TestThePlainWayDoesNotAllocate(t *testing.T) {
	p := benchPolicy(t)
	for _, c := range []struct{ host, path string }{{"api.github.com", "/repos/o/r/issues"}, {"x.example.com", "/a/items/b"}, {"registry.npmjs.org", "/react/-/react-19.0.0.tgz"}} {
		if n := testing.AllocsPerRun(100, func() {
			r, err := NewRequest("GET", true, c.host, c.path, 443)
			if err != nil || !p.Decide(r, Destination{}).Allowed {
				t.Fatal(err)
			}
		}); n != 0 {
			t.Errorf("%s%s: %v allocations", c.host, c.path, n)
		}
	}
}

func BenchmarkDecide(b *testing.B) {
	p := benchPolicy(b)
	for name, c := range map[string][2]string{"plain": {"api.github.com", "/repos/o/r/issues"}, "denied": {"api.github.com", "/users/o"}, "slash": {"registry.npmjs.org", "/@scope%2fname"}} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				r, err := NewRequest("GET", true, c[0], c[1], 443)
				if err != nil {
					b.Fatal(err)
				}
				p.Decide(r, Destination{})
			}
		})
	}
}
