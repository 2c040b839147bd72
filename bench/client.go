package main

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// clientWord as the first argument makes this program the network client, which
// answers commands as the worker in C does.
const clientWord = "client"

const envCA = "SANDLOCK_BENCH_CA" // file with the CA that the client trusts

// patience bounds every operation of the client.
const patience = 60 * time.Second

// netClient holds connections from one command to the next.
type netClient struct {
	roots *x509.CertPool
	addrs map[string]string // looked up once: lookups are measured by themselves
	bulk  map[string]net.Conn
	idle  []net.Conn
	http  map[string]*http.Client
}

func client() {
	pem, err := os.ReadFile(os.Getenv(envCA))
	if err != nil {
		os.Exit(fail(err))
	}
	c := &netClient{roots: x509.NewCertPool(), addrs: map[string]string{}, bulk: map[string]net.Conn{}, http: map[string]*http.Client{}}
	c.roots.AppendCertsFromPEM(pem)
	for in := bufio.NewScanner(os.Stdin); in.Scan(); {
		words := strings.Fields(in.Text())
		if len(words) < 2 {
			continue
		}
		n, _ := strconv.Atoi(words[1])
		cpu, wall := processorTime(), time.Now()
		if err := c.do(words[0], n, words[2:]); err != nil {
			fmt.Printf("error %v\n", err)
			continue
		}
		fmt.Println(time.Since(wall).Nanoseconds(), (processorTime() - cpu).Nanoseconds())
	}
}

func processorTime() time.Duration {
	var r unix.Rusage
	unix.Getrusage(unix.RUSAGE_SELF, &r)
	return time.Duration(r.Utime.Nano() + r.Stime.Nano())
}

// do carries out a command: NAME and PORT are always its arguments.
func (c *netClient) do(command string, n int, args []string) error {
	if len(args) < 2 {
		return fmt.Errorf("%s: NAME PORT", command)
	}
	name, port := args[0], args[1]
	switch command {
	case "get":
		return c.httpGet(n, args)
	case "connection":
		return c.httpNew(n, args)
	case "new": // a connection, a byte there and back, n times
		for range n {
			conn, err := c.open(name, port)
			if err != nil {
				return err
			}
			err = fetch(conn, 1)
			conn.Close()
			if err != nil {
				return err
			}
		}
		return nil
	case "fetch": // n bytes over a connection that stays
		conn, err := c.kept(name, port)
		if err != nil {
			return err
		}
		return fetch(conn, n)
	case "turns": // n times a byte there and back over a connection that stays
		conn, err := c.kept(name, port)
		if err != nil {
			return err
		}
		for range n {
			if err := fetch(conn, 1); err != nil {
				return err
			}
		}
		return nil
	case "hold": // n more connections that stay and are idle
		for range n {
			conn, err := c.open(name, port)
			if err != nil {
				return err
			}
			if err := fetch(conn, 1); err != nil {
				return err
			}
			c.idle = append(c.idle, conn)
		}
		return nil
	}
	return fmt.Errorf("no command %q", command)
}

func (c *netClient) kept(name, port string) (net.Conn, error) {
	at := net.JoinHostPort(name, port)
	if conn := c.bulk[at]; conn != nil {
		return conn, conn.SetDeadline(time.Now().Add(patience))
	}
	conn, err := c.open(name, port)
	if err == nil {
		c.bulk[at] = conn
	}
	return conn, err
}

// open connects, with TLS at port 443 and with the head of an HTTP request else.
func (c *netClient) open(name, port string) (net.Conn, error) {
	addr := c.addrs[name]
	if addr == "" {
		found, err := net.DefaultResolver.LookupNetIP(context.Background(), "ip4", name)
		if err != nil {
			return nil, err
		}
		addr = found[0].String()
		c.addrs[name] = addr
	}
	d := net.Dialer{Timeout: patience}
	conn, err := d.Dial("tcp4", net.JoinHostPort(addr, port))
	if err != nil {
		return nil, err
	}
	if err := conn.SetDeadline(time.Now().Add(patience)); err != nil {
		return nil, err
	}
	if port == tlsPort {
		return tls.Client(conn, &tls.Config{ServerName: serverName, RootCAs: c.roots}), nil
	}
	_, err = fmt.Fprintf(conn, "GET / HTTP/1.1\r\nHost: %s\r\n\r\n", serverName)
	return conn, err
}

// fetch asks the server for n bytes and reads them.
func fetch(conn net.Conn, n int) error {
	var ask [8]byte
	binary.BigEndian.PutUint64(ask[:], uint64(n))
	if _, err := conn.Write(ask[:]); err != nil {
		return err
	}
	buf := make([]byte, 128<<10)
	for n > 0 {
		got, err := conn.Read(buf[:min(n, len(buf))])
		if err != nil {
			return err
		}
		n -= got
	}
	return nil
}

// serve answers what fetch asks for, behind the head of a request unless the
// connection is one with TLS.
func serve(l net.Listener, head bool) {
	for {
		conn, err := l.Accept()
		if err != nil {
			return
		}
		go func() {
			defer conn.Close()
			in := bufio.NewReaderSize(conn, 512)
			for line := ""; head && line != "\r\n"; {
				if line, err = in.ReadString('\n'); err != nil {
					return
				}
			}
			var ask [8]byte
			var chunk []byte
			for {
				if _, err := io.ReadFull(in, ask[:]); err != nil {
					return
				}
				n := int(binary.BigEndian.Uint64(ask[:]))
				if n > len(chunk) && len(chunk) < 128<<10 {
					chunk = make([]byte, min(n, 128<<10))
				}
				for n > 0 {
					sent, err := conn.Write(chunk[:min(n, len(chunk))])
					if err != nil {
						return
					}
					n -= sent
				}
			}
		}()
	}
}
