package netfilter

import (
	"bytes"
	"fmt"
	"os"
	"strconv"

	"golang.org/x/sys/unix"
)

const minorBits = 20 // MINORBITS of linux/kdev_t.h

// superBlock returns the device number of the file system that an open file is
// on, as the kernel holds it (sockdiag.UnixSocket.Dev): mountinfo gives it where
// stat(2) has a number of the file system's own.
func superBlock(fd int) (uint32, error) {
	var st unix.Statx_t
	if err := unix.Statx(fd, "", unix.AT_EMPTY_PATH, unix.STATX_MNT_ID, &st); err != nil {
		return 0, err
	}
	if st.Mask&unix.STATX_MNT_ID == 0 {
		return 0, unix.EOPNOTSUPP
	}
	text, err := os.ReadFile("/proc/thread-self/mountinfo")
	if err != nil {
		return 0, err
	}
	want := strconv.AppendUint(nil, st.Mnt_id, 10)
	for line := range bytes.Lines(text) {
		// mount ID, parent ID, major:minor, and more (proc_pid_mountinfo(5)).
		f := bytes.SplitN(line, []byte(" "), 4)
		if len(f) != 4 || !bytes.Equal(f[0], want) {
			continue
		}
		major, minor, _ := bytes.Cut(f[2], []byte(":"))
		ma, err1 := strconv.ParseUint(string(major), 10, 12)
		mi, err2 := strconv.ParseUint(string(minor), 10, minorBits)
		if err1 != nil || err2 != nil {
			return 0, fmt.Errorf("mountinfo has device %q", f[2])
		}
		return uint32(ma)<<minorBits | uint32(mi), nil
	}
	return 0, fmt.Errorf("mount %d is not in mountinfo", st.Mnt_id)
}
