// Package tunnel reaches hosts through another HTTP proxy: it asks for tunnels with
// CONNECT (RFC 9110 section 9.3.6).
package tunnel

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"strconv"
	"strings"

	"github.com/sandlock/sandlock/netfilter/endpoint"
)

// Proxy is where a proxy is and what it wants to know.
type Proxy struct {
	host string // a name, or the text of an address
	at   netip.AddrPort
	auth string // of Proxy-Authorization, empty for none
}

// Parse reads http://[USER:PASSWORD@]HOST:PORT. HOST is a name or an address. Errors
// name the remedy and never hold the password. It looks nothing up.
func Parse(text string) (*Proxy, error) {
	const form = "write http://HOST:PORT or http://USER:PASSWORD@HOST:PORT"
	u, err := url.Parse(text)
	switch {
	case err != nil: // its text may hold the password
		return nil, errors.New("this is no URL; " + form + ", with %XX for special characters in the password")
	case u.Scheme == "https":
		return nil, errors.New("TLS to the proxy itself is not spoken; " + form)
	case u.Scheme != "http" || u.Opaque != "":
		return nil, errors.New("this is not the URL of an HTTP proxy; " + form)
	case u.Path != "" && u.Path != "/" || u.RawQuery != "" || u.ForceQuery || u.Fragment != "":
		return nil, errors.New("a proxy has no path; " + form)
	}
	port, err := strconv.ParseUint(u.Port(), 10, 16)
	if err != nil || port == 0 {
		return nil, errors.New("the port of the proxy is missing or none; " + form)
	}
	p := &Proxy{host: u.Hostname()}
	if a, err := netip.ParseAddr(p.host); err == nil {
		p.at = netip.AddrPortFrom(a.Unmap().WithZone(""), uint16(port))
	} else if _, err := endpoint.ParseName(p.host); err == nil {
		p.at = netip.AddrPortFrom(netip.Addr{}, uint16(port))
	} else {
		return nil, errors.New("the host of the proxy is neither a name nor an address; " + form)
	}
	if u.User != nil {
		password, _ := u.User.Password()
		if strings.Contains(u.User.Username(), ":") { // RFC 7617 section 2
			return nil, errors.New("the user of the proxy holds a colon, which Basic cannot say; " + form)
		}
		p.auth = "Basic " + base64.StdEncoding.EncodeToString([]byte(u.User.Username()+":"+password))
	}
	return p, nil
}

// Resolve returns the proxy with its address, for which it asks the host's own
// resolver. It blocks for as long as that takes.
func (p Proxy) Resolve(ctx context.Context) (*Proxy, error) {
	if p.at.Addr().IsValid() {
		return &p, nil
	}
	addrs, err := net.DefaultResolver.LookupNetIP(ctx, "ip", p.host)
	if err != nil {
		return nil, err
	}
	if len(addrs) == 0 {
		return nil, fmt.Errorf("%s has no address", p.host)
	}
	// The first is the one that this host reaches best (RFC 6724).
	p.at = netip.AddrPortFrom(addrs[0].Unmap(), p.at.Port())
	return &p, nil
}

// Addr returns where the proxy listens; the address is invalid before Resolve.
func (p *Proxy) Addr() netip.AddrPort { return p.at }

// URL returns the proxy's URL without user and password.
func (p *Proxy) URL() string {
	return "http://" + net.JoinHostPort(p.host, strconv.Itoa(int(p.at.Port())))
}
