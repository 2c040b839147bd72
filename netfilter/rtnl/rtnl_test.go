package rtnl

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"os"
	"testing"
	"time"

	"github.com/sandlock/sandlock/internal/launch"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

func open(t testing.TB) *Space {
	t.Helper()
	thread := launch.NewThread(launch.KernelABI())
	s, err := Open(thread)
	if err != nil {
		thread.Close()
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close(); thread.Close() })
	settle(t, s)
	return s
}

// settle waits for the route of the IPv6 stand-in, which the kernel adds a moment
// after the address.
func settle(t testing.TB, s *Space) {
	t.Helper()
	fd := raw(t, s)
	dump := func(typ int) []byte {
		msg := request{typ: typ, flags: unix.NLM_F_DUMP, body: append([]byte{unix.AF_INET6}, make([]byte, unix.SizeofIfInfomsg-1)...)}.bytes()
		return bytes.Join(replies(t, fd, msg, nil), nil)
	}
	stand := standIn6.AsSlice()
	if !bytes.Contains(dump(unix.RTM_GETADDR), stand) {
		return // the host has no IPv6
	}
	for end := time.Now().Add(10 * time.Second); !bytes.Contains(dump(unix.RTM_GETROUTE), stand); {
		if time.Now().After(end) {
			t.Fatal("no route to the stand-in")
		}
		time.Sleep(time.Millisecond)
	}
}

func program(t testing.TB, s *Space, pid int) (fd int, k *Socket) {
	t.Helper()
	fd, err := s.New(pid, unix.SOCK_RAW)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(fd) })
	limit := unix.NsecToTimeval(int64(10 * time.Second))
	if err := unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &limit); err != nil {
		t.Fatal(err)
	}
	cookie, err := unix.GetsockoptUint64(fd, unix.SOL_SOCKET, unix.SO_COOKIE)
	if err != nil {
		t.Fatal(err)
	}
	if k = s.Find(cookie); k == nil {
		t.Fatal("the socket is not known")
	}
	return fd, k
}

// raw is a netlink socket of the kernel's in the same namespace.
func raw(t testing.TB, s *Space) int {
	t.Helper()
	fd, err := s.helper.Socket(unix.AF_NETLINK, unix.SOCK_RAW, unix.NETLINK_ROUTE)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(fd) })
	return fd
}

type request struct {
	name        string
	typ, flags  int
	body        []byte
	attachments [][]byte
}

func (r request) bytes() []byte {
	m := nl.NewNetlinkRequest(r.typ, r.flags)
	m.Seq = 77
	m.AddRawData(r.body)
	for _, a := range r.attachments {
		m.AddRawData(a)
	}
	return m.Serialize()
}

func attr(kind int, data []byte) []byte { return nl.NewRtAttr(kind, data).Serialize() }

// link is a struct ifinfomsg for lo.
func link(flags, change uint32) []byte {
	m := nl.NewIfInfomsg(unix.AF_UNSPEC)
	m.Index, m.Flags, m.Change = 1, flags, change
	return m.Serialize()
}

func reads() []request {
	dump := unix.NLM_F_DUMP
	out := []request{
		{name: "link", typ: unix.RTM_GETLINK, body: link(0, 0)},
		{name: "link by name", typ: unix.RTM_GETLINK, body: make([]byte, unix.SizeofIfInfomsg), attachments: [][]byte{attr(unix.IFLA_IFNAME, nl.ZeroTerminated("lo"))}},
		{name: "no such link", typ: unix.RTM_GETLINK, body: append(make([]byte, 4), 99, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0)},
		{name: "short", typ: unix.RTM_GETLINK, body: []byte{1}},
		{name: "unknown type", typ: 1022, body: make([]byte, 16)},
		{name: "route to loopback", typ: unix.RTM_GETROUTE, body: []byte{unix.AF_INET, 32, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0}, attachments: [][]byte{attr(unix.RTA_DST, []byte{127, 0, 0, 1})}},
		{name: "no route", typ: unix.RTM_GETROUTE, body: []byte{unix.AF_INET, 32, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0}, attachments: [][]byte{attr(unix.RTA_DST, []byte{192, 0, 2, 1})}},
		{name: "acknowledged noop", typ: unix.NLMSG_NOOP, flags: unix.NLM_F_ACK},
	}
	for typ, name := range map[int]string{unix.RTM_GETLINK: "links", unix.RTM_GETADDR: "addresses", unix.RTM_GETROUTE: "routes", unix.RTM_GETNEIGH: "neighbours",
		unix.RTM_GETRULE: "rules", unix.RTM_GETQDISC: "qdiscs", unix.RTM_GETNEIGHTBL: "neighbour tables", unix.RTM_GETADDRLABEL: "labels", unix.RTM_GETNETCONF: "netconf"} {
		for _, family := range []byte{unix.AF_UNSPEC, unix.AF_INET, unix.AF_INET6} {
			for _, size := range []int{unix.SizeofRtGenmsg, 4, unix.SizeofIfInfomsg} {
				out = append(out, request{name: fmt.Sprintf("%s, family %d, %d bytes", name, family, size), typ: typ, flags: dump, body: append([]byte{family}, make([]byte, size-1)...)})
			}
		}
	}
	return out
}

