package lab

import (
	"bytes"
	"crypto/sha1"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/cgi"
	"net/netip"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/net/websocket"
)

// startWeb serves TLS on 443 and plain HTTP on 80 of the public addresses and
// records every accept, SNI and request.
func startWeb() error {
	cert, err := issue()
	if err != nil {
		return err
	}
	if err := trust(); err != nil {
		return err
	}
	if err := repository(); err != nil {
		return err
	}
	for _, a := range []netip.Addr{Allowed4, Allowed6, Evil4, Evil6, Shared4, Shared6, Metadata, Private4, Private6, InHosts} {
		for _, port := range []uint16{80, 443} {
			at := netip.AddrPortFrom(a, port).String()
			l, err := net.Listen("tcp", at)
			if err != nil {
				return err
			}
			sink := "tcp " + at
			l = watched{l, sink}
			if port == 443 {
				conf := &tls.Config{Certificates: []tls.Certificate{cert}, NextProtos: []string{"h2", "http/1.1"}}
				conf.GetConfigForClient = func(h *tls.ClientHelloInfo) (*tls.Config, error) {
					record.add("tls "+at, "hello", h.ServerName)
					return nil, nil
				}
				l = tls.NewListener(l, conf)
			}
			s := &http.Server{Handler: site("http " + at), ErrorLog: log.New(io.Discard, "", 0)}
			go s.Serve(l)
		}
	}
	return nil
}

// watched records the first bytes of a listener's connections. A bare accept is
// not recorded: to look at a ClientHello, the supervisor itself dials first.
type watched struct {
	net.Listener
	sink string
}

func (w watched) Accept() (net.Conn, error) {
	c, err := w.Listener.Accept()
	if err == nil {
		return &watchedConn{Conn: c, sink: w.sink}, nil
	}
	return nil, err
}

// watchedConn records the first bytes of a connection.
type watchedConn struct {
	net.Conn
	sink string
	seen bool
}

func (c *watchedConn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	if n > 0 && !c.seen {
		c.seen = true
		record.add(c.sink, "data", c.Conn.RemoteAddr().String())
	}
	return n, err
}

func site(sink string) http.Handler {
	mux := http.NewServeMux()
	backend := &cgi.Handler{Path: gitBackend(), Root: "/git", Env: []string{"GIT_PROJECT_ROOT=" + filepath.Join(Dir(), "git"),
		"GIT_HTTP_EXPORT_ALL=1", "REMOTE_USER=lab", "GIT_CONFIG_COUNT=1", "GIT_CONFIG_KEY_0=safe.directory", "GIT_CONFIG_VALUE_0=*"}}
	mux.HandleFunc("/git/{nonce}/{rest...}", func(w http.ResponseWriter, r *http.Request) {
		r.URL.Path = "/git/" + r.PathValue("rest")
		backend.ServeHTTP(w, r)
	})
	mux.HandleFunc("/simple/labpkg/", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/html")
		io.WriteString(w, `<!DOCTYPE html><html><body><a href="/files/labpkg-1.0-py3-none-any.whl">labpkg-1.0-py3-none-any.whl</a></body></html>`)
	})
	mux.HandleFunc("/files/labpkg-1.0-py3-none-any.whl", func(w http.ResponseWriter, r *http.Request) { w.Write(wheel()) })
	mux.HandleFunc("/npm/labpkg", func(w http.ResponseWriter, r *http.Request) {
		sum := sha1.Sum(npmPackage())
		json.NewEncoder(w).Encode(map[string]any{"name": "labpkg", "dist-tags": map[string]string{"latest": "1.0.0"},
			"versions": map[string]any{"1.0.0": map[string]any{"name": "labpkg", "version": "1.0.0",
				"dist": map[string]string{"tarball": "https://" + r.Host + "/npm/labpkg-1.0.0.tgz", "shasum": fmt.Sprintf("%x", sum)}}}})
	})
	mux.HandleFunc("/npm/labpkg-1.0.0.tgz", func(w http.ResponseWriter, r *http.Request) { w.Write(npmPackage()) })
	mux.HandleFunc("/deb/{file}", func(w http.ResponseWriter, r *http.Request) {
		data, ok := debRepository()[r.PathValue("file")]
		if !ok {
			http.NotFound(w, r)
			return
		}
		w.Write(data)
	})
	mux.HandleFunc("/drip/", func(w http.ResponseWriter, r *http.Request) {
		for range 2000 { // 20 s
			if _, err := io.WriteString(w, "drop\n"); err != nil || http.NewResponseController(w).Flush() != nil {
				return
			}
			select {
			case <-r.Context().Done():
				return
			case <-time.After(10 * time.Millisecond):
			}
		}
	})
	mux.HandleFunc("/echo/", func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintf(w, "echo %s\n", r.URL)
		_ = r.Header.Write(w)
	})
	registries(mux)
	mux.Handle("/ws/", websocket.Server{Handler: echoMessages})
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintf(w, "lab %s %s\n", r.Host, r.URL.Path)
	})
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(http.MaxBytesReader(w, r.Body, 1<<20))
		record.add(sink, "request", fmt.Sprintf("%s %s%s %s", r.Method, r.Host, r.URL, body))
		r.Body = io.NopCloser(bytes.NewReader(body))
		mux.ServeHTTP(w, r)
	})
}

func gitBackend() string {
	out, _ := exec.Command("git", "--exec-path").Output()
	return filepath.Join(strings.TrimSpace(string(out)), "git-http-backend")
}

// repository makes the repositories that are served below /git.
func repository() error {
	for _, host := range []string{"allowed.test", "four.test"} {
		if err := crateIndex(host); err != nil {
			return err
		}
	}
	return bareRepository("repo", map[string]string{"file": "content\n"})
}

func echoMessages(c *websocket.Conn) {
	for text := ""; websocket.Message.Receive(c, &text) == nil; {
		if websocket.Message.Send(c, text) != nil {
			return
		}
	}
}
