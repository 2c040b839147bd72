package main

import (
	"io"
	"time"

	"github.com/sandlock/sandlock/certs"
	"github.com/sandlock/sandlock/internal/wire"
	"golang.org/x/sys/unix"
)

// maxStore bounds a Java key store, in bytes. The largest have 0.5 MiB.
const maxStore = 16 << 20

// store makes a copy of a Java key store with the CA in it.
func (l *link) store(m wire.Store, fds []int) {
	defer wire.CloseAll(fds)
	size, err := l.writeStore(fds)
	answer := wire.Stored{ID: m.ID, Size: uint32(size)}
	if err != nil {
		answer.Error = err.Error()
	}
	_ = l.conn.Send(answer)
}

func (l *link) writeStore(fds []int) (int, error) {
	if len(fds) != 2 {
		return 0, wire.ErrMalformed
	}
	original, err := io.ReadAll(io.LimitReader(fileReader{fds[0]}.section(), maxStore))
	if err != nil {
		return 0, err
	}
	out, err := certs.KeyStore(original, l.ca.PEM(), time.Now())
	if err != nil {
		return 0, err
	}
	for off := 0; off < len(out); {
		n, err := unix.Pwrite(fds[1], out[off:], int64(off))
		if err != nil {
			return 0, err
		}
		off += n
	}
	return len(out), nil
}
