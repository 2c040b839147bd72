package main

import "github.com/sandlock/sandlock/bench/measure"

// trappedCall compares a call that is trapped and continued with the same under
// the least that a supervisor can do.
func trappedCall(b *bench) error {
	const n = 200
	bare, boxed, err := b.pair([]string{"--allow", "127.0.0.1:1"}, b.worker())
	if err != nil {
		return err
	}
	defer bare.close()
	defer boxed.close()
	least, err := b.start(b.worker(), "minimal", b.worker())
	if err != nil {
		return err
	}
	defer least.close()
	s, err := measure.Interleave(b.rounds(400), bare.subject(n, "peername"), least.subject(n, "peername"), boxed.subject(n, "peername"))
	if err != nil {
		return err
	}
	at := func(i int) string { return span(each(s[i].Median(measure.Wall), n)) }
	b.table.add(row{name: "trapped call: least, in C", bare: at(0), boxed: at(1), ratio: times(s[1].Ratio(s[0], measure.Wall))})
	b.table.add(row{name: "trapped call: against the least", bare: at(1), boxed: at(2)}.atMost(s[2].Ratio(s[1], measure.Wall), 1.3))
	return nil
}
