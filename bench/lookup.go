package main

import (
	"github.com/sandlock/sandlock/bench/measure"
	"github.com/sandlock/sandlock/internal/lab"
)

// lookups compares resolving a name with the C library. Bare it asks the lab's
// server; in a sandbox it asks the embedded resolver, which asks that server as
// often as the time to live of the answer demands.
func lookups(b *bench) error {
	const n, fresh, kept = 5, "fresh.test", "kept.test"
	lab.SetRecords(fresh, fresh+". 0 IN A "+serverAddr.String())
	lab.SetRecords(kept, kept+". 600 IN A "+serverAddr.String(), kept+". 600 IN AAAA "+lab.Allowed6.String())
	bare, boxed, err := b.pair([]string{"--allow", fresh, "--allow", kept}, b.worker())
	if err != nil {
		return err
	}
	defer bare.close()
	defer boxed.close()
	for _, c := range []struct {
		name, title string
		limit       float64
	}{{kept, "lookup: getaddrinfo", 1.5}, {fresh, "lookup: getaddrinfo, TTL 0", 0}} {
		s, err := measure.Interleave(b.rounds(200), bare.subject(n, "lookup", c.name), boxed.subject(n, "lookup", c.name))
		if err != nil {
			return err
		}
		r := row{name: c.title, bare: span(each(s[0].Median(measure.Wall), n)), boxed: span(each(s[1].Median(measure.Wall), n))}
		if ratio := s[1].Ratio(s[0], measure.Wall); c.limit > 0 {
			r = r.atMost(ratio, c.limit)
		} else {
			r.ratio = times(ratio)
		}
		b.table.add(r)
	}
	return nil
}
