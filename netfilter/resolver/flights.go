package resolver

import (
	"context"
	"errors"
	"sync"
	"time"
)

const (
	// flightLimit bounds the work for one question: below the 5 s after which
	// resolvers ask again (resolv.conf(5), RES_TIMEOUT).
	flightLimit  = 4 * time.Second
	maxFlights   = 1024 // questions under way; more are answered with SERVFAIL
	maxExchanges = 128  // questions that hold a socket; the others wait
)

var (
	errBusy   = errors.New("too many questions are under way")
	errBroken = errors.New("the question could not be asked")
)

// flights lets equal questions that come at the same time be asked once.
type flights struct {
	ctx    context.Context // ends with the resolver
	cancel context.CancelFunc

	mu     sync.Mutex
	closed bool
	under  map[question]*flight
	slots  chan struct{}
	wg     sync.WaitGroup
}

type flight struct {
	done   chan struct{}
	answer answer // valid once done is closed
}

// do returns what work says about q. The work runs in a goroutine of its own,
// because it belongs to all who ask: one who leaves does not end it.
func (f *flights) do(ctx context.Context, q question, work func(context.Context) answer) answer {
	fl := f.join(q, work)
	if fl == nil {
		return broken(errBusy)
	}
	select {
	case <-fl.done:
		return fl.answer
	case <-ctx.Done():
		return broken(ctx.Err())
	}
}

func (f *flights) join(q question, work func(context.Context) answer) *flight {
	f.mu.Lock()
	defer f.mu.Unlock()
	if fl, ok := f.under[q]; ok {
		return fl
	}
	if f.closed || len(f.under) >= maxFlights {
		return nil
	}
	if f.under == nil {
		f.under, f.slots = map[question]*flight{}, make(chan struct{}, maxExchanges)
	}
	fl := &flight{done: make(chan struct{})}
	f.under[q] = fl
	f.wg.Go(func() { f.fly(q, fl, work) })
	return fl
}

func (f *flights) fly(q question, fl *flight, work func(context.Context) answer) {
	ctx, cancel := context.WithTimeout(f.ctx, flightLimit)
	defer cancel()
	fl.answer = broken(errBroken)
	defer func() {
		// A panic comes from parsing what a stranger sent: it costs that answer.
		recover()
		f.mu.Lock()
		delete(f.under, q)
		f.mu.Unlock()
		close(fl.done)
	}()
	select {
	case f.slots <- struct{}{}:
		defer func() { <-f.slots }()
		fl.answer = work(ctx)
	case <-ctx.Done():
	}
}

func (f *flights) close() {
	f.mu.Lock()
	f.closed = true
	f.mu.Unlock()
	f.cancel()
	f.wg.Wait()
}
