package launch

import (
	"fmt"

	"github.com/sandlock/sandlock/internal/sys"
	"golang.org/x/sys/unix"
)

// Landlock ABIs that first have something (landlock(7)).
const (
	abiRefer    = 2 // Linux 5.19: a domain over files need not forbid renames across directories
	abiTruncate = 3 // Linux 6.2: truncate(2) is a right on files
	abiNet      = 4 // Linux 6.7: TCP bind and connect
	abiDevices  = 5 // Linux 6.10: ioctl(2) on devices
	abiScopes   = 6 // Linux 6.12: signals and abstract unix sockets
)

// Layers are what the kernel denies below the filter. All of them keep the memory
// and the descriptors of processes outside from those inside.
type Layers struct {
	Net    bool // TCP bind and connect
	Scopes bool // signals and abstract unix sockets across the border

	files uint64 // rights on files; 0 where one is missing that a denial needs
}

// KernelABI is the Landlock ABI of this kernel, 0 without Landlock.
func KernelABI() int { return sys.LandlockABI() }

// layersOf returns what an ABI has.
func layersOf(abi int) (Layers, error) {
	if abi < abiRefer {
		return Layers{}, fmt.Errorf("landlock ABI %d: needs ABI %d (Linux 5.19); put landlock into the kernel's lsm= list", abi, abiRefer)
	}
	l := Layers{Net: abi >= abiNet, Scopes: abi >= abiScopes}
	switch {
	case abi >= abiDevices:
		l.files = allFiles
	case abi >= abiTruncate:
		l.files = allFiles &^ unix.LANDLOCK_ACCESS_FS_IOCTL_DEV
	}
	return l, nil
}

// ruleset handles what the layers are, grants nothing of it, and, unless files is
// nil, handles every right on files and grants those of the rules. The caller owns
// it.
func (l Layers) ruleset(files []FileRule) (int, error) {
	var handled, net, scoped uint64
	if l.Net {
		net = unix.LANDLOCK_ACCESS_NET_BIND_TCP | unix.LANDLOCK_ACCESS_NET_CONNECT_TCP
	}
	if l.Scopes {
		scoped = unix.LANDLOCK_SCOPE_ABSTRACT_UNIX_SOCKET | unix.LANDLOCK_SCOPE_SIGNAL
	}
	switch {
	case files != nil && l.files == 0:
		return -1, fmt.Errorf("rules on files need landlock ABI %d (Linux 6.2)", abiTruncate)
	case files != nil:
		handled = l.files
	case !l.Net:
		// A ruleset must handle something: two rights that are given everywhere.
		handled = unix.LANDLOCK_ACCESS_FS_MAKE_BLOCK | unix.LANDLOCK_ACCESS_FS_REFER
		files = []FileRule{{Path: "/", Write: true}}
	}
	set, err := sys.LandlockRuleset(handled, net, scoped)
	if err != nil {
		return -1, err
	}
	for _, f := range files {
		if err := f.addTo(set, handled); err != nil {
			unix.Close(set)
			return -1, fmt.Errorf("%s: %w", f.Path, err)
		}
	}
	return set, nil
}
