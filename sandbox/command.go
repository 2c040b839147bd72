package sandbox

import (
	"bytes"
	"context"
	"errors"
)

// maxStderr is how much of the end of the standard error Output keeps.
const maxStderr = 32 << 10

// Run runs the command of a policy and returns its exit code as a shell would:
// 128+n for signal n, 124 after the time-out. With an error nothing was run, or
// its status is unknown; the code is then 125, 126, 127, or 2 for ErrUsage.
func Run(ctx context.Context, c *Compiled, o Options) (int, error) {
	s := New(c, o)
	if err := s.begin(ctx); err != nil {
		return codeOf(err), err
	}
	s.reap(ctx)
	err := s.Wait()
	if exit := (*ExitError)(nil); err != nil && !errors.As(err, &exit) {
		return codeOf(err), err
	}
	if o.Exited != nil {
		o.Exited(s.state)
	}
	return s.state.ShellCode(), nil
}

// Run starts the command and waits for it.
func (s *Sandbox) Run(ctx context.Context) error {
	if err := s.begin(ctx); err != nil {
		return err
	}
	s.reap(ctx)
	return s.Wait()
}

// Output runs the command and returns its standard output. An *ExitError then
// holds the last 32 KiB of its standard error, unless Options.Stderr was set.
func (s *Sandbox) Output(ctx context.Context) ([]byte, error) {
	if s.opts.Stdout != nil {
		return nil, errStreamSet
	}
	var out bytes.Buffer
	var last tail
	s.opts.Stdout = &out
	if s.opts.Stderr == nil {
		s.opts.Stderr = &last
	}
	err := s.Run(ctx)
	if exit := (*ExitError)(nil); errors.As(err, &exit) {
		exit.Stderr = last.text
	}
	return out.Bytes(), err
}

// CombinedOutput runs the command and returns its standard output and standard
// error as one.
func (s *Sandbox) CombinedOutput(ctx context.Context) ([]byte, error) {
	if s.opts.Stdout != nil || s.opts.Stderr != nil {
		return nil, errStreamSet
	}
	var out bytes.Buffer
	s.opts.Stdout, s.opts.Stderr = &out, &out
	err := s.Run(ctx)
	return out.Bytes(), err
}

// tail keeps the last maxStderr bytes that were written to it.
type tail struct{ text []byte }

func (t *tail) Write(b []byte) (int, error) {
	t.text = append(t.text, b...)
	if extra := len(t.text) - maxStderr; extra > 0 {
		t.text = append(t.text[:0], t.text[extra:]...)
	}
	return len(b), nil
}
