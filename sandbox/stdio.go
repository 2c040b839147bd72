package sandbox

import (
	"errors"
	"io"
	"os"
	"sync"

	"golang.org/x/sys/unix"
)

var errStreamSet = errors.New("the stream was set already")

// pipes are the standard streams of one command: what it gets as 0 to 2, and
// the goroutines that move bytes for those that are no files.
type pipes struct {
	child  [3]int
	theirs []*os.File // closed once the command has them
	ours   []*os.File // closed when nothing of the run is left
	user   []*os.File // ends that StdinPipe and the like gave away, closed by Wait
	feed   func()     // moves the standard input, nil if a file does
	drain  []func() error

	draining sync.WaitGroup
	mu       sync.Mutex
	err      error // the first that a drain failed with
}

// open prepares the streams. After an error closeAll is still to be called.
func (p *pipes) open(o Options) error {
	if err := p.input(o.Stdin); err != nil {
		return err
	}
	if err := p.output(1, o.Stdout); err != nil {
		return err
	}
	if o.Stderr != nil && same(o.Stdout, o.Stderr) {
		return p.number(2, p.child[1])
	}
	return p.output(2, o.Stderr)
}

// same tells whether both are one writer, as os/exec does: writers of a type
// that cannot be compared are not.
func same(a, b io.Writer) bool {
	defer func() { _ = recover() }()
	return a == b
}

func (p *pipes) input(r io.Reader) error {
	switch r := r.(type) {
	case nil:
		return p.null(0, os.O_RDONLY)
	case *os.File:
		return p.file(0, r)
	}
	theirs, ours, err := os.Pipe()
	if err != nil {
		return err
	}
	p.theirs, p.ours = append(p.theirs, theirs), append(p.ours, ours)
	p.feed = func() {
		io.Copy(ours, r) // an error means that the command reads no more
		ours.Close()
	}
	return p.file(0, theirs)
}

func (p *pipes) output(n int, w io.Writer) error {
	switch w := w.(type) {
	case nil:
		return p.null(n, os.O_WRONLY)
	case *os.File:
		return p.file(n, w)
	}
	ours, theirs, err := os.Pipe()
	if err != nil {
		return err
	}
	p.theirs, p.ours = append(p.theirs, theirs), append(p.ours, ours)
	p.drain = append(p.drain, func() error {
		_, err := io.Copy(w, ours)
		ours.Close()
		if errors.Is(err, os.ErrClosed) {
			return nil
		}
		return err
	})
	return p.file(n, theirs)
}

func (p *pipes) null(n, mode int) error {
	f, err := os.OpenFile(os.DevNull, mode, 0)
	if err != nil {
		return err
	}
	p.theirs = append(p.theirs, f)
	return p.file(n, f)
}

func (p *pipes) file(n int, f *os.File) error {
	raw, err := f.SyscallConn()
	if err != nil {
		return err
	}
	fd := -1
	if err := raw.Control(func(x uintptr) { fd = int(x) }); err != nil {
		return err
	}
	if fd > 2 {
		// The command shall not see a pipe in the mode that suits Go. The standard
		// streams are left in the mode that the caller got them in.
		fd = int(f.Fd())
	}
	return p.number(n, fd)
}

// number makes fd the command's descriptor n. A standard descriptor under
// another number is copied first: the command's own may replace it before.
func (p *pipes) number(n, fd int) error {
	if fd <= 2 && fd != n {
		dup, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 3)
		if err != nil {
			return err
		}
		p.theirs = append(p.theirs, os.NewFile(uintptr(dup), "standard stream"))
		fd = dup
	}
	p.child[n] = fd
	return nil
}

// start moves the bytes; the command has its own descriptors.
func (p *pipes) start() {
	closeFiles(&p.theirs)
	if p.feed != nil {
		go p.feed()
	}
	for _, f := range p.drain {
		p.draining.Go(func() {
			if err := f(); err != nil {
				p.mu.Lock()
				defer p.mu.Unlock()
				p.err = errors.Join(p.err, err)
			}
		})
	}
}

// finish blocks until all output was handed on. With force the writers may live
// on: what they still write is lost.
func (p *pipes) finish(force bool) error {
	if force {
		closeFiles(&p.ours)
	}
	p.draining.Wait()
	closeFiles(&p.ours)
	return p.err
}

func (p *pipes) closeAll() {
	closeFiles(&p.theirs)
	closeFiles(&p.ours)
	closeFiles(&p.user)
}

func closeFiles(fs *[]*os.File) {
	for _, f := range *fs {
		f.Close() // a second close is an error and no harm
	}
	*fs = nil
}

// StdinPipe returns a pipe to the command's standard input. The caller closes
// it; Wait does so at the latest.
func (s *Sandbox) StdinPipe() (io.WriteCloser, error) {
	r, w, err := s.userPipe(s.opts.Stdin != nil)
	if err != nil {
		return nil, err
	}
	s.opts.Stdin = r
	s.pipes.theirs, s.pipes.user = append(s.pipes.theirs, r), append(s.pipes.user, w)
	return w, nil
}

// StdoutPipe returns a pipe from the command's standard output. It ends with the
// last process of the sandbox; Wait closes it, so read first.
func (s *Sandbox) StdoutPipe() (io.ReadCloser, error) { return s.outPipe(&s.opts.Stdout) }

// StderrPipe is StdoutPipe for the standard error.
func (s *Sandbox) StderrPipe() (io.ReadCloser, error) { return s.outPipe(&s.opts.Stderr) }

func (s *Sandbox) outPipe(stream *io.Writer) (io.ReadCloser, error) {
	r, w, err := s.userPipe(*stream != nil)
	if err != nil {
		return nil, err
	}
	*stream = w
	s.pipes.theirs, s.pipes.user = append(s.pipes.theirs, w), append(s.pipes.user, r)
	return r, nil
}

func (s *Sandbox) userPipe(set bool) (r, w *os.File, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.started:
		return nil, nil, ErrStarted
	case set:
		return nil, nil, errStreamSet
	}
	return os.Pipe()
}
