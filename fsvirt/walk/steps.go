package walk

import (
	"bytes"

	"golang.org/x/sys/unix"
)

// steps is one walk that looks at every component by itself. It is for paths
// that lead through /proc, where links mean the process that follows them.
type steps struct {
	w     *Walker
	c     Caller
	h     How
	cur   Object // the directory reached
	root  Object // where ".." and absolute links end; FD -1 is the file system's root
	start Object // what RESOLVE_BENEATH may not leave
	mount uint64 // with RESOLVE_NO_XDEV
	links int
}

// run walks from the descriptor base, which stays the caller's.
func (s *steps) run(base int) (Place, error) {
	s.root, s.start = Object{FD: -1}, Object{FD: -1}
	defer func() { s.cur.Close(); s.root.Close(); s.start.Close() }()
	var err error
	if s.h.Path[0] == '/' && s.h.Resolve&unix.RESOLVE_BENEATH != 0 {
		s.cur.FD = -1
		return nowhere(), unix.EXDEV
	}
	if base == unix.AT_FDCWD {
		s.cur, err = pin(openat2(base, "/", unix.O_PATH|unix.O_CLOEXEC, 0))
	} else {
		s.cur, err = pin(unix.FcntlInt(uintptr(base), unix.F_DUPFD_CLOEXEC, 0))
	}
	if err != nil {
		return nowhere(), err
	}
	switch {
	case s.h.Resolve&unix.RESOLVE_IN_ROOT != 0:
		s.root, err = s.cur.dup()
	case s.h.Resolve&unix.RESOLVE_BENEATH != 0:
		s.start, err = s.cur.dup()
	}
	if err == nil && s.h.Resolve&unix.RESOLVE_NO_XDEV != 0 {
		s.mount, err = mountID(s.cur.FD)
	}
	if err != nil {
		return nowhere(), err
	}
	return s.follow(s.h.Path)
}

func nowhere() Place { return Place{Parent: Object{FD: -1}, Object: Object{FD: -1}} }

// follow walks rest from s.cur.
func (s *steps) follow(rest []byte) (Place, error) {
	for {
		rest = bytes.TrimLeft(rest, "/")
		name, after, _ := bytes.Cut(rest, []byte("/"))
		slash := len(name) < len(rest)
		after = bytes.TrimLeft(after, "/")
		last := len(after) == 0
		if s.cur.Stat.Mode&unix.S_IFMT != unix.S_IFDIR {
			return nowhere(), unix.ENOTDIR
		}
		switch string(name) {
		case "", ".", "..":
			if string(name) == ".." {
				if err := s.up(); err != nil {
					return nowhere(), err
				}
			}
			if last {
				return s.here(slash)
			}
			rest = after
			continue
		}
		next, err := pin(openat2(s.cur.FD, string(name), pathFlags(true), 0))
		if err == unix.ENOENT && last {
			p := Place{Parent: s.cur, Name: string(name), Slash: slash, Object: next}
			s.cur.FD = -1
			return p, nil
		}
		if err != nil {
			return nowhere(), err
		}
		if err := s.crossed(&next); err != nil {
			next.Close()
			return nowhere(), err
		}
		if next.Stat.Mode&unix.S_IFMT == unix.S_IFLNK && (!last || slash || !s.h.NoFollow) {
			target, jump, err := s.link(&next, string(name))
			next.Close()
			if err != nil {
				return nowhere(), err
			}
			if jump.FD < 0 {
				if rest, err = s.enter(target, after, slash); err != nil {
					return nowhere(), err
				}
				continue
			}
			next = jump
		}
		isDir := next.Stat.Mode&unix.S_IFMT == unix.S_IFDIR
		if (slash || !last) && !isDir {
			next.Close()
			return nowhere(), unix.ENOTDIR
		}
		if last {
			p := Place{Parent: s.cur, Name: string(name), Slash: slash, Object: next}
			s.cur.FD = -1
			return p, nil
		}
		s.cur.Close()
		s.cur, rest = next, after
	}
}

