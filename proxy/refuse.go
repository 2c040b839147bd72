package proxy

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"github.com/sandlock/sandlock/proxy/rule"
)

// refusal is the body of an answer that did not come from an upstream.
type refusal struct {
	Error     string `json:"error"`
	Request   string `json:"request"`
	Rule      string `json:"rule,omitempty"`
	AllowWith string `json:"allow_with,omitempty"`
}

// Codes of gRPC for what did not come from an upstream.
const (
	grpcPermissionDenied = 7
	grpcUnavailable      = 14
)

// refusal makes the answer to a request that is not carried.
func (x *exchange) refusal(status int, reason string) *http.Response {
	resp := &http.Response{StatusCode: status, ProtoMajor: 1, ProtoMinor: 1, Request: x.r, Header: http.Header{
		"X-Sandlock-Reason": {printable(reason)}, "Cache-Control": {"no-store"},
	}}
	if strings.HasPrefix(x.r.Header.Get("Content-Type"), "application/grpc") {
		code := grpcPermissionDenied
		if status == http.StatusBadGateway {
			code = grpcUnavailable
		}
		// A status without a body: what the gRPC protocol calls Trailers-Only.
		resp.StatusCode = http.StatusOK
		resp.Header["Content-Type"] = []string{x.r.Header.Get("Content-Type")}
		resp.Header["Grpc-Status"] = []string{strconv.Itoa(code)}
		resp.Header["Grpc-Message"] = []string{url.PathEscape(reason)}
		resp.Body = http.NoBody
		return resp
	}
	body := refusal{Error: reason, Request: x.String(), AllowWith: x.verdict.AllowWith}
	if x.verdict.Rule != nil {
		body.Rule = x.verdict.Rule.Text
	}
	var text bytes.Buffer
	e := json.NewEncoder(&text)
	e.SetEscapeHTML(false)
	_ = e.Encode(body) // strings only
	resp.Header["Content-Type"] = []string{"application/json"}
	resp.Header["Content-Length"] = []string{strconv.Itoa(text.Len())}
	resp.ContentLength = int64(text.Len())
	resp.Body = io.NopCloser(&text)
	return resp
}

// String names the request for people, without its query.
func (x *exchange) String() string {
	if !x.req.Host.IsZero() {
		return x.req.String()
	}
	target, _, _ := strings.Cut(x.r.RequestURI, "?")
	return x.r.Method + " " + x.r.Host + " " + target
}

// refuse answers a request that cannot be judged.
func (x *exchange) refuse(err error) {
	status := http.StatusBadRequest
	var e *rule.Error
	if errors.As(err, &e) {
		status = e.Status
	}
	x.reason = err.Error()
	x.send(x.refusal(status, x.reason))
}

// send writes an answer that did not go through the filter chain, and ends the
// connection of an HTTP/1 client.
func (x *exchange) send(resp *http.Response) {
	h := x.w.Header()
	for k, v := range resp.Header {
		h[k] = v
	}
	if x.r.ProtoMajor == 1 { // in HTTP/2 it would end the other streams' connection too
		h["Connection"] = []string{"close"}
	}
	x.w.WriteHeader(resp.StatusCode)
	_, _ = io.Copy(x.w, resp.Body)
}

// failure is the answer when the upstream gave none.
func (x *exchange) failure(err error) *http.Response {
	if x.f.head != nil {
		var e *rule.Error
		if errors.As(x.f.head.fault(), &e) {
			// It was allowed all the same, and its head may have arrived.
			x.reason = e.Reason
			return x.refusal(e.Status, e.Reason)
		}
	}
	if gone(err) && x.r.Context().Err() != nil {
		// Nobody reads the answer.
		x.reason = "the client went away"
		x.broken.Store(&err)
		return x.refusal(http.StatusBadGateway, x.reason)
	}
	reason := "the server gave no answer: " + err.Error()
	var refused *RefusedError
	var cert *tls.CertificateVerificationError
	var network *net.OpError
	switch {
	case errors.As(err, &refused):
		x.outcome, x.reason = Refused, refused.Reason
		return x.refusal(http.StatusForbidden, refused.Reason)
	case errors.As(err, &cert):
		reason = "the server's certificate is not valid: " + cert.Err.Error()
	case errors.Is(err, context.DeadlineExceeded):
		reason = "the server did not answer in time"
	case errors.As(err, &network) && network.Op == "remote error":
		reason = "the server refused TLS: " + network.Err.Error()
	}
	if x.reason == "" {
		x.reason = reason
	}
	return x.refusal(http.StatusBadGateway, reason)
}

// RefusedError is an error of Config.Dial: the policy does not let the connection
// through.
type RefusedError struct{ Reason string }

// Error returns the reason.
func (e *RefusedError) Error() string { return e.Reason }

// printable keeps a text fit for a header field.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r > '~' {
			return '?'
		}
		return r
	}, s)
}