func writes() []request {
	route := []byte{unix.AF_INET, 8, 0, 0, unix.RT_TABLE_MAIN, unix.RTPROT_BOOT, unix.RT_SCOPE_LINK, unix.RTN_UNICAST, 0, 0, 0, 0}
	oif := attr(unix.RTA_OIF, []byte{1, 0, 0, 0})
	create := unix.NLM_F_CREATE | unix.NLM_F_EXCL
	addr := []byte{unix.AF_INET, 8, 0, 0, 1, 0, 0, 0}
	ten := attr(unix.IFA_LOCAL, []byte{10, 0, 0, 1})
	dummy := nl.NewRtAttr(unix.IFLA_LINKINFO, nil)
	dummy.AddRtAttr(nl.IFLA_INFO_KIND, nl.NonZeroTerminated("dummy"))
	return []request{
		{name: "NEWLINK down", typ: unix.RTM_NEWLINK, body: link(0, unix.IFF_UP)},
		{name: "SETLINK down", typ: unix.RTM_SETLINK, body: link(0, unix.IFF_UP)},
		{name: "DELLINK", typ: unix.RTM_DELLINK, body: link(0, 0)},
		{name: "NEWLINK dummy", typ: unix.RTM_NEWLINK, flags: create, body: make([]byte, unix.SizeofIfInfomsg), attachments: [][]byte{attr(unix.IFLA_IFNAME, nl.ZeroTerminated("evil")), dummy.Serialize()}},
		{name: "NEWADDR", typ: unix.RTM_NEWADDR, flags: create, body: addr, attachments: [][]byte{ten}},
		{name: "DELADDR", typ: unix.RTM_DELADDR, body: addr, attachments: [][]byte{attr(unix.IFA_LOCAL, []byte{127, 0, 0, 1})}},
		{name: "NEWROUTE", typ: unix.RTM_NEWROUTE, flags: create, body: route, attachments: [][]byte{attr(unix.RTA_DST, []byte{10, 0, 0, 0}), oif}},
		{name: "DELROUTE", typ: unix.RTM_DELROUTE, body: route, attachments: [][]byte{oif}},
		{name: "NEWRULE", typ: unix.RTM_NEWRULE, flags: create, body: []byte{unix.AF_INET, 0, 0, 0, unix.RT_TABLE_MAIN, 0, 0, unix.RTN_UNICAST, 0, 0, 0, 0}},
		{name: "DELRULE", typ: unix.RTM_DELRULE, body: []byte{unix.AF_INET, 0, 0, 0, unix.RT_TABLE_MAIN, 0, 0, unix.RTN_UNICAST, 0, 0, 0, 0}},
		{name: "NEWNEIGH", typ: unix.RTM_NEWNEIGH, flags: create, body: []byte{unix.AF_INET, 0, 0, 0, 1, 0, 0, 0, unix.NUD_PERMANENT, 0, 0, 0}, attachments: [][]byte{attr(unix.NDA_DST, []byte{10, 0, 0, 2})}},
		{name: "NEWQDISC", typ: unix.RTM_NEWQDISC, flags: create, body: []byte{0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 255, 255, 255, 255, 0, 0, 0, 0}, attachments: [][]byte{attr(1, nl.ZeroTerminated("pfifo"))}},
		{name: "NEWTFILTER", typ: unix.RTM_NEWTFILTER, flags: create, body: make([]byte, 20)},
		{name: "NEWNSID", typ: unix.RTM_NEWNSID, flags: create, body: make([]byte, 4)},
		{name: "NEWNEXTHOP", typ: unix.RTM_NEWNEXTHOP, flags: create, body: make([]byte, 8)},
		{name: "NEWADDRLABEL", typ: unix.RTM_NEWADDRLABEL, flags: create, body: make([]byte, 12)},
	}
}

