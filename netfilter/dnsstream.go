package netfilter

import (
	"context"
	"encoding/binary"
	"io"
	"os"
	"time"
)

const dnsIdle = 30 * time.Second // RFC 7766 section 6.2.3 leaves the number to the server

// serveDNSStream owns fd and answers the queries that come over it, each behind
// its length in network byte order (RFC 1035 section 4.2.2).
func (f *Filter) serveDNSStream(fd int) {
	conn := os.NewFile(uintptr(fd), "dns-tcp")
	defer conn.Close()
	stop := context.AfterFunc(f.ctx, func() { conn.Close() })
	defer stop()
	var size [2]byte
	for {
		conn.SetDeadline(time.Now().Add(dnsIdle))
		if _, err := io.ReadFull(conn, size[:]); err != nil {
			return
		}
		query := make([]byte, binary.BigEndian.Uint16(size[:]))
		if _, err := io.ReadFull(conn, query); err != nil {
			return
		}
		answer := f.Resolver.Handle(f.ctx, query, true)
		if answer == nil || len(answer) > maxQuery {
			return
		}
		out := binary.BigEndian.AppendUint16(make([]byte, 0, len(answer)+2), uint16(len(answer)))
		if _, err := conn.Write(append(out, answer...)); err != nil {
			return
		}
	}
}
