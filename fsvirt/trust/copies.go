package trust

import (
	"sync"

	"github.com/sandlock/sandlock/fsvirt/memfile"
	"golang.org/x/sys/unix"
)

// maxCopies bounds the files in memory that are kept for the next open.
const maxCopies = 64

// copies keeps one file in memory for each bundle, as long as that is unchanged.
type copies struct {
	mu  sync.Mutex
	set map[identity]copied
}

type copied struct {
	changed unix.Timespec // of the original
	fd      int
}

// get returns a descriptor, owned by the caller, of the copy for the original's
// state, or of what content returns. Two that ask at once may both make one.
func (x *copies) get(id identity, changed unix.Timespec, content func() ([]byte, error)) (int, error) {
	if fd, err := x.kept(id, changed); fd >= 0 || err != nil {
		return fd, err
	}
	b, err := content()
	if err != nil {
		return -1, err
	}
	fd, err := memfile.New("bundle", b)
	if err != nil {
		return -1, err
	}
	own, err := memfile.Open(fd)
	if err != nil {
		unix.Close(fd)
		return -1, err
	}
	x.keep(id, copied{changed, fd})
	return own, nil
}

func (x *copies) kept(id identity, changed unix.Timespec) (int, error) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if c, ok := x.set[id]; ok && c.changed == changed {
		return memfile.Open(c.fd)
	}
	return -1, nil
}

func (x *copies) keep(id identity, c copied) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if old, ok := x.set[id]; ok {
		unix.Close(old.fd)
	} else if len(x.set) >= maxCopies {
		x.forget()
	}
	if x.set == nil {
		x.set = map[identity]copied{}
	}
	x.set[id] = c
}

// forget drops all copies. x.mu is held.
func (x *copies) forget() {
	for _, c := range x.set {
		unix.Close(c.fd)
	}
	clear(x.set)
}
