package resolver

import (
	"container/list"
	"sync"
	"time"
	"unsafe"

	"golang.org/x/net/dns/dnsmessage"
)

const (
	maxCached     = 1024    // answers
	maxCachedSize = 4 << 20 // bytes in memory, all answers together, about
	entrySize     = 128     // bytes, what an answer without records counts as
)

// cache keeps answers until their TTL is over, the recently used ones if there
// are too many. The zero value is empty.
type cache struct {
	mu      sync.Mutex
	entries map[question]*list.Element
	recent  list.List // of *cached, the last used first
	size    int
}

type cached struct {
	question
	answer
	made time.Time
	size int
}

// get returns the answer to a question with the TTL that is left of it.
func (c *cache) get(q question, now time.Time) (answer, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	e, ok := c.entries[q]
	if !ok {
		return answer{}, false
	}
	entry := e.Value.(*cached)
	age := now.Sub(entry.made)
	if age < 0 || age >= time.Duration(entry.ttl)*time.Second {
		c.drop(e)
		return answer{}, false
	}
	c.recent.MoveToFront(e)
	a := entry.answer
	a.ttl -= uint32(age / time.Second)
	return a, true
}

// put keeps an answer, unless its TTL is 0.
func (c *cache) put(q question, a answer, now time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if e, ok := c.entries[q]; ok {
		c.drop(e)
	}
	if a.ttl == 0 {
		return
	}
	if c.entries == nil {
		c.entries = map[question]*list.Element{}
	}
	entry := &cached{question: q, answer: a, made: now, size: entrySize}
	for _, rr := range a.records {
		entry.size += sizeOf(rr)
	}
	c.entries[q] = c.recent.PushFront(entry)
	c.size += entry.size
	for len(c.entries) > maxCached || c.size > maxCachedSize {
		c.drop(c.recent.Back())
	}
}

func (c *cache) drop(e *list.Element) {
	entry := c.recent.Remove(e).(*cached)
	delete(c.entries, entry.question)
	c.size -= entry.size
}

// sizeOf is about what a record takes in memory.
func sizeOf(rr dnsmessage.Resource) int {
	const name = int(unsafe.Sizeof(dnsmessage.Name{}))
	size := 2 * name // the owner's and that of the body
	if s := serviceOf(rr); s != nil {
		for _, p := range s.Params {
			size += int(unsafe.Sizeof(p)) + len(p.Value)
		}
	}
	return size
}
