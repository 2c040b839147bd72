package resolver

import (
	"sync"
	"time"
)

const (
	maxCached     = 1024    // answers
	maxCachedSize = 4 << 20 // bytes in memory, all answers together, about
	entrySize     = 128     // bytes, what an answer without records counts as
	recordSize    = 128     // what a record counts as beside its texts
	serviceSize   = 64      // what the body of a service record adds to that
	paramSize     = 32      // what each of its parameters adds beside its value
)

// cache keeps answers until their TTL is over, the recently used ones if there
// are too many. The zero value is empty.
type cache struct {
	mu             sync.Mutex
	entries        map[question]*cached
	newest, oldest *cached // by use
	size           int
}

type cached struct {
	question
	answer
	made         time.Time
	size         int
	newer, older *cached
}

// get returns the answer to a question with the TTL that is left of it.
func (c *cache) get(q question, now time.Time) (answer, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	entry, ok := c.entries[q]
	if !ok {
		return answer{}, false
	}
	age := now.Sub(entry.made)
	if age < 0 || age >= time.Duration(entry.ttl)*time.Second {
		c.drop(entry)
		return answer{}, false
	}
	c.unlink(entry)
	c.link(entry)
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
		c.entries = map[question]*cached{}
	}
	entry := &cached{question: q, answer: a, made: now, size: entrySize}
	for _, rr := range a.records {
		entry.size += sizeOf(rr)
	}
	c.entries[q] = entry
	c.link(entry)
	c.size += entry.size
	for len(c.entries) > maxCached || c.size > maxCachedSize {
		c.drop(c.oldest)
	}
}

func (c *cache) drop(e *cached) {
	c.unlink(e)
	delete(c.entries, e.question)
	c.size -= e.size
}

// link makes e, which is in no list, the newest.
func (c *cache) link(e *cached) {
	if e.older = c.newest; e.older != nil {
		e.older.newer = e
	} else {
		c.oldest = e
	}
	c.newest = e
}

func (c *cache) unlink(e *cached) {
	if e.newer != nil {
		e.newer.older = e.older
	} else {
		c.newest = e.older
	}
	if e.older != nil {
		e.older.newer = e.newer
	} else {
		c.oldest = e.newer
	}
	e.newer, e.older = nil, nil
}

// sizeOf is about what a record takes in memory.
func sizeOf(rr record) int {
	size := recordSize
	if rr.service != nil {
		size += serviceSize
		for _, p := range rr.service.params {
			size += paramSize + len(p.Value)
		}
	}
	return size
}
