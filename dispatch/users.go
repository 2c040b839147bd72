package dispatch

import "sync"

// users counts the goroutines that may still use the listener's number. When a
// loop that is closing has none left, the last one to leave releases it.
type users struct {
	mu      sync.Mutex
	n       int
	closing bool
	release func()        // called once, by whoever is last
	gone    chan struct{} // closed after that
}

// run starts f, which is a user until it returns.
func (u *users) run(f func()) {
	u.mu.Lock()
	u.n++
	u.mu.Unlock()
	go func() {
		defer u.leave()
		f()
	}()
}

func (u *users) leave() {
	u.mu.Lock()
	u.n--
	last := u.closing && u.n == 0
	u.mu.Unlock()
	if last {
		u.release()
		close(u.gone)
	}
}

// close returns what is closed once the listener was released. Users that come
// later must come from a user.
func (u *users) close() <-chan struct{} {
	u.mu.Lock()
	again := u.closing
	u.closing = true
	last := u.n == 0
	u.mu.Unlock()
	if last && !again {
		u.release()
		close(u.gone)
	}
	return u.gone
}
