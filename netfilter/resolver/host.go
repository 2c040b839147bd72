package resolver

import (
	"bytes"
	"net/netip"
	"strconv"
	"strings"

	"github.com/sandlock/sandlock/netfilter/endpoint"
)

const (
	dnsPort        = 53
	maxNameservers = 3  // MAXNS of resolv.conf(5)
	maxSearch      = 16 // domains
	maxNDots       = 15 // RES_MAXNDOTS of resolv.conf(5)
)

// ReadHost reads what resolv.conf(5) and hosts(5) say, from their contents: the
// nameservers, of which an IPv6 one may have a zone; the search list, where the last
// of the lines search and domain counts, and the number of dots below which it
// applies; the table of names. Without a nameserver line the upstream is
// 127.0.0.1. What cannot be read is skipped, as libc does.
func ReadHost(resolvConf, hosts []byte) (upstreams []netip.AddrPort, search []endpoint.Name, ndots int, names map[endpoint.Name][]netip.Addr) {
	ndots = 1
	for line := range bytes.Lines(resolvConf) {
		f := strings.Fields(string(line))
		if len(f) == 0 || bytes.ContainsAny(line[:1], "#;") {
			continue
		}
		switch f[0] {
		case "nameserver":
			if len(f) > 1 && len(upstreams) < maxNameservers {
				if a, err := netip.ParseAddr(f[1]); err == nil {
					upstreams = append(upstreams, netip.AddrPortFrom(a, dnsPort))
				}
			}
		case "search", "domain":
			search = readSearch(f[1:])
		case "options":
			ndots = readNDots(f[1:], ndots)
		}
	}
	if upstreams == nil {
		upstreams = []netip.AddrPort{netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), dnsPort)}
	}
	return upstreams, search, ndots, readTable(hosts)
}

func readTable(hosts []byte) map[endpoint.Name][]netip.Addr {
	names := map[endpoint.Name][]netip.Addr{}
	for line := range bytes.Lines(hosts) {
		line, _, _ = bytes.Cut(line, []byte("#"))
		f := strings.Fields(string(line))
		if len(f) < 2 {
			continue
		}
		a, err := netip.ParseAddr(f[0])
		if err != nil || a.Zone() != "" { // an answer cannot carry a zone
			continue
		}
		for _, h := range f[1:] {
			if n, err := endpoint.ParseName(h); err == nil {
				names[n] = append(names[n], a.Unmap())
			}
		}
	}
	return names
}

func readSearch(words []string) (search []endpoint.Name) {
	for _, s := range words {
		if n, err := endpoint.ParseName(s); err == nil && len(search) < maxSearch {
			search = append(search, n)
		}
	}
	return search
}

func readNDots(options []string, ndots int) int {
	for _, o := range options {
		if text, ok := strings.CutPrefix(o, "ndots:"); ok {
			if v, err := strconv.ParseUint(text, 10, 16); err == nil {
				ndots = min(int(v), maxNDots)
			}
		}
	}
	return ndots
}
