package event

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"os"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// scarce takes only room bytes, like a disk that fills up.
type scarce struct {
	bytes.Buffer
	room int
}

func (s *scarce) Write(p []byte) (int, error) {
	n := min(len(p), s.room)
	s.room -= n
	s.Buffer.Write(p[:n])
	if n < len(p) {
		return n, unix.ENOSPC
	}
	return n, nil
}

func TestTheLogGoesOnWhenThereIsRoomAgain(t *testing.T) {
	for room := range 200 {
		disk := &scarce{room: room}
		j := JSONLines(disk)
		failed := 0
		for range 3 {
			if err := j.Write(Event{Kind: Allow, Name: "before.example"}); err != nil {
				failed++
			}
		}
		disk.room = 1 << 20
		if err := j.Write(Event{Kind: Allow, Name: "after.example"}); err != nil {
			t.Fatal(err)
		}
		var lost, after, torn int
		for line := range strings.Lines(disk.String()) {
			var e map[string]any
			switch {
			case json.Unmarshal([]byte(line), &e) != nil:
				torn++
			case e["kind"] == "lost":
				lost += int(e["count"].(float64))
			case e["name"] == "after.example":
				after++
			}
		}
		if lost != failed || after != 1 || torn > 1 {
			t.Errorf("room %d: %d failed, %d reported as lost, %d torn lines, the event after: %d\n%s", room, failed, lost, torn, after, disk)
		}
	}
}

func TestCloseSaysWhatIsMissing(t *testing.T) {
	disk := &scarce{}
	j := JSONLines(disk)
	if err := j.Write(Event{}); !errors.Is(err, unix.ENOSPC) {
		t.Fatal(err)
	}
	if err := j.Close(); !errors.Is(err, unix.ENOSPC) {
		t.Errorf("Close returned %v", err)
	}
	disk.room = 1 << 10
	if err := j.Close(); err != nil || !strings.Contains(disk.String(), `"kind":"lost"`) {
		t.Errorf("Close returned %v and wrote %q", err, disk)
	}
}

// A program may make the standard error that it shares with us non-blocking.
func TestAFullNonBlockingPipeCostsNoLine(t *testing.T) {
	var fds [2]int
	if err := unix.Pipe2(fds[:], unix.O_CLOEXEC); err != nil {
		t.Fatal(err)
	}
	r, w := os.NewFile(uintptr(fds[0]), "r"), os.NewFile(uintptr(fds[1]), "w")
	defer r.Close()
	if err := unix.SetNonblock(fds[1], true); err != nil {
		t.Fatal(err)
	}
	filled := 0
	for {
		n, err := unix.Write(fds[1], make([]byte, 4096))
		if err == unix.EAGAIN {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		filled += n
	}
	written := make(chan error, 1)
	go func() {
		written <- Explain(w).Write(Event{Kind: Fault, Reason: "here"})
		w.Close()
	}()
	all, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	if err := <-written; err != nil {
		t.Fatal(err)
	}
	if got := string(all[filled:]); got != "sandlock: fault: here\n" {
		t.Errorf("after the filling: %q", got)
	}
}

// os.File would end the process here, were this descriptor 2.
func TestAReaderThatHasGoneIsAnError(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	r.Close()
	saved, err := unix.FcntlInt(2, unix.F_DUPFD_CLOEXEC, 3)
	if err != nil {
		t.Fatal(err)
	}
	conn, err := w.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	conn.Control(func(fd uintptr) { err = unix.Dup3(int(fd), 2, 0) })
	if err != nil {
		t.Fatal(err)
	}
	err = Explain(os.Stderr).Write(Event{Kind: Fault})
	if e := unix.Dup3(saved, 2, 0); e != nil {
		t.Fatal(e)
	}
	unix.Close(saved)
	if !errors.Is(err, unix.EPIPE) {
		t.Errorf("Write returned %v", err)
	}
}

func TestIsTerminal(t *testing.T) {
	master, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer master.Close()
	null, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	defer null.Close()
	if !isTerminal(master) || isTerminal(null) || isTerminal(&bytes.Buffer{}) {
		t.Error("took a terminal for none, or something else for one")
	}
}
