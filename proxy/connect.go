package proxy

import (
	"io"
	"net/http"
	"net/netip"
	"strconv"

	"github.com/sandlock/sandlock/proxy/rule"
)

// maxDepth bounds tunnels inside tunnels.
const maxDepth = 2

const established = "HTTP/1.1 200 Connection established\r\n\r\n"

// connect opens a tunnel to the host that the connection leads to anyway, and judges
// what comes through it like any other connection. There are no blind tunnels.
func (x *exchange) connect() {
	f := x.f
	if f.head == nil || f.depth >= maxDepth {
		x.reason = "CONNECT is not possible here"
		x.send(x.refusal(http.StatusMethodNotAllowed, x.reason))
		return
	}
	port, err := x.tunnel()
	if err != nil {
		x.refuse(err)
		return
	}
	conn, rw, err := http.NewResponseController(x.w.ResponseWriter).Hijack()
	if err != nil {
		x.reason = err.Error()
		return
	}
	read, _ := rw.Reader.Peek(rw.Reader.Buffered())
	if _, err := io.WriteString(conn, established); err != nil {
		conn.Close()
		return
	}
	x.outcome, x.w.status = Allowed, http.StatusOK
	inner := &flow{id: f.id, client: f.client, dst: netip.AddrPortFrom(f.dst.Addr(), port), names: f.names, depth: f.depth + 1}
	go x.p.begin(inner, &ahead{Conn: conn, first: append([]byte(nil), read...)})
}

// tunnel returns the port that a CONNECT request asks for, if it agrees with the
// connection.
func (x *exchange) tunnel() (uint16, error) {
	f := x.f
	if err := f.head.fault(); err != nil {
		return 0, err
	}
	h, port, err := rule.ParseAuthority(x.r.RequestURI)
	if err != nil {
		return 0, err
	}
	if port == 0 {
		return 0, &rule.Error{Status: http.StatusBadRequest, Reason: "CONNECT names no port"}
	}
	if said := f.head.host(); said != "" {
		if other, _, err := rule.ParseAuthority(said); err != nil || other != h {
			return 0, &rule.Error{Status: http.StatusBadRequest, Reason: "CONNECT and Host name different hosts"}
		}
	}
	if !f.leadsTo(h) || f.tls && f.server != h.Name {
		return 0, &rule.Error{Status: http.StatusMisdirectedRequest, Reason: "CONNECT asks for " + h.String() + ", and the connection leads elsewhere"}
	}
	if !x.p.config.Rules.Terminates(h.Name, f.destination(), port) {
		x.verdict.AllowWith = "--http-allow * " + h.String() + ":" + strconv.Itoa(int(port)) + "/*"
		return 0, &rule.Error{Status: http.StatusForbidden, Reason: "no HTTP rule speaks of " + h.String() + " on this port"}
	}
	return port, nil
}
