package proc

import (
	"bytes"
	"fmt"

	"github.com/sandlock/sandlock/dispatch"
	"github.com/sandlock/sandlock/fsvirt/open"
	"github.com/sandlock/sandlock/fsvirt/walk"
)

// mounts is one of a process's mount tables: the root, read-only, and what the
// policy opens.
func (v *View) mounts(table string) []byte {
	var b bytes.Buffer
	all := append([]Mount{{Path: "/", Type: "rootfs"}, {Path: "/proc", Type: "proc"}}, v.Mounts...)
	for i, m := range all {
		mode := "ro"
		if m.Write {
			mode = "rw"
		}
		path := escapeMount(m.Path)
		switch table {
		case "mountinfo":
			parent := firstMount
			if i == 0 {
				parent--
			}
			fmt.Fprintf(&b, "%d %d 0:%d / %s %s,relatime - %s sandlock %s\n", firstMount+i, parent, firstMount+i, path, mode, m.Type, mode)
		case "mountstats":
			fmt.Fprintf(&b, "device sandlock mounted on %s with fstype %s\n", path, m.Type)
		default:
			fmt.Fprintf(&b, "sandlock %s %s %s,relatime 0 0\n", path, m.Type, mode)
		}
	}
	return b.Bytes()
}

const firstMount = 20 // as good as any number

// escapeMount writes a path as the mount tables do (proc(5)): in octal.
func escapeMount(path string) string {
	var b bytes.Buffer
	for _, c := range []byte(path) {
		switch c {
		case ' ', '\t', '\n', '\\':
			fmt.Fprintf(&b, "\\%03o", c)
		default:
			b.WriteByte(c)
		}
	}
	return b.String()
}

// network holds the files of /proc/net that are shown, as a host that has only
// its loopback interface would show them.
var network = map[string]string{
	"dev": "Inter-|   Receive                                                |  Transmit\n" +
		" face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets errs drop fifo colls carrier compressed\n" +
		"    lo:       0       0    0    0    0     0          0         0        0       0    0    0    0     0       0          0\n",
	"if_inet6":   "00000000000000000000000000000001 01 80 10 80       lo\n",
	"tcp":        "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n",
	"tcp6":       "  sl  local_address                         remote_address                        st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n",
	"udp":        "   sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode ref pointer drops\n",
	"udp6":       "  sl  local_address                         remote_address                        st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode ref pointer drops\n",
	"unix":       "Num       RefCount Protocol Flags    Type St Inode Path\n",
	"route":      "Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT\n",
	"arp":        "IP address       HW type     Flags       HW address            Mask     Device\n",
	"ipv6_route": "00000000000000000000000000000001 80 00000000000000000000000000000000 00 00000000000000000000000000000000 00000000 00000001 00000000 00000001       lo\n",
}

// network answers an open below /proc/pid/net.
func (v *View) network(c *dispatch.Call, r *open.Request, o *walk.Object, names []string) dispatch.Action {
	if len(names) == 0 {
		return v.perform(r, o)
	}
	if v.TCP != nil && len(names) == 1 && (names[0] == "tcp" || names[0] == "tcp6") {
		return v.answer(r, names[0], func() ([]byte, error) { return v.TCP(names[0]) })
	}
	if text, ok := network[names[0]]; ok && len(names) == 1 {
		return v.give(r, names[0], []byte(text))
	}
	return v.refuse(c, o, "the host's network")
}
