package sandbox

import (
	"slices"

	"github.com/sandlock/sandlock/internal/launch"
	"github.com/sandlock/sandlock/internal/sockdiag"
	"github.com/sandlock/sandlock/netfilter"
	"golang.org/x/sys/unix"
)

// datagrams chooses the mode of datagram sockets for a run and says why it is the
// mediated one. It tries whether user namespaces work.
func (c *Compiled) datagrams() (mode netfilter.Mode, why string) {
	if why = c.mediates(); why != "" {
		return netfilter.Mediated, why
	}
	if err := launch.UserNamespaces(); err != nil {
		return netfilter.Mediated, "user namespaces do not work: " + err.Error()
	}
	return netfilter.Contained, ""
}

// mediates says why a policy needs the mediated mode on every host, "" if it does
// not.
func (c *Compiled) mediates() string {
	switch {
	case c.Policy.Audit:
		return "--audit lets datagrams through"
	case c.Endpoints.HasDatagramRules():
		return "a rule allows udp:// or icmp://"
	case slices.ContainsFunc(c.Unix, boundDatagram):
		return "--allow-unix names a datagram socket"
	}
	return ""
}

// boundDatagram tells whether a unix datagram socket has the path now.
func boundDatagram(path string) bool {
	var st unix.Stat_t
	if unix.Stat(path, &st) != nil || st.Mode&unix.S_IFMT != unix.S_IFSOCK {
		return false
	}
	found, err := sockdiag.UnixDatagram(st.Ino)
	return err == nil && len(found) > 0
}
