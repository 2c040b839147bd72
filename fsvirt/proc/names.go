package proc

import (
	"bytes"
	"strconv"

	"github.com/sandlock/sandlock/dispatch"
	"golang.org/x/sys/unix"
)

// uname answers with the host's names but for that of the host itself.
func (v *View) uname(c *dispatch.Call) dispatch.Action {
	var u unix.Utsname
	if err := unix.Uname(&u); err != nil {
		return dispatch.Fail(err)
	}
	u.Nodename = [len(u.Nodename)]byte{}
	copy(u.Nodename[:len(u.Nodename)-1], v.Hostname)
	fields := [][]byte{u.Sysname[:], u.Nodename[:], u.Release[:], u.Version[:], u.Machine[:], u.Domainname[:]}
	if err := c.Write(c.Arg(0), bytes.Join(fields, nil)); err != nil {
		return dispatch.Fail(err)
	}
	return dispatch.Return(0)
}

const (
	wordBytes = strconv.IntSize / 8 // the kernel counts masks in longs
	maxMask   = 1024                // bytes of a mask that are looked at: 8,192 processors, the kernel's own limit
)

// affinity shows the first CPUs processors to whoever asks which there are.
func (v *View) affinity(c *dispatch.Call) dispatch.Action {
	size := int(uint32(c.Arg(1)))
	if pid := c.Int(0); pid < 0 || pid > 0 && !v.mine(c, pid) {
		return dispatch.Errno(unix.ESRCH)
	}
	need := (v.CPUs + 7) / 8
	if size < 0 || size%wordBytes != 0 || size < need {
		return dispatch.Errno(unix.EINVAL) // sched_setaffinity(2)
	}
	words := (need + wordBytes - 1) / wordBytes * wordBytes
	mask := make([]byte, min(size, words, maxMask))
	for i := range v.CPUs {
		mask[i/8] |= 1 << (i % 8)
	}
	if err := c.Write(c.Arg(2), mask); err != nil {
		return dispatch.Fail(err)
	}
	return dispatch.Return(int64(len(mask)))
}
