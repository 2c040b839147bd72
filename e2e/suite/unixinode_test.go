package suite

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/sandlock/sandlock/internal/lab"
)

// listenAndConnect listens at its first argument, connects to the second and
// sends the third there. It prints both inode numbers.
const listenAndConnect = `
import os, socket, sys
l = socket.socket(socket.AF_UNIX); l.bind(sys.argv[1]); l.listen()
print("inodes", os.stat(sys.argv[1]).st_ino, os.stat(sys.argv[2]).st_ino, flush=True)
c = socket.socket(socket.AF_UNIX)
try:
    c.connect(sys.argv[2])
except PermissionError as e:
    sys.exit("refused: %s" % e)
c.sendall(sys.argv[3].encode()); print("connected")
`

// A socket of the host whose server cannot be listed (it is in another network
// namespace) and a socket of the sandbox with the same inode number on another
// file system are told apart.
func TestUnixSocketsWithOneInodeNumber(t *testing.T) {
	for _, u := range lab.Users {
		t.Run(string(u), func(t *testing.T) {
			host, own := tmpfs(t, u), tmpfs(t, u)
			path := filepath.Join(host, "s")
			lab.UnixOutside(t, path)
			if err := os.Chmod(path, 0o777); err != nil {
				t.Fatal(err)
			}
			args := func(n string) []string {
				os.Remove(filepath.Join(own, "s"))
				return []string{"/usr/bin/python3", "-c", listenAndConnect, filepath.Join(own, "s"), path, n}
			}
			n := lab.Nonce()
			lab.Bare(t, u, n, args(n)...)
			// The next file of the second file system gets the number of the first's
			// only in a fresh one.
			own = tmpfs(t, u)
			n = lab.Nonce()
			r := lab.Denied(t, lab.Denial{User: u, Command: args(n), Nonce: n, Answer: "refused", Log: path})
			var a, b int
			if _, err := fmt.Sscanf(r.Stdout, "inodes %d %d", &a, &b); err != nil || a != b {
				t.Fatalf("the inode numbers differ, so nothing was tested: %q", r.Stdout)
			}
			// The sandbox's own socket is reached all the same.
			self := []string{"/usr/bin/python3", "-c", listenAndConnect, filepath.Join(tmpfs(t, u), "own"), "", n}
			self[4] = self[3]
			if r := lab.Net(t, u, nil, self...); r.Code != 0 {
				t.Fatalf("own socket: code %d: %s%s", r.Code, r.Stdout, r.Stderr)
			}
		})
	}
}

// tmpfs mounts an empty file system that belongs to u and goes with the test.
func tmpfs(t *testing.T, u lab.User) string {
	t.Helper()
	dir := lab.Scratch(t, lab.Root)
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "mode=0777"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Unmount(dir, unix.MNT_DETACH) })
	return dir
}
