package lab

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"testing"
)

// ConnectProxy opens an HTTP proxy at Private4 and returns its host and port. It records what
// it is asked for as "connect", with the text "HOST:PORT AUTHORIZATION". With the status
// 200 it then connects, from Private4, to that port of Allowed4, whatever the host;
// with another one it answers that. It is closed with the test.
func ConnectProxy(t testing.TB, status int) string {
	t.Helper()
	l, err := net.Listen("tcp", netip.AddrPortFrom(Private4, 0).String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go connectFor(c, "proxy "+l.Addr().String(), status)
		}
	}()
	return l.Addr().String()
}

func connectFor(c net.Conn, sink string, status int) {
	defer c.Close()
	in := bufio.NewReader(c)
	q, err := http.ReadRequest(in)
	if err == io.EOF {
		return
	}
	if err != nil {
		record.add(sink, "connect", err.Error())
		return
	}
	record.add(sink, "connect", fmt.Sprintf("%s %s", q.RequestURI, q.Header.Get("Proxy-Authorization")))
	fmt.Fprintf(c, "HTTP/1.1 %d %s\r\nVia: lab\r\n\r\n", status, http.StatusText(status))
	if status != http.StatusOK {
		return
	}
	dialer := net.Dialer{LocalAddr: &net.TCPAddr{IP: Private4.AsSlice()}}
	up, err := dialer.Dial("tcp4", net.JoinHostPort(Allowed4.String(), q.URL.Port()))
	if err != nil {
		return
	}
	defer up.Close()
	go func() {
		io.Copy(up, in)
		up.(*net.TCPConn).CloseWrite()
	}()
	io.Copy(c, up)
}
