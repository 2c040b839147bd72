package sandbox

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"

	"github.com/sandlock/sandlock/netfilter/endpoint"
	"github.com/sandlock/sandlock/netfilter/neighbour"
	httprule "github.com/sandlock/sandlock/proxy/rule"
)

// firstNeighbour is the first of the loopback addresses that stand for other
// sandboxes. A connection to one is never made as it is, so any would do.
var firstNeighbour = netip.AddrFrom4([4]byte{127, 83, 0, 1})

// neighbours are the sandboxes that allow rules name, as NAME.sandlock.
type neighbours struct {
	hosts map[endpoint.Name][]netip.Addr
	runs  map[netip.Addr]string
}

// compileNeighbours gives an address to each sandbox that a rule names.
func (c *Compiled) compileNeighbours() error {
	c.neighbours = neighbours{map[endpoint.Name][]netip.Addr{}, map[netip.Addr]string{}}
	var errs []error
	next := firstNeighbour
	for _, r := range c.rules {
		run, ok := strings.CutSuffix(r.Name.String(), "."+neighbour.Suffix)
		if wild := r.Kind == endpoint.KindWildcard; r.Action != endpoint.Allow || !ok && !(wild && r.Name.String() == neighbour.Suffix) {
			continue
		} else if wild || neighbour.CheckName(run) != nil {
			errs = append(errs, fmt.Errorf("%s: %q: name one sandbox, as in NAME.%s, by the --name of its run", r.Source, r.Text, neighbour.Suffix))
			continue
		}
		if r.Protocol != endpoint.TCP {
			errs = append(errs, fmt.Errorf("%s: %q: other sandboxes are reached over TCP only", r.Source, r.Text))
			continue
		}
		if c.neighbours.hosts[r.Name] == nil {
			c.neighbours.hosts[r.Name], c.neighbours.runs[next] = []netip.Addr{next}, run
			next = next.Next()
		}
	}
	return errors.Join(errs...)
}

// checkSeen refuses an HTTP rule, found at source, for other sandboxes:
// connections to them are not looked into.
func (c *Compiled) checkSeen(r *httprule.Rule, source, text string) error {
	t := r.Target()
	host := t.Name.String()
	if host == neighbour.Suffix || strings.HasSuffix(host, "."+neighbour.Suffix) {
		return fmt.Errorf("%s: %q: requests to other sandboxes are not seen; allow them as a whole, with --allow NAME.%s:PORT", source, text, neighbour.Suffix)
	}
	for i := range c.rules {
		a := &c.rules[i]
		at, ok := c.neighbours.hosts[a.Name]
		if ok && a.Kind == endpoint.KindName && t.Ports.Meets(a.Ports) && (t.CoversName(a.Name) || t.CoversAddr(at[0])) {
			return fmt.Errorf("%s: %q: covers %s, which %s %q allows, and requests to other sandboxes are not seen; name other hosts or ports", source, text, a.Name, a.Source, a.Text)
		}
	}
	return nil
}

// checkPortRemap refuses a name that other sandboxes could not use.
func checkPortRemap(p *Policy) error {
	if !p.PortRemap || p.Name == "" {
		return nil
	}
	if err := neighbour.CheckName(p.Name); err != nil {
		return fmt.Errorf("--name: with --port-remap, %w", err)
	}
	return nil
}
