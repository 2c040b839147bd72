package main

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/sandlock/sandlock/bench/measure"
)

// worker is a process that does what it is told, n times, and tells what that
// cost. It runs bare or in a sandbox, from where one ask follows another.
type worker struct {
	cmd *exec.Cmd
	in  io.WriteCloser
	out *bufio.Scanner
}

// start runs a command line that ends in a worker's.
func (b *bench) start(args ...string) (*worker, error) {
	c := exec.Command(args[0], args[1:]...)
	in, err := c.StdinPipe()
	if err != nil {
		return nil, err
	}
	out, err := c.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := c.Start(); err != nil {
		return nil, err
	}
	w := &worker{cmd: c, in: in, out: bufio.NewScanner(out)}
	return w, nil
}

// sandboxed is a subcommand of the program and its flags.
type sandboxed struct {
	command string
	flags   []string
}

// closed reaches nothing.
var closed = sandboxed{"net", []string{"--allow", "127.0.0.1:1"}}

// line is the command line that runs args in such a sandbox.
func (b *bench) line(how sandboxed, args ...string) []string {
	return append(append(append([]string{b.sandlock(), how.command}, how.flags...), "--"), args...)
}

func (b *bench) net(flags []string, args ...string) []string {
	return b.line(sandboxed{"net", flags}, args...)
}

// pair starts a worker bare and another under "sandlock net" with the flags.
func (b *bench) pair(flags []string, args ...string) (bare, boxed *worker, err error) {
	return b.pairOf(sandboxed{"net", flags}, args...)
}

// pairOf starts a worker bare and another in a sandbox.
func (b *bench) pairOf(how sandboxed, args ...string) (bare, boxed *worker, err error) {
	if bare, err = b.start(args...); err != nil {
		return nil, nil, err
	}
	if boxed, err = b.start(b.line(how, args...)...); err != nil {
		bare.close()
		return nil, nil, err
	}
	return bare, boxed, nil
}

// ask has the worker do a command n times.
func (w *worker) ask(n int, command string, args ...string) (measure.Sample, error) {
	none := measure.Sample{}
	line := strings.Join(append([]string{command, strconv.Itoa(n)}, args...), " ")
	if _, err := fmt.Fprintln(w.in, line); err != nil {
		return none, err
	}
	if !w.out.Scan() {
		return none, fmt.Errorf("the worker ended at %q: %v", line, w.out.Err())
	}
	var wall, cpu int64
	if _, err := fmt.Sscan(w.out.Text(), &wall, &cpu); err != nil {
		return none, fmt.Errorf("%q answered %q", line, w.out.Text())
	}
	return measure.Sample{Wall: time.Duration(wall), CPU: time.Duration(cpu)}, nil
}

// subject asks for n times a command, as one round.
func (w *worker) subject(n int, command string, args ...string) measure.Subject {
	return func() (measure.Sample, error) { return w.ask(n, command, args...) }
}

func (w *worker) close() {
	w.in.Close()
	w.cmd.Wait()
}

// supervised is the processor time that the worker's first process, which is the
// supervisor for a sandboxed one, has used so far. Threads that ended are not in it.
func (w *worker) supervised() time.Duration { return processTime(w.cmd.Process.Pid) }

func processTime(pid int) time.Duration {
	var sum int64
	files, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/schedstat", pid))
	for _, f := range files {
		text, err := os.ReadFile(f)
		if err != nil {
			continue
		}
		first, _, _ := strings.Cut(string(text), " ") // time on the processor in ns, sched-stats
		n, _ := strconv.ParseInt(first, 10, 64)
		sum += n
	}
	return time.Duration(sum)
}

// rounds of a measurement, fewer of them with -quick.
func (b *bench) rounds(n int) measure.Limit {
	if b.quick {
		n = max(n/10, 5)
	}
	return measure.Limit{Rounds: n}
}

// each divides a median by the number of times that a round has.
func each(d time.Duration, n int) time.Duration { return d / time.Duration(n) }