// replies collects what a request brings, up to its end, datagram by datagram,
// without the port.
func replies(t testing.TB, fd int, msg []byte, to unix.Sockaddr) [][]byte {
	t.Helper()
	var err error
	if to == nil {
		_, err = unix.Write(fd, msg)
	} else {
		err = unix.Sendto(fd, msg, 0, to)
	}
	if err != nil {
		t.Fatal(err)
	}
	var out [][]byte
	for {
		buf := make([]byte, maxMessage)
		n, err := unix.Read(fd, buf)
		if err != nil {
			t.Fatalf("after %d replies: %v", len(out), err)
		}
		buf = buf[:n]
		out = append(out, buf)
		more := false
		for rest := buf; len(rest) >= unix.NLMSG_HDRLEN; {
			size := binary.NativeEndian.Uint32(rest)
			if size < unix.NLMSG_HDRLEN || int(size) > len(rest) {
				t.Fatalf("bad length %d in %x", size, buf)
			}
			copy(rest[12:16], make([]byte, 4)) // nlmsg_pid
			typ, flags := binary.NativeEndian.Uint16(rest[4:]), binary.NativeEndian.Uint16(rest[6:])
			more = flags&unix.NLM_F_MULTI != 0 && typ != unix.NLMSG_DONE
			rest = rest[min(len(rest), int(size+3)&^3):]
		}
		if !more {
			return out
		}
	}
}

// counted are attributes whose bytes tell of use and time: RTA_CACHEINFO of routes,
// IFLA_INET6_CACHEINFO of links (a reachable time is drawn anew now and then)
// and NDTA_CONFIG of neighbour tables, with their sizes (linux/rtnetlink.h,
// linux/neighbour.h).
var counted = []struct {
	message    uint16
	size, kind byte
}{{unix.RTM_NEWROUTE, 32, unix.RTA_CACHEINFO}, {unix.RTM_NEWNEIGHTBL, 32, 5}, {unix.RTM_NEWLINK, 16, 5}}

// uncounted clears them.
func uncounted(reply []byte) []byte {
	for _, c := range counted {
		if binary.NativeEndian.Uint16(reply[4:]) != c.message {
			continue
		}
		head := []byte{unix.NLA_HDRLEN + c.size, 0, c.kind, 0}
		for at := 0; ; {
			i := bytes.Index(reply[at:], head)
			if i < 0 {
				break
			}
			at += i + len(head)
			clear(reply[at:min(at+int(c.size), len(reply))])
		}
	}
	return reply
}

// Each reply has the very bytes, in the very datagrams, that the kernel sends
// for an empty network namespace.
func TestRepliesAreTheKernels(t *testing.T) {
	s := open(t)
	ours, _ := program(t, s, os.Getpid())
	kernel := raw(t, s)
	for _, r := range reads() {
		t.Run(r.name, func(t *testing.T) {
			msg := r.bytes()
			got, want := replies(t, ours, msg, nil), replies(t, kernel, msg, nil)
			if len(got) != len(want) {
				t.Fatalf("%d datagrams, the kernel sends %d", len(got), len(want))
			}
			for i := range got {
				if !bytes.Equal(uncounted(got[i]), uncounted(want[i])) {
					t.Errorf("datagram %d:\n got %x\nwant %x", i, got[i], want[i])
				}
			}
		})
	}
}

