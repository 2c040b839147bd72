package sandbox

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"

	"github.com/sandlock/sandlock/netfilter/endpoint"
	"github.com/sandlock/sandlock/netfilter/neighbour"
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
