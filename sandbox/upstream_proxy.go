package sandbox

import (
	"context"
	"fmt"
	"net/url"
	"time"

	"github.com/sandlock/sandlock/netfilter/tunnel"
)

// proxyLookup is how long the name of the upstream proxy may take to resolve: as long
// as libc's two attempts of five seconds (resolv.conf(5)).
const proxyLookup = 10 * time.Second

func (c *Compiled) compileProxy(p *Policy) (err error) {
	if p.UpstreamProxy == "" {
		return nil
	}
	if c.proxy, err = tunnel.Parse(p.UpstreamProxy); err != nil {
		return fmt.Errorf("--upstream-proxy: %w", err)
	}
	return nil
}

// chained is what the endpoint policy has to know about the proxy: on which more ports
// the interceptor reads whom a connection is for.
func (c *Compiled) chained() func(port uint16) bool {
	if c.proxy == nil {
		return nil
	}
	return func(port uint16) bool { return c.HTTP != nil && c.HTTP.Looks(port) }
}

// resolveProxy returns the policy's proxy with its address, nil for none. It blocks
// for up to proxyLookup.
func (c *Compiled) resolveProxy() (*tunnel.Proxy, error) {
	if c.proxy == nil {
		return nil, nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), proxyLookup)
	defer cancel()
	p, err := c.proxy.Resolve(ctx)
	if err != nil {
		return nil, usage{fmt.Errorf("--upstream-proxy: %w; name a proxy that this machine can resolve, or its address", err)}
	}
	return p, nil
}

// proxyWithoutPassword returns the URL as it may be shown.
func (p *Policy) proxyWithoutPassword() string {
	u, err := url.Parse(p.UpstreamProxy)
	if err != nil {
		return ""
	}
	u.User = nil
	return u.String()
}