// state is what the namespace holds.
func state(t testing.TB, fd int) (all []byte) {
	t.Helper()
	for _, typ := range []int{unix.RTM_GETLINK, unix.RTM_GETADDR, unix.RTM_GETROUTE, unix.RTM_GETNEIGH, unix.RTM_GETRULE, unix.RTM_GETQDISC} {
		msg := request{typ: typ, flags: unix.NLM_F_DUMP, body: make([]byte, unix.SizeofIfInfomsg)}.bytes()
		for _, d := range replies(t, fd, msg, nil) {
			all = append(all, uncounted(d)...)
		}
	}
	return all
}

// No message changes the namespace, with an address or without. The control
// shows that the messages are well formed: the same ones work on a socket of the
// kernel's when they carry an address.
func TestNoMessageChangesTheNamespace(t *testing.T) {
	s := open(t)
	ours, k := program(t, s, os.Getpid())
	kernel := raw(t, s)
	before := state(t, kernel)
	toKernel := &unix.SockaddrNetlink{Family: unix.AF_NETLINK}
	refused := func(t *testing.T, got [][]byte) {
		t.Helper()
		if len(got) != 1 || binary.NativeEndian.Uint16(got[0][4:]) != unix.NLMSG_ERROR {
			t.Fatalf("not refused: %x", got)
		}
		if e := -int32(binary.NativeEndian.Uint32(got[0][unix.NLMSG_HDRLEN:])); e != int32(unix.EPERM) {
			t.Fatalf("refused with %v", unix.Errno(e))
		}
	}
	for _, r := range writes() {
		t.Run(r.name, func(t *testing.T) {
			r.flags |= unix.NLM_F_ACK
			msg := r.bytes()
			refused(t, replies(t, ours, msg, nil))
			refused(t, replies(t, kernel, msg, nil)) // opened by a helper without capabilities
			finish, err := k.TrySend(msg)
			if finish != nil {
				err = finish()
			}
			if err != nil {
				t.Fatal(err)
			}
			buf := make([]byte, maxMessage)
			n, err := unix.Read(ours, buf)
			if err != nil {
				t.Fatal(err)
			}
			refused(t, [][]byte{buf[:n]})
		})
	}
	if after := state(t, kernel); !bytes.Equal(before, after) {
		t.Fatal("the namespace changed")
	}
	control := request{typ: unix.RTM_NEWLINK, flags: unix.NLM_F_ACK, body: link(0, unix.IFF_UP)}
	got := replies(t, kernel, control.bytes(), toKernel)
	if e := binary.NativeEndian.Uint32(got[0][unix.NLMSG_HDRLEN:]); e != 0 {
		t.Fatalf("control: %v", unix.Errno(-int32(e)))
	}
	if after := state(t, kernel); bytes.Equal(before, after) {
		t.Fatal("control: nothing changed")
	}
}

func TestNamesAreTheKernels(t *testing.T) {
	s := open(t)
	a, ka := program(t, s, 4711)
	_, kb := program(t, s, 4711)
	if n := ka.Name(); n.Pid != 0 {
		t.Fatalf("port %d before the first use", n.Pid)
	}
	replies(t, a, reads()[0].bytes(), nil)
	if n := ka.Name(); n.Pid != 4711 {
		t.Fatalf("port %d, want the process's number", n.Pid)
	}
	if err := kb.Bind(Encode(&unix.SockaddrNetlink{})); err != nil {
		t.Fatal(err)
	}
	if n := kb.Name(); int32(n.Pid) >= -4096 {
		t.Fatalf("port %d of the second socket", int32(n.Pid))
	}
	for _, c := range []struct {
		name string
		err  error
		want error
	}{
		{"again", kb.Bind(Encode(&unix.SockaddrNetlink{Pid: 5})), unix.EINVAL},
		{"family", kb.Bind([]byte{unix.AF_INET, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0}), unix.EINVAL},
		{"short", kb.Bind([]byte{unix.AF_NETLINK, 0}), unix.EINVAL},
		{"connect to the kernel", kb.Connect(Encode(&unix.SockaddrNetlink{})), nil},
		{"connect to another", kb.Connect(Encode(&unix.SockaddrNetlink{Pid: 4711})), unix.EPERM},
		{"strict", kb.SetOption(unix.NETLINK_GET_STRICT_CHK, 1), nil},
		{"all namespaces", kb.SetOption(unix.NETLINK_LISTEN_ALL_NSID, 1), unix.EPERM},
		{"no option", kb.SetOption(999, 1), unix.ENOPROTOOPT},
	} {
		if c.err != c.want {
			t.Errorf("%s: %v, want %v", c.name, c.err, c.want)
		}
	}
	// The sender's address: of netlink's size, and the kernel's behind the family.
	if _, err := unix.Write(a, reads()[0].bytes()); err != nil {
		t.Fatal(err)
	}
	_, from, err := unix.Recvfrom(a, make([]byte, maxMessage), 0)
	un, ok := from.(*unix.SockaddrUnix)
	if err != nil || !ok || un.Name != "@" {
		t.Fatalf("%#v, %v", from, err)
	}
}

