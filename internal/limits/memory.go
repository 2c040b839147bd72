package limits

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/sandlock/sandlock/internal/event"
	"github.com/sandlock/sandlock/internal/sys"
	"golang.org/x/sys/unix"
)

// How often memory is measured, and how often when half of the limit is used:
// between two measurements a program may use more. Every fileTurns-th measurement
// looks for files in memory too.
const (
	calm      = 100 * time.Millisecond
	alert     = 10 * time.Millisecond
	fileTurns = 5
)

// Memory bounds what a sandbox really uses: resident and swapped anonymous pages,
// shared memory, and files in memory, mapped or not. Address space that is only
// reserved counts for nothing. Above the limit the process that uses most is
// killed.
type Memory struct {
	limit   uint64
	members func() ([]int, error)
	emit    func(event.Event)
	used    atomic.Uint64
	files   map[uint64]uint64 // inode of a file in memory -> bytes, of the last look
}

// NewMemory returns the bound, in bytes.
func NewMemory(limit uint64, members func() ([]int, error), emit func(event.Event)) *Memory {
	return &Memory{limit: limit, members: members, emit: emit}
}

// Usage returns the limit and what the last measurement found, in bytes.
func (m *Memory) Usage() (limit, used uint64) { return m.limit, m.used.Load() }

// Run measures until ctx ends.
func (m *Memory) Run(ctx context.Context) {
	t := time.NewTimer(alert)
	defer t.Stop()
	for turn := 0; ; turn++ {
		select {
		case <-ctx.Done():
			return
		case <-t.C:
		}
		m.measure(turn%fileTurns == 0)
		next := calm
		if m.used.Load() > m.limit/2 {
			next = alert
		}
		t.Reset(next)
	}
}

// usage is what one process uses, in bytes.
type usage struct {
	pid   int
	bytes uint64
}

func (m *Memory) measure(look bool) {
	pids, err := m.members()
	if err != nil {
		return // the next turn tries again
	}
	if look {
		m.files = map[uint64]uint64{}
		for _, pid := range pids {
			memoryFiles(pid, m.files)
		}
	}
	// First at most: pages that processes share count for each of them.
	total, files := uint64(0), uint64(0)
	for _, size := range m.files {
		files += size
	}
	for _, pid := range pids {
		total += sum(pid, "status", "RssAnon:", "RssShmem:", "VmSwap:")
	}
	if total+files > m.limit {
		total = m.exact(pids, files)
	} else {
		total += files
	}
	m.used.Store(total)
}

// exact counts shared pages once, and kills when there are still too many.
func (m *Memory) exact(pids []int, files uint64) uint64 {
	total, worst := uint64(0), usage{}
	shared := uint64(0)
	for _, pid := range pids {
		own := sum(pid, "smaps_rollup", "Pss_Anon:", "SwapPss:")
		mapped := sum(pid, "smaps_rollup", "Pss_Shmem:")
		total += own
		shared += mapped
		if own+mapped > worst.bytes || worst.pid == 0 {
			worst = usage{pid, own + mapped}
		}
	}
	// A mapped file in memory is in both.
	total += max(shared, files)
	if total > m.limit && worst.pid != 0 && m.kill(worst.pid) {
		m.emit(event.Event{Kind: event.Deny, PID: int32(worst.pid), Protocol: "memory",
			Reason: fmt.Sprintf("%d MiB are used, of which this process uses most; it was killed", total>>20), AllowWith: fmt.Sprintf("--max-memory %dM", 2*m.limit>>20)})
	}
	return total
}

// kill holds the process by a descriptor while it is judged, for its number may
// be another's by the time it was measured.
func (m *Memory) kill(pid int) bool {
	p, err := sys.PidfdOpen(pid, 0)
	if err != nil {
		return false
	}
	defer unix.Close(p)
	pids, err := m.members()
	return err == nil && slices.Contains(pids, pid) && unix.PidfdSendSignal(p, unix.SIGKILL, nil, 0) == nil
}

// sum adds up the given lines, in kB, of a file of /proc/pid (proc(5)).
func sum(pid int, file string, keys ...string) uint64 {
	text, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/" + file)
	if err != nil {
		return 0 // it has ended
	}
	const kilo = 1024
	total := uint64(0)
	for line := range bytes.Lines(text) {
		for _, k := range keys {
			rest, ok := bytes.CutPrefix(line, []byte(k))
			if !ok {
				continue
			}
			if f := bytes.Fields(rest); len(f) > 0 {
				n, _ := strconv.ParseUint(string(f[0]), 10, 64)
				total += n * kilo
			}
		}
	}
	return total
}

// memoryFiles notes the files in memory that a process has open, by inode.
func memoryFiles(pid int, sizes map[uint64]uint64) {
	dir := "/proc/" + strconv.Itoa(pid) + "/fd/"
	d, err := os.Open(dir)
	if err != nil {
		return
	}
	defer d.Close()
	names, _ := d.Readdirnames(-1)
	for _, name := range names {
		to, err := os.Readlink(dir + name)
		if err != nil || !strings.HasPrefix(to, "/memfd:") && !strings.HasPrefix(to, "/dev/shm/") {
			continue
		}
		var st unix.Stat_t
		const block = 512 // of st_blocks, inode(7)
		if unix.Stat(dir+name, &st) == nil {
			sizes[st.Ino] = uint64(st.Blocks) * block
		}
	}
}
