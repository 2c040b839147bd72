package passthrough

import "golang.org/x/sys/unix"

// roundBytes is how much one direction of one flow moves before the others
// have their turn.
const roundBytes = 1 << 20

// copyChunk is the most that is moved at once without a pipe.
const copyChunk = 64 << 10

// step lets a flow do what it can now.
func (e *Engine) step(f *flow) {
	switch f.phase {
	case inspecting:
		e.inspect(f)
	case lingering:
		e.discard(f)
	}
	if f.phase != relaying {
		return
	}
	again := false
	for side := range f.streams {
		more, broken, err := e.pump(f, side)
		if err != nil {
			e.fail(f, broken, err)
			return
		}
		again = again || more
	}
	if f.streams[client].done && f.streams[upstream].done {
		e.finish(f, nil)
	} else if again {
		e.enqueue(f)
	}
}

func (e *Engine) enqueue(f *flow) {
	if !f.queued {
		f.queued = true
		e.ready = append(e.ready, f)
	}
}

// pump moves bytes from side src to the other until one of them would block or
// the share is used up (more). It reads only into an empty pipe, so EAGAIN of a
// read is always the socket's. On an error, broken is the side that failed.
func (e *Engine) pump(f *flow, src int) (more bool, broken int, err error) {
	s := &f.streams[src]
	dst := 1 - src
	if s.done {
		return false, 0, nil
	}
	defer func() {
		if s.held == 0 {
			e.dropPipe(s)
		}
	}()
	if src == client && f.first != nil {
		if blocked, err := f.forward(); blocked || err != nil {
			return false, dst, err
		}
	}
	for budget := roundBytes; ; {
		switch {
		case s.held > 0 && !f.writable[dst]:
			return false, 0, nil
		case s.held > 0:
			n, err := splice(s.pipe.r, f.fd[dst], s.held)
			switch {
			case err == unix.EAGAIN:
				f.writable[dst] = false
			case err != nil:
				return false, dst, err
			}
			s.held -= n
			s.moved += int64(n)
			continue
		case s.eof:
			if f.failing {
				return false, 0, nil
			}
			s.done = true
			// ENOTCONN: the other side was reset, which its own event tells.
			_ = unix.Shutdown(f.fd[dst], unix.SHUT_WR)
			return false, 0, nil
		case !f.readable[src] || !f.writable[dst]:
			return false, 0, nil
		case budget <= 0:
			return true, 0, nil
		}
		e.takePipe(s)
		if s.pipe == nil {
			n, broken, err := e.copy(f, src)
			if err != nil {
				return false, broken, err
			}
			budget -= n
			continue
		}
		n, err := splice(f.fd[src], s.pipe.w, s.pipe.size)
		switch {
		case err == unix.EAGAIN:
			f.readable[src] = false
		case err != nil:
			return false, src, err
		case n == 0:
			s.eof = true
		}
		s.held = n
		budget -= n
	}
}

// copy moves bytes through memory, for when the system grants no pipe. It takes
// from the source only what the destination accepted, so nothing is left over.
func (e *Engine) copy(f *flow, src int) (n, broken int, err error) {
	if e.pipes.spare == nil {
		e.pipes.spare = make([]byte, copyChunk)
	}
	n, _, err = unix.Recvfrom(f.fd[src], e.pipes.spare, unix.MSG_PEEK|unix.MSG_DONTWAIT)
	switch {
	case err == unix.EINTR:
		return 0, 0, nil
	case err == unix.EAGAIN:
		f.readable[src] = false
		return 0, 0, nil
	case err != nil:
		return 0, src, err
	case n == 0:
		f.streams[src].eof = true
		return 0, 0, nil
	}
	n, err = send(f.fd[1-src], e.pipes.spare[:n])
	switch {
	case err == unix.EAGAIN:
		f.writable[1-src] = false
		return 0, 0, nil
	case err != nil:
		return 0, 1 - src, err
	}
	f.streams[src].moved += int64(n)
	for left := n; left > 0; {
		m, _, err := unix.Recvfrom(f.fd[src], e.pipes.spare[:left], unix.MSG_DONTWAIT)
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return n, src, err
		}
		if m == 0 {
			return n, src, unix.ECONNRESET
		}
		left -= m
	}
	return n, 0, nil
}

// forward sends the rest of the first message upstream and then forgets it.
func (f *flow) forward() (blocked bool, err error) {
	for f.first.sent < len(f.first.buf) {
		if !f.writable[upstream] {
			return true, nil
		}
		n, err := send(f.fd[upstream], f.first.buf[f.first.sent:])
		switch {
		case err == unix.EAGAIN:
			f.writable[upstream] = false
			return true, nil
		case err != nil:
			return false, err
		}
		f.first.sent += n
		f.streams[client].moved += int64(n)
	}
	f.first = nil
	return false, nil
}

// splice moves up to n bytes, retrying EINTR; with an error the count is 0. On
// a broken socket it is EPIPE; the signal that goes with it is of no effect in a
// Go program, whose runtime ignores SIGPIPE for descriptors other than 1 and 2.
func splice(from, to, n int) (int, error) {
	for {
		m, err := unix.Splice(from, nil, to, nil, n, unix.SPLICE_F_NONBLOCK|unix.SPLICE_F_MOVE)
		if err == unix.EINTR {
			continue
		}
		return max(0, int(m)), err
	}
}

// send writes without blocking and without SIGPIPE, retrying EINTR.
func send(fd int, p []byte) (int, error) {
	for {
		n, err := unix.SendmsgN(fd, p, nil, nil, unix.MSG_NOSIGNAL|unix.MSG_DONTWAIT)
		if err == unix.EINTR {
			continue
		}
		return n, err
	}
}