// A program that asks and never listens holds up nobody, and the end.
func TestDeafProgram(t *testing.T) {
	s := open(t)
	deaf, _ := program(t, s, 1)
	if err := unix.SetNonblock(deaf, true); err != nil {
		t.Fatal(err)
	}
	msg := reads()[0].bytes()
	sent := 0
	for full := time.Now().Add(10 * time.Second); time.Now().Before(full); sent++ {
		if _, err := unix.Write(deaf, msg); err == unix.EAGAIN {
			break
		} else if err != nil {
			t.Fatal(err)
		}
	}
	other, _ := program(t, s, 2)
	replies(t, other, msg, nil)
	if err := unix.SetNonblock(deaf, false); err != nil {
		t.Fatal(err)
	}
	for range sent {
		if _, err := unix.Read(deaf, make([]byte, maxMessage)); err != nil {
			t.Fatal(err)
		}
	}
}

func TestClosedSocketsLeaveNothing(t *testing.T) {
	s := open(t)
	count := func() int {
		entries, err := os.ReadDir("/proc/self/fd")
		if err != nil {
			t.Fatal(err)
		}
		return len(entries)
	}
	turn := func() {
		fd, err := s.New(1, unix.SOCK_DGRAM)
		if err != nil {
			t.Fatal(err)
		}
		replies(t, fd, reads()[0].bytes(), nil)
		unix.Close(fd)
	}
	settle := func(want int) int {
		for end := time.Now().Add(10 * time.Second); ; time.Sleep(time.Millisecond) {
			s.mu.Lock()
			idle := !s.busy
			s.mu.Unlock()
			if n := count(); !s.Live() && idle && n <= want || time.Now().After(end) {
				return n
			}
		}
	}
	turn()
	before := settle(1 << 20)
	before = max(before, settle(before))
	for range 200 {
		turn()
	}
	if after := settle(before + (maxStock+batch)*3); after > before+(maxStock+batch)*3 {
		t.Fatalf("%d descriptors before, %d after", before, after)
	}
}

func TestTooManySockets(t *testing.T) {
	s := open(t)
	s.mu.Lock()
	for i := range maxSockets {
		s.all[1<<63|uint64(i)] = nil
	}
	s.mu.Unlock()
	if fd, err := s.New(1, unix.SOCK_RAW); err != ErrTooMany {
		t.Fatal(fd, err)
	}
	s.mu.Lock()
	clear(s.all)
	s.mu.Unlock()
}

func FuzzMessages(f *testing.F) {
	for _, r := range append(reads(), writes()...) {
		f.Add(r.bytes())
	}
	s := open(f)
	kernel := raw(f, s)
	before := state(f, kernel)
	f.Fuzz(func(t *testing.T, msg []byte) {
		fd, k := program(t, s, 1)
		if err := unix.SetNonblock(fd, true); err != nil {
			t.Fatal(err)
		}
		if len(msg) > maxMessage {
			return
		}
		finish, _ := k.TrySend(msg)
		if finish != nil {
			return // more answers than the program takes
		}
		for buf := make([]byte, maxMessage); ; {
			if _, err := unix.Read(fd, buf); err != nil {
				break
			}
		}
		if !bytes.Equal(before, state(t, kernel)) {
			t.Fatalf("%x changed the namespace", msg)
		}
	})
}
