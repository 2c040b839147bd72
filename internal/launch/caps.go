package launch

import (
	"os"
	"unsafe"

	"golang.org/x/sys/unix"
)

// keepCaps are the capabilities that a command of root keeps: enough to install
// packages and to drop to other users, nothing that undoes the sandbox.
const keepCaps = 1<<unix.CAP_CHOWN | 1<<unix.CAP_DAC_OVERRIDE | 1<<unix.CAP_FOWNER | 1<<unix.CAP_FSETID |
	1<<unix.CAP_KILL | 1<<unix.CAP_SETUID | 1<<unix.CAP_SETGID | 1<<unix.CAP_SETPCAP | 1<<unix.CAP_SETFCAP |
	1<<unix.CAP_NET_BIND_SERVICE

// capabilities adds the steps that leave a command of root keepCaps and any other
// command nothing. An exec by root gains the bounding and the inheritable set;
// with no_new_privs it gains nothing beyond the permitted set (capabilities(7)),
// so all of them are cut. The results must stay reachable until the exec.
func (p *plan) capabilities() (*unix.CapUserHeader, *[2]unix.CapUserData, error) {
	header := &unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	data := new([2]unix.CapUserData)
	if err := unix.Capget(header, &data[0]); err != nil {
		return nil, nil, &Error{"capabilities", ExitFailure, err}
	}
	var keep uint64
	if os.Geteuid() == 0 {
		keep = keepCaps
	}
	p.add("ambient capabilities", unix.SYS_PRCTL, unix.PR_CAP_AMBIENT, unix.PR_CAP_AMBIENT_CLEAR_ALL)
	// Without CAP_SETPCAP the kernel refuses, and the permitted set below is the bound.
	for c := uintptr(0); data[0].Effective&(1<<unix.CAP_SETPCAP) != 0; c++ {
		set, _, e := unix.RawSyscall6(unix.SYS_PRCTL, unix.PR_CAPBSET_READ, c, 0, 0, 0, 0)
		if e != 0 {
			break
		}
		if set == 1 && keep&(1<<c) == 0 {
			s := p.add("capability bounding set", unix.SYS_PRCTL, unix.PR_CAPBSET_DROP, c)
			s.mode, s.arg = except, uintptr(unix.EPERM)
		}
	}
	for i := range data {
		k := uint32(keep >> (32 * i))
		data[i].Effective &= k
		data[i].Permitted &= k
		data[i].Inheritable = 0
	}
	p.add("capabilities", unix.SYS_CAPSET, uintptr(unsafe.Pointer(header)), uintptr(unsafe.Pointer(&data[0])))
	return header, data, nil
}
