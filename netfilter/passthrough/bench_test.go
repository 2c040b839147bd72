package passthrough

import (
	"io"
	"net"
	"testing"
)

// BenchmarkThroughput moves 64 MiB an operation over one connection, with and
// without the engine in between.
func BenchmarkThroughput(b *testing.B) {
	const size = 64 << 20
	for _, bench := range []struct {
		name string
		open func(b *testing.B) (c, u *net.TCPConn)
	}{
		{"direct", func(b *testing.B) (*net.TCPConn, *net.TCPConn) { return ends(b) }},
		{"passed", func(b *testing.B) (*net.TCPConn, *net.TCPConn) {
			e, err := New(func(Result) {})
			if err != nil {
				b.Fatal(err)
			}
			b.Cleanup(func() { e.Close() })
			c, cfd := pair(b)
			u, ufd := pair(b)
			if err := e.Add(Flow{Client: cfd, Upstream: ufd}); err != nil {
				b.Fatal(err)
			}
			return c, u
		}},
	} {
		b.Run(bench.name, func(b *testing.B) {
			c, u := bench.open(b)
			chunk := make([]byte, 128<<10)
			sink := make([]byte, 128<<10)
			b.SetBytes(size)
			b.ResetTimer()
			go func() {
				for n := 0; n < b.N*size; n += len(chunk) {
					if _, err := c.Write(chunk); err != nil {
						return
					}
				}
			}()
			for left := b.N * size; left > 0; {
				n, err := u.Read(sink[:min(left, len(sink))])
				if err != nil {
					b.Fatal(err)
				}
				left -= n
			}
		})
	}
}

// BenchmarkRoundTrip is one byte there and back.
func BenchmarkRoundTrip(b *testing.B) {
	run := func(b *testing.B, c, u *net.TCPConn) {
		go func() { _, _ = io.Copy(u, u) }()
		one := make([]byte, 1)
		b.ResetTimer()
		for range b.N {
			if _, err := c.Write(one); err != nil {
				b.Fatal(err)
			}
			if _, err := c.Read(one); err != nil {
				b.Fatal(err)
			}
		}
	}
	b.Run("direct", func(b *testing.B) {
		c, u := ends(b)
		run(b, c, u)
	})
	b.Run("passed", func(b *testing.B) {
		e, err := New(func(Result) {})
		if err != nil {
			b.Fatal(err)
		}
		b.Cleanup(func() { e.Close() })
		c, cfd := pair(b)
		u, ufd := pair(b)
		if err := e.Add(Flow{Client: cfd, Upstream: ufd}); err != nil {
			b.Fatal(err)
		}
		run(b, c, u)
	})
}

// ends is a plain connection on loopback.
func ends(b *testing.B) (c, s *net.TCPConn) {
	b.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	defer l.Close()
	d, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		b.Fatal(err)
	}
	a, err := l.Accept()
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { d.Close(); a.Close() })
	return d.(*net.TCPConn), a.(*net.TCPConn)
}
