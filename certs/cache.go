package certs

import (
	"container/list"
	"crypto/tls"
	"sync"
	"time"
)

// maxLeaves bounds the cache; a leaf takes about 5 KiB.
const maxLeaves = 1024

// cache holds the leaves that were used last. The zero cache is empty and ready.
type cache struct {
	mu    sync.Mutex
	byKey map[Host]*list.Element
	used  list.List // of *entry; the one used last in front
}

// entry is a leaf, or the making of it: whoever asks for the same host meanwhile
// waits for the same one.
type entry struct {
	host  Host
	made  sync.Once
	cert  *tls.Certificate
	until time.Time
	err   error
}

// get returns the leaf of a host, and calls sign when there is none that is good now.
// sign runs once for all who ask at the same time, without a lock. A failure is
// not kept.
func (c *cache) get(h Host, now time.Time, sign func(Host) (*tls.Certificate, time.Time, error)) (*tls.Certificate, error) {
	e := c.entry(h)
	e.made.Do(func() { e.cert, e.until, e.err = sign(h) })
	if e.err == nil && now.After(e.until) {
		c.drop(e)
		e = c.entry(h)
		e.made.Do(func() { e.cert, e.until, e.err = sign(h) })
	}
	if e.err != nil {
		c.drop(e)
		return nil, e.err
	}
	return e.cert, nil
}

// entry returns the entry of a host, made where there is none, and forgets the one
// that was not used for longest where there are too many.
func (c *cache) entry(h Host) *entry {
	c.mu.Lock()
	defer c.mu.Unlock()
	if at, ok := c.byKey[h]; ok {
		c.used.MoveToFront(at)
		return at.Value.(*entry)
	}
	if c.byKey == nil {
		c.byKey = map[Host]*list.Element{}
	}
	e := &entry{host: h}
	c.byKey[h] = c.used.PushFront(e)
	if c.used.Len() > maxLeaves {
		oldest := c.used.Back()
		delete(c.byKey, c.used.Remove(oldest).(*entry).host)
	}
	return e
}

// drop forgets an entry, unless another has taken its place.
func (c *cache) drop(e *entry) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if at, ok := c.byKey[e.host]; ok && at.Value.(*entry) == e {
		delete(c.byKey, e.host)
		c.used.Remove(at)
	}
}
