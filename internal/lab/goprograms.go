package lab

import (
	"crypto/rand"
	"fmt"
	"net"
	"testing"
	"time"
)

// goPrograms are what a Go program does at a word.
var goPrograms = map[string]func() int{"interfaces": listInterfaces, "randomness": showRandomness, "now": showNow, "sleeps": sleepAWhile}

// GoProgram is the command line of a Go program: "interfaces" lists the network
// interfaces, "randomness" prints what is random, "now" the date, and "sleeps"
// fails unless its waits take as long as they should.
func GoProgram(t testing.TB, word string) []string {
	t.Helper()
	if goPrograms[word] == nil {
		t.Fatalf("no Go program %q", word)
	}
	return clientCommand(t, word)
}

func listInterfaces() int {
	all, err := net.Interfaces()
	if err != nil {
		return fail(err)
	}
	for _, i := range all {
		addrs, err := i.Addrs()
		if err != nil {
			return fail(err)
		}
		fmt.Println(i.Index, i.Name, i.MTU, i.Flags, addrs)
	}
	return 0
}

// showRandomness leaves out the order of maps and math/rand: while it starts, Go's
// runtime takes more or fewer of their numbers, as its threads happen to run.
func showRandomness() int {
	fmt.Println(rand.Text(), rand.Text())
	return 0
}

func showNow() int {
	fmt.Println(time.Now().UTC().Format(time.RFC3339))
	return 0
}

func sleepAWhile() int {
	const long = 200 * time.Millisecond
	for name, wait := range map[string]func(){
		"Sleep": func() { time.Sleep(long) }, "After": func() { <-time.After(long) },
		"AfterFunc": func() { done := make(chan int); time.AfterFunc(long, func() { close(done) }); <-done },
	} {
		from := time.Now()
		wait()
		if took := time.Since(from); took < long || took > guard {
			return fail(fmt.Errorf("%s took %s", name, took))
		}
	}
	return 0
}
