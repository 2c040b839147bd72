package sandbox

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/sandlock/sandlock/internal/control"
)

// ErrNoRun reports that no run of a name is there.
var ErrNoRun = control.ErrNoRun

// autoNames is how many runs without a name one process can show at once.
const autoNames = 4096

// killWait is how long a run that was killed may take to go.
const killWait = 10 * time.Second

// Status is what is known about a run while it lasts.
type Status struct {
	Name       string    `json:"name"`
	Supervisor int       `json:"supervisor"` // process
	PID        int       `json:"pid"`        // of the command
	Command    []string  `json:"command"`
	Started    time.Time `json:"started"`
	State      string    `json:"state"` // running, paused, ending, or stopped with its supervisor
	Audit      bool      `json:"audit"`
}

// Inspection is everything that a run tells about itself.
type Inspection struct {
	Status
	Chains    string            `json:"chains"`    // as Chains has it
	Traps     map[string]uint64 `json:"traps"`     // how often each system call asked
	Handlers  map[string]uint64 `json:"handlers"`  // how often each handler was asked
	Processes int               `json:"processes"` // in the sandbox
	Policy    string            `json:"policy"`    // as TOML, without the values of Env
}

// The verbs of the control socket.
const (
	verbStatus  = "status"
	verbInspect = "inspect"
	verbKill    = "kill"
)

func openControl(p *parts, _ *Compiled, o Options) error {
	if !o.Control {
		return nil
	}
	var err error
	if p.name != "" {
		if p.control, err = control.Reserve(p.name); err != nil {
			return usage{fmt.Errorf("--name: %q: %w; choose another name, or end that run with sandlock kill %s", p.name, err, p.name)}
		}
	} else {
		base := "sandbox-" + strconv.Itoa(os.Getpid())
		p.name = base
		for i := 2; i < autoNames; i++ {
			if p.control, err = control.Reserve(p.name); !errors.Is(err, control.ErrInUse) {
				break
			}
			p.name = base + "-" + strconv.Itoa(i)
		}
		if err != nil {
			return fmt.Errorf("control socket: %w", err)
		}
	}
	p.onClose(p.control.Close)
	return nil
}

// Name returns the name under which the run can be found, the policy's if that
// has one; "" before the start.
func (s *Sandbox) Name() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.started {
		return ""
	}
	return s.run.name
}

// Traps returns how often each system call has asked the supervisor, by name,
// and nil before the start.
func (s *Sandbox) Traps() map[string]uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.started {
		return nil
	}
	return s.run.loop.Traps()
}

// Handled returns how often each handler was asked, by name, and nil before the
// start.
func (s *Sandbox) Handled() map[string]uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.started {
		return nil
	}
	return s.run.loop.Handled()
}

// answer serves the control socket.
func (s *Sandbox) answer(verb string) (any, error) {
	switch verb {
	case verbStatus:
		return s.status(), nil
	case verbInspect:
		return s.inspect()
	case verbKill:
		return nil, s.Kill()
	}
	return nil, fmt.Errorf("unknown verb %q", verb)
}

func (s *Sandbox) status() Status {
	s.mu.Lock()
	defer s.mu.Unlock()
	state := "running"
	switch {
	case s.ended:
		state = "ending"
	case s.paused:
		state = "paused"
	}
	return Status{s.run.name, os.Getpid(), s.run.proc.PID, s.compiled.Policy.Command, s.began, state, s.compiled.Policy.Audit}
}

func (s *Sandbox) inspect() (*Inspection, error) {
	policy, err := s.compiled.Policy.TOML()
	if err != nil {
		return nil, err
	}
	var chains strings.Builder
	if _, err := s.run.table.WriteTo(&chains); err != nil {
		return nil, err
	}
	members, err := s.run.thread.Members()
	if err != nil {
		return nil, err
	}
	return &Inspection{Status: s.status(), Policy: string(policy), Chains: chains.String(), Traps: s.Traps(), Handlers: s.Handled(), Processes: len(members)}, nil
}

// Running lists the runs of the calling user that have Options.Control, in the
// caller's network namespace. One that ends meanwhile is left out; of one that is
// stopped there is only the Name.
func Running() ([]Status, error) {
	names, err := control.Names()
	if err != nil {
		return nil, err
	}
	var out []Status
	for _, name := range names {
		var s Status
		switch err := control.Ask(name, verbStatus, &s); {
		case err == nil && s.Name == name:
			out = append(out, s)
		case errors.Is(err, os.ErrDeadlineExceeded):
			out = append(out, Status{Name: name, State: "stopped"})
		}
	}
	return out, nil
}

// Inspect asks a run of the calling user about itself. It fails with ErrNoRun.
func Inspect(name string) (*Inspection, error) {
	var i Inspection
	if err := control.Ask(name, verbInspect, &i); err != nil {
		return nil, err
	}
	return &i, nil
}

// KillRun ends a run of the calling user and blocks until it is gone. It fails
// with ErrNoRun.
func KillRun(name string) error {
	if err := control.Wake(name); err != nil {
		return err
	}
	err := control.Ask(name, verbKill, nil)
	if err != nil && !errors.Is(err, control.ErrNoAnswer) { // it may go before it has answered
		return err
	}
	for deadline := time.Now().Add(killWait); time.Now().Before(deadline); time.Sleep(time.Millisecond) {
		if errors.Is(control.Ask(name, verbStatus, nil), control.ErrNoRun) {
			return nil
		}
	}
	return errors.Join(fmt.Errorf("%s does not end", name), err)
}
