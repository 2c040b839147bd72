package netfilter

import (
	"github.com/sandlock/sandlock/internal/sockdiag"
	"golang.org/x/sys/unix"
)

// mayReachAbstract tells whether an abstract unix address may be connected or sent
// to. Where Landlock has no scope for these names, we judge in the kernel's stead.
func (f *Filter) mayReachAbstract(name []byte, typ int) bool {
	if f.Thread.Layers().Scopes || len(name) == 0 {
		return true
	}
	holders, err := sockdiag.Abstract(name, typ == unix.SOCK_DGRAM)
	if err != nil {
		return false
	}
	for _, cookie := range holders {
		if !f.own.has(cookie) {
			return false
		}
	}
	return true // with none at all the kernel answers ECONNREFUSED
}