// here is the place of a path that ends in the directory reached.
func (s *steps) here(slash bool) (Place, error) {
	o, err := s.cur.dup()
	if err != nil {
		return nowhere(), err
	}
	p := Place{Parent: s.cur, Name: ".", Slash: slash, Object: o}
	s.cur.FD = -1
	return p, nil
}

// up goes to the parent directory, as far as the root.
func (s *steps) up() error {
	if at, err := s.at(&s.start); err != nil {
		return err
	} else if at {
		return unix.EXDEV
	}
	if at, err := s.at(&s.root); at || err != nil {
		return err
	}
	next, err := pin(openat2(s.cur.FD, "..", unix.O_PATH|unix.O_CLOEXEC|unix.O_DIRECTORY, 0))
	if err != nil {
		return err
	}
	if err := s.crossed(&next); err != nil {
		next.Close()
		return err
	}
	s.cur.Close()
	s.cur = next
	return nil
}

// at tells whether the directory reached is o, through the same mount.
func (s *steps) at(o *Object) (bool, error) {
	if o.FD < 0 || !s.cur.Same(o) {
		return false, nil
	}
	here, err := mountID(s.cur.FD)
	if err != nil {
		return false, err
	}
	there, err := mountID(o.FD)
	return here == there, err
}

// link reads a symbolic link of the directory reached: either its text, or the
// object that a link of /proc jumps to.
func (s *steps) link(next *Object, name string) (target []byte, jump Object, err error) {
	jump.FD = -1
	if s.links++; s.links > maxLinks || s.h.Resolve&unix.RESOLVE_NO_SYMLINKS != 0 {
		return nil, jump, unix.ELOOP
	}
	if next.proc {
		return s.procLink(next, name)
	}
	target, err = readlink(next.FD)
	return target, jump, err
}

// enter puts a link's text before what is left of the path.
func (s *steps) enter(target, after []byte, slash bool) ([]byte, error) {
	if len(target) == 0 {
		return nil, unix.ENOENT
	}
	if target[0] == '/' {
		if err := s.toRoot(); err != nil {
			return nil, err
		}
	}
	if len(after) == 0 && !slash {
		return target, nil
	}
	return append(append(bytes.Clone(target), '/'), after...), nil
}

func (s *steps) toRoot() error {
	if s.h.Resolve&unix.RESOLVE_BENEATH != 0 {
		return unix.EXDEV
	}
	var next Object
	var err error
	if s.root.FD >= 0 {
		next, err = s.root.dup()
	} else {
		next, err = pin(openat2(unix.AT_FDCWD, "/", unix.O_PATH|unix.O_CLOEXEC, 0))
	}
	if err != nil {
		return err
	}
	if err := s.crossed(&next); err != nil {
		next.Close()
		return err
	}
	s.cur.Close()
	s.cur = next
	return nil
}

// crossed fails with EXDEV where RESOLVE_NO_XDEV forbids another mount.
func (s *steps) crossed(next *Object) error {
	if s.h.Resolve&unix.RESOLVE_NO_XDEV == 0 {
		return nil
	}
	id, err := mountID(next.FD)
	if err == nil && id != s.mount {
		err = unix.EXDEV
	}
	return err
}

func (o *Object) dup() (Object, error) {
	fd, err := unix.FcntlInt(uintptr(o.FD), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return Object{FD: -1}, err
	}
	return Object{FD: fd, Stat: o.Stat, proc: o.proc}, nil
}

func mountID(fd int) (uint64, error) {
	var st unix.Statx_t
	err := unix.Statx(fd, "", unix.AT_EMPTY_PATH, unix.STATX_MNT_ID, &st)
	return st.Mnt_id, err
}

func readlink(fd int) ([]byte, error) {
	buf := make([]byte, PathMax)
	n, err := unix.Readlinkat(fd, "", buf)
	if err != nil {
		return nil, err
	}
	return buf[:n], nil
}
