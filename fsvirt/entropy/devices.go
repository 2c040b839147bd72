package entropy

import (
	"errors"
	"math/rand/v2"
	"os"
	"sync"
	"sync/atomic"

	"github.com/sandlock/sandlock/internal/sys"
	"golang.org/x/sys/unix"
)

// Bounds of the devices: open ones, and bytes that one read can get.
const (
	maxDevices = 1024
	packet     = 64 << 10
)

var errDevices = errors.New("too many are open")

// devices are the random devices that the sandbox holds open. Each is one end of
// a pair of SEQPACKET sockets, into whose other end packets are written for as
// long as somebody reads: a read gets all that it asks for, up to a packet, and
// the device has no end.
type devices struct {
	n    atomic.Int64
	wg   sync.WaitGroup
	mu   sync.Mutex
	all  map[uint64]*os.File // our ends, by the cookie of the other
	done bool
}

func (d *devices) live() bool { return d.n.Load() > 0 }

func (d *devices) has(cookie uint64) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.all[cookie] != nil
}

// open returns a device that gives r; the caller owns the descriptor. It does not
// block.
func (d *devices) open(r *rand.ChaCha8, nonblock bool) (int, error) {
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return -1, err
	}
	ours, theirs := os.NewFile(uintptr(pair[0]), "random"), pair[1]
	fail := func(err error) (int, error) {
		ours.Close()
		unix.Close(theirs)
		return -1, err
	}
	cookie, err := sys.Cookie(theirs)
	if err != nil {
		return fail(err)
	}
	buf := make([]byte, packet)
	r.Read(buf)
	if _, err := unix.Write(pair[0], buf); err != nil { // so that a first read need not wait
		return fail(err)
	}
	if !nonblock {
		if err := unix.SetNonblock(theirs, false); err != nil {
			return fail(err)
		}
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.done || len(d.all) >= maxDevices {
		return fail(errDevices)
	}
	if d.all == nil {
		d.all = map[uint64]*os.File{}
	}
	d.all[cookie] = ours
	d.n.Store(int64(len(d.all)))
	d.wg.Add(1)
	go func() {
		defer d.wg.Done()
		for {
			r.Read(buf)
			if _, err := ours.Write(buf); err != nil {
				break // the last reader has closed it
			}
		}
		d.mu.Lock()
		defer d.mu.Unlock()
		ours.Close()
		delete(d.all, cookie)
		d.n.Store(int64(len(d.all)))
	}()
	return theirs, nil
}

func (d *devices) close() {
	d.mu.Lock()
	d.done = true
	for _, f := range d.all {
		f.Close()
	}
	d.mu.Unlock()
	d.wg.Wait()
}
