package passthrough

import "golang.org/x/sys/unix"

const (
	// maxPipes is how many empty pipes are kept.
	maxPipes = 64
	// maxBigPipes is how many of the grown ones: all pipes of a user together
	// may have 64 MiB (pipe-user-pages-soft, pipe(7)), not ours alone.
	maxBigPipes = 8
	// pipeSize is what a pipe has from birth (pipe(7)).
	pipeSize = 64 << 10
	// bigPipeSize is the most an unprivileged process gets (pipe-max-size).
	bigPipeSize = 1 << 20
	// busyBytes is how much a direction has moved when it gets a big pipe.
	busyBytes = 1 << 20
)

type pipe struct {
	r, w, size int
}

func (p *pipe) close() {
	unix.Close(p.r)
	unix.Close(p.w)
}

// pipes keeps empty pipes, last in first out: that one is warm in the cache.
type pipes struct {
	small, big []*pipe
	made       int // pipes that exist, for the tests
	noBig      bool
	spare      []byte // for moving bytes without a pipe
}

// takePipe gives s a pipe if it has none. It leaves s without when the system
// refuses one.
func (e *Engine) takePipe(s *stream) {
	if s.pipe != nil {
		return
	}
	busy := s.moved >= busyBytes
	if busy {
		if s.pipe = popPipe(&e.pipes.big); s.pipe != nil {
			return
		}
	}
	if s.pipe = popPipe(&e.pipes.small); s.pipe == nil {
		if s.pipe = popPipe(&e.pipes.big); s.pipe != nil {
			return
		}
		var fd [2]int
		if err := unix.Pipe2(fd[:], unix.O_CLOEXEC|unix.O_NONBLOCK); err != nil {
			return
		}
		e.pipes.made++
		s.pipe = &pipe{r: fd[0], w: fd[1], size: pipeSize}
	}
	if busy && !e.pipes.noBig {
		// The budget of the user may be used up: then small ones must do.
		n, err := unix.FcntlInt(uintptr(s.pipe.w), unix.F_SETPIPE_SZ, bigPipeSize)
		if err != nil {
			e.pipes.noBig = true
			return
		}
		s.pipe.size = n
	}
}

// dropPipe takes the pipe from s: an empty one is kept, one with bytes is closed.
func (e *Engine) dropPipe(s *stream) {
	p := s.pipe
	if p == nil {
		return
	}
	s.pipe = nil
	list, room := &e.pipes.small, maxPipes
	if p.size > pipeSize {
		list, room = &e.pipes.big, maxBigPipes
	}
	if s.held > 0 || len(*list) >= room || len(e.pipes.small)+len(e.pipes.big) >= maxPipes {
		s.held = 0
		e.pipes.made--
		p.close()
		return
	}
	*list = append(*list, p)
}

func popPipe(list *[]*pipe) *pipe {
	n := len(*list)
	if n == 0 {
		return nil
	}
	p := (*list)[n-1]
	(*list)[n-1] = nil
	*list = (*list)[:n-1]
	return p
}

func (p *pipes) close() {
	for _, list := range [][]*pipe{p.small, p.big} {
		for _, x := range list {
			x.close()
		}
	}
	p.small, p.big = nil, nil
}
