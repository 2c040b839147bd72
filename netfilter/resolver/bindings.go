package resolver

import (
	"net/netip"
	"slices"
	"sync"

	"github.com/sandlock/sandlock/netfilter/endpoint"
)

const (
	maxBindings     = 4096 // pairs of name and address in a run
	maxPerName      = 64   // addresses of a name
	maxHostBindings = maxBindings / 2
)

// bindings is which names led to which address. They last for the run. The zero
// value is empty.
type bindings struct {
	mu     sync.RWMutex
	byAddr map[netip.Addr][]endpoint.Name
	byName map[endpoint.Name][]netip.Addr
	total  int
}

// names returns the names of an address. Slices that were handed out never
// change: add only writes behind their end, and the clipped capacity keeps a
// caller's append away from it.
func (b *bindings) names(a netip.Addr) []endpoint.Name {
	a = a.Unmap().WithZone("")
	b.mu.RLock()
	names := b.byAddr[a]
	b.mu.RUnlock()
	return names[:len(names):len(names)]
}

// add binds an address to a name and tells whether it is bound now; false means
// that there is no room.
func (b *bindings) add(n endpoint.Name, a netip.Addr) bool {
	a = a.Unmap().WithZone("")
	b.mu.Lock()
	defer b.mu.Unlock()
	of := b.byName[n]
	if slices.Contains(of, a) {
		return true
	}
	if len(of) >= maxPerName || b.total >= maxBindings {
		return false
	}
	if b.byAddr == nil {
		b.byAddr, b.byName = map[netip.Addr][]endpoint.Name{}, map[endpoint.Name][]netip.Addr{}
	}
	b.byAddr[a] = append(b.byAddr[a], n)
	b.byName[n] = append(of, a)
	b.total++
	return true
}

// addrs returns the addresses of a name, oldest first; the caller must not change them.
func (b *bindings) addrs(n endpoint.Name) []netip.Addr {
	b.mu.RLock()
	defer b.mu.RUnlock()
	return slices.Clip(b.byName[n])
}

func (b *bindings) size() int {
	b.mu.RLock()
	defer b.mu.RUnlock()
	return b.total
}
