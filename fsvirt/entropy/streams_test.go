package entropy

import (
	"math/rand/v2"
	"os"
	"os/exec"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func TestKeysAreSetApart(t *testing.T) {
	var k key
	seen := map[key]bool{k: true}
	for _, c := range []key{k.from("a"), k.from("b"), k.from("a", nil), k.from("a", []byte("b")), k.from("ab"), k.from("a", []byte("b"), nil), k.from("a", number(1)), k.from("a").from("a")} {
		if seen[c] {
			t.Fatal("two keys are one")
		}
		seen[c] = true
	}
	if one, other := k.from("a", number(7)), k.from("a", number(7)); one != other {
		t.Fatal("one key is two")
	}
}

// Processes get the same bytes whichever of them asks first.
func TestOrderOfProcessesDoesNotMatter(t *testing.T) {
	var kids []*exec.Cmd
	for range 3 {
		c := exec.Command("sleep", "60")
		if err := c.Start(); err != nil {
			t.Fatal(err)
		}
		defer func() { c.Process.Kill(); c.Wait() }()
		kids = append(kids, c)
	}
	read := func(order ...int) (out [3][8]byte) {
		s := &streams{root: key{}.from("seed")}
		s.read(os.Getpid(), make([]byte, 1))
		for _, i := range order {
			s.read(kids[i].Process.Pid, out[i][:])
		}
		return out
	}
	first := read(0, 1, 2)
	if other := read(2, 0, 1); other != first {
		t.Fatalf("%x, %x", first, other)
	}
	if first[0] == first[1] || first[1] == first[2] {
		t.Fatalf("two processes share a stream: %x", first)
	}
}

func TestUUID(t *testing.T) {
	for _, b := range [][16]byte{{}, {6: 0xff, 8: 0xff}} {
		u := uuid(b)
		if len(u) != 37 || u[14] != '4' || u[19] != '8' && u[19] != 'b' {
			t.Fatalf("%s", u)
		}
	}
}

func TestDevicesEnd(t *testing.T) {
	var d devices
	a, err := d.open(rand.NewChaCha8(key{}), false)
	if err != nil {
		t.Fatal(err)
	}
	b, err := d.open(rand.NewChaCha8(key{}), true)
	if err != nil {
		t.Fatal(err)
	}
	x, y := make([]byte, 100), make([]byte, 100)
	for range 50 {
		if n, err := unix.Read(a, x); n != len(x) || err != nil {
			t.Fatal(n, err)
		}
	}
	if n, err := unix.Read(b, y); n != len(y) || err != nil {
		t.Fatal(n, err)
	}
	unix.Close(a)
	for end := time.Now().Add(10 * time.Second); d.n.Load() != 1; time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("a closed device lives on")
		}
	}
	d.close()
	if n := d.n.Load(); n != 0 {
		t.Fatal(n)
	}
	unix.Close(b)
}
