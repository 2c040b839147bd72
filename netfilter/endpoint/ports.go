package endpoint

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

const maxPort = 65535

type portRange struct{ lo, hi uint16 }

// PortSet is a set of port numbers. The zero PortSet is empty. Sets are values:
// nothing changes one after it was made.
type PortSet struct {
	// ranges are ordered, apart from each other by at least one port; every port
	// is one range from 0.
	ranges []portRange
}

// AllPorts returns the set of every port.
func AllPorts() PortSet { return PortSet{[]portRange{{0, maxPort}}} }

// Ports returns the set of the given ports.
func Ports(ports ...uint16) PortSet {
	var ranges []portRange
	for _, p := range ports {
		ranges = append(ranges, portRange{p, p})
	}
	return newPorts(ranges)
}

func newPorts(ranges []portRange) PortSet {
	slices.SortFunc(ranges, func(a, b portRange) int { return int(a.lo) - int(b.lo) })
	var out []portRange
	for _, r := range ranges {
		if last := len(out) - 1; last >= 0 && int(r.lo) <= int(out[last].hi)+1 {
			out[last].hi = max(out[last].hi, r.hi)
			continue
		}
		out = append(out, r)
	}
	// No rule can write port 0, so all that can be written is everything.
	if len(out) == 1 && out[0].lo <= 1 && out[0].hi == maxPort {
		out[0].lo = 0
	}
	return PortSet{out}
}

// Has tells whether the set holds port p.
func (s PortSet) Has(p uint16) bool {
	for _, r := range s.ranges {
		if r.lo <= p && p <= r.hi {
			return true
		}
	}
	return false
}

// IsAll tells whether the set holds every port.
func (s PortSet) IsAll() bool { return len(s.ranges) == 1 && s.ranges[0] == portRange{0, maxPort} }

// IsEmpty tells whether the set holds no port.
func (s PortSet) IsEmpty() bool { return len(s.ranges) == 0 }

// Covers tells whether s holds every port of o.
func (s PortSet) Covers(o PortSet) bool {
	for _, want := range o.ranges {
		if !slices.ContainsFunc(s.ranges, func(r portRange) bool { return r.lo <= want.lo && want.hi <= r.hi }) {
			return false
		}
	}
	return true
}

// Meets tells whether some port is in both sets.
func (s PortSet) Meets(o PortSet) bool {
	return slices.ContainsFunc(s.ranges, func(a portRange) bool {
		return slices.ContainsFunc(o.ranges, func(b portRange) bool { return a.lo <= b.hi && b.lo <= a.hi })
	})
}

func (s PortSet) equal(o PortSet) bool { return slices.Equal(s.ranges, o.ranges) }

func (s PortSet) union(o PortSet) PortSet {
	return newPorts(append(slices.Clone(s.ranges), o.ranges...))
}

// String returns the set as ParsePorts reads it; "" for the empty set.
func (s PortSet) String() string {
	if s.IsAll() {
		return "*"
	}
	var out []string
	for _, r := range s.ranges {
		text := strconv.Itoa(int(r.lo))
		if r.hi != r.lo {
			text += "-" + strconv.Itoa(int(r.hi))
		}
		out = append(out, text)
	}
	return strings.Join(out, ",")
}

// ParsePorts reads a list of ports and lo-hi ranges between commas, or "*" for
// every port. Blanks around an item are ignored. The error names the item and
// what to write.
func ParsePorts(text string) (PortSet, error) {
	var ranges []portRange
	every, items := 0, 0
	for item := range strings.SplitSeq(text, ",") {
		item = strings.TrimSpace(item)
		items++
		if item == "*" {
			every++
			continue
		}
		r, err := parseRange(item)
		if err != nil {
			return PortSet{}, err
		}
		ranges = append(ranges, r)
	}
	switch {
	case every == items:
		return AllPorts(), nil
	case every > 0:
		return PortSet{}, fmt.Errorf("%q mixes * with ports; write * alone for every port", shorten(text))
	}
	return newPorts(ranges), nil
}

func parseRange(item string) (portRange, error) {
	lo, hi, ranged := strings.Cut(item, "-")
	if !ranged {
		hi = lo
	}
	a, okA := parsePort(strings.TrimSpace(lo))
	b, okB := parsePort(strings.TrimSpace(hi))
	switch {
	case !okA || !okB:
		return portRange{}, fmt.Errorf("%q is not a port; write a number from 1 to 65535, a range such as 8000-8010, or *", shorten(item))
	case b < a:
		return portRange{}, fmt.Errorf("the range %q is reversed; write %d-%d", shorten(item), b, a)
	}
	return portRange{a, b}, nil
}

// parsePort takes digits only: no sign, no hexadecimal, no leading zero.
func parsePort(s string) (uint16, bool) {
	n, err := strconv.ParseUint(s, 10, 16)
	return uint16(n), err == nil && n != 0 && s[0] != '0' && s[0] != '+'
}

// BindPolicy says on which ports the sandbox may serve others than itself. The
// zero BindPolicy has no rule.
type BindPolicy struct{ Allow, Deny PortSet }

// BindVerdict is what a BindPolicy says about a port. When neither field is set
// no rule speaks of the port; never are both set.
type BindVerdict struct{ Allowed, Denied bool }

// Listen judges a port; a deny wins. Port 0, which the kernel replaces by one of
// its choice, is ruled only by *: judge the chosen port as well.
func (b BindPolicy) Listen(port uint16) BindVerdict {
	if b.Deny.Has(port) {
		return BindVerdict{Denied: true}
	}
	return BindVerdict{Allowed: b.Allow.Has(port)}
}
