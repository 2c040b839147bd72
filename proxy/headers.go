package proxy

import (
	"net/http"
	"strings"
)

// perHop are the header fields for one connection only (RFC 9110 section 7.6.1, and
// what is in use besides it).
var perHop = [...]string{"Connection", "Proxy-Connection", "Keep-Alive", "Proxy-Authenticate", "Proxy-Authorization",
	"Te", "Trailer", "Transfer-Encoding", "Upgrade", "Http2-Settings"}

// dropPerHop removes what is for one connection only, those fields included that
// Connection names.
func dropPerHop(h http.Header) {
	for _, line := range h["Connection"] {
		for field := range strings.SplitSeq(line, ",") {
			if field = strings.TrimSpace(field); field != "" {
				h.Del(field)
			}
		}
	}
	for _, field := range perHop {
		delete(h, field)
	}
}

// lists tells whether a header field lists a word.
func lists(h http.Header, field, word string) bool {
	for _, line := range h[field] {
		for w := range strings.SplitSeq(line, ",") {
			if strings.EqualFold(strings.TrimSpace(w), word) {
				return true
			}
		}
	}
	return false
}

// upgradesToWebSocket tells whether a message asks for or grants the one upgrade that
// is possible.
func upgradesToWebSocket(h http.Header) bool {
	return lists(h, "Connection", "Upgrade") && len(h["Upgrade"]) == 1 && strings.EqualFold(h["Upgrade"][0], "websocket")
}

// prepareRequest turns a client's header into the one for the upstream.
func prepareRequest(h http.Header, upgrade bool) {
	trailers := lists(h, "Te", "trailers")
	dropPerHop(h)
	if trailers {
		h["Te"] = []string{"trailers"} // gRPC servers insist on it
	}
	if upgrade {
		h["Connection"], h["Upgrade"] = []string{"Upgrade"}, []string{"websocket"}
	}
	if _, ok := h["User-Agent"]; !ok {
		h["User-Agent"] = nil // or net/http adds its own
	}
}

// prepareResponse turns an upstream's header into the one for the client.
func prepareResponse(h http.Header, upgrade bool) {
	dropPerHop(h)
	delete(h, "Alt-Svc") // HTTP/3 would go round the proxy
	if upgrade {
		h["Connection"], h["Upgrade"] = []string{"Upgrade"}, []string{"websocket"}
	}
	if _, ok := h["Content-Type"]; !ok {
		h["Content-Type"] = nil // or net/http guesses one
	}
}

// ambiguous tells why the header of an HTTP/2 request may be read in two ways, "" if it
// may not. net/http has checked the characters and the fields that are for one
// connection.
func ambiguous(h http.Header, authority string) string {
	if hosts := h["Host"]; len(hosts) > 1 || len(hosts) == 1 && !strings.EqualFold(hosts[0], authority) {
		return ":authority and Host differ"
	}
	if len(h["Content-Length"]) > 1 {
		return "more than one Content-Length"
	}
	for name := range h {
		if strings.Contains(name, "_") && framing[canonicalField(name)] {
			return spelledAs(name)
		}
	}
	return ""
}

// spelledAs says that a name looks like one that frames a message.
func spelledAs(name string) string {
	return "a header name is spelled to be taken for " + canonicalField(name)
}
