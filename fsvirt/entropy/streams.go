// Package entropy gives a run the randomness of a seed: the same seed gives the
// same bytes, whatever the order in which processes run.
package entropy

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"math/rand/v2"
	"os"
	"strconv"
	"strings"
	"sync"
)

// maxProcesses bounds what is remembered; those that ended are forgotten then.
const maxProcesses = 4096

type key [sha256.Size]byte

// from derives a key from another one and from what sets this one apart.
func (k key) from(what string, parts ...[]byte) (out key) {
	h := sha256.New()
	h.Write(k[:])
	for _, p := range append([][]byte{[]byte(what)}, parts...) {
		h.Write(binary.LittleEndian.AppendUint64(nil, uint64(len(p))))
		h.Write(p)
	}
	h.Sum(out[:0])
	return out
}

func number(n int) []byte { return binary.LittleEndian.AppendUint64(nil, uint64(n)) }

// process is a process with a stream of its own. Which one is decided by where
// it comes from, not by its number: by the image that it runs (its parent's key,
// its arguments and how often that parent ran the same), or, after a fork
// without exec, by which of its parent's forks it is.
type process struct {
	key     key
	started string        // start time, which with the number is its identity
	stream  *rand.ChaCha8 // one for all threads: a task of Go's may move between them
	devices int           // opens of random devices
	forks   int           // children noted so far
	kids    map[int]int   // which one each is
	images  map[key]int   // how often each image was run from here
}

// streams are the processes of a run.
type streams struct {
	mu   sync.Mutex
	root key
	all  map[int]*process
	lost int // processes whose parent is not known

	overlooked []byte // a text in arguments that sets no images apart
}

// of returns a process, found by its number, and makes it if it is new.
func (s *streams) of(pid int) *process {
	started, parent := identify(pid)
	p := s.all[pid]
	if p != nil && p.started == started {
		return p
	}
	k := s.root.from("lost", number(s.lost))
	if up := s.all[parent]; up != nil {
		k = up.key.from("fork", number(up.child(parent, pid)))
	} else if len(s.all) > 0 {
		s.lost++
	}
	p = newProcess(k, started)
	s.keep(pid, p)
	return p
}

func newProcess(k key, started string) *process {
	return &process{key: k, started: started, stream: rand.NewChaCha8(k.from("stream")), kids: map[int]int{}, images: map[key]int{}}
}

func (s *streams) keep(pid int, p *process) {
	if s.all == nil {
		s.all = map[int]*process{}
	}
	if len(s.all) >= maxProcesses {
		for n, old := range s.all {
			if started, _ := identify(n); started != old.started {
				delete(s.all, n)
			}
		}
	}
	s.all[pid] = p
}

// image starts the streams of a process anew after an exec.
func (s *streams) image(pid int) *process {
	s.mu.Lock()
	defer s.mu.Unlock()
	args, _ := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/cmdline")
	if len(s.overlooked) > 0 {
		args = bytes.ReplaceAll(args, s.overlooked, nil)
	}
	started, parent := identify(pid)
	from := s.all[pid] // what ran here before the exec
	if from == nil || from.started != started {
		if from = s.all[parent]; from != nil {
			from.child(parent, pid) // its place among the children is taken
		}
	}
	k := s.root.from("image", args)
	if from != nil {
		what := from.key.from("image", args)
		k = what.from("again", number(from.images[what]))
		from.images[what]++
	}
	p := newProcess(k, started)
	s.keep(pid, p)
	return p
}

// born notes a process that was just forked.
func (s *streams) born(pid int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.of(pid)
}

// exit notes the children that a process leaves behind: soon nothing tells whose
// they were.
func (s *streams) exit(pid int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, n := range children(pid) {
		s.of(n)
	}
}

// child returns which of p's children a process is. Children are counted in the
// order of their birth, as the kernel lists them: those that were born before and
// were not yet noted are noted too.
func (p *process) child(parent, pid int) int {
	if n, noted := p.kids[pid]; noted {
		return n
	}
	if len(p.kids) > maxProcesses {
		clear(p.kids)
	}
	for _, n := range append(children(parent), pid) {
		if _, noted := p.kids[n]; !noted {
			p.forks++
			p.kids[n] = p.forks
		}
	}
	return p.kids[pid]
}

// children lists a process's children by birth (proc(5), /proc/pid/task/tid/children).
func children(pid int) (all []int) {
	dir := "/proc/" + strconv.Itoa(pid) + "/task/"
	tasks, _ := os.ReadDir(dir)
	for _, t := range tasks {
		text, _ := os.ReadFile(dir + t.Name() + "/children")
		for _, f := range strings.Fields(string(text)) {
			if n, err := strconv.Atoi(f); err == nil {
				all = append(all, n)
			}
		}
	}
	return all
}

// read fills buf from the stream of a process.
func (s *streams) read(pid int, buf []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.of(pid).stream.Read(buf)
}

// device returns the stream of a newly opened random device.
func (s *streams) device(pid int) *rand.ChaCha8 {
	s.mu.Lock()
	defer s.mu.Unlock()
	p := s.of(pid)
	p.devices++
	return rand.NewChaCha8(p.key.from("device", number(p.devices)))
}

// identify returns the start time of a process and its parent's number, "" and 0
// when it is gone (proc(5), /proc/pid/stat).
func identify(pid int) (started string, parent int) {
	const ppid, startTime = 1, 19 // fields behind the name
	text, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return "", 0
	}
	f := strings.Fields(string(text[strings.LastIndexByte(string(text), ')')+1:]))
	if len(f) <= startTime {
		return "", 0
	}
	parent, _ = strconv.Atoi(f[ppid])
	return f[startTime], parent
}
