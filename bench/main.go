// Command bench measures what a sandbox costs: in one run, bare and sandboxed
// in turns, as medians and ratios, with the bar beside each. What needs a
// network has one of its own, from which no packet can leave.
//
//	go run ./bench [-quick] [-run REGEXP] [-sandlock FILE]
package main

import (
	"crypto/tls"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"strings"

	"github.com/sandlock/sandlock/internal/lab"
)

// measurement is one group of rows of the table.
type measurement struct {
	name string
	run  func(*bench) error
}

// outside are the measurements that need no network but loopback: they run as
// the user who calls, inside of nothing. Those of inside run in a lab.
var (
	outside = []measurement{
		{"start-up", startUp}, {"trapped call", trappedCall}, {"connect", connects}, {"call", calls}, {"command", commands},
		{"run: calls", runCalls}, {"run: commands", runCommands},
	}
	inside = []measurement{
		{"lookup", lookups}, {"throughput", throughput}, {"connection", connections}, {"memory", memory},
		{"http", interception},
	}
)

// bench is what the measurements share.
type bench struct {
	dir   string // what was built for this run
	quick bool
	only  *regexp.Regexp
	cert  tls.Certificate // of the lab; zero outside
	table table
}

func main() {
	if len(os.Args) > 1 && os.Args[1] == clientWord {
		client()
		return
	}
	if len(os.Args) > 1 && os.Args[1] == reverseWord {
		reverse(os.Args[2:])
	}
	quick := flag.Bool("quick", false, "a tenth of the rounds, for a first look")
	only := flag.String("run", "", "only the measurements whose name matches this `REGEXP`")
	binary := flag.String("sandlock", "", "measure this program, and sandlock-proxy beside it, instead of building them")
	flag.Parse()
	re, err := regexp.Compile(*only)
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(2)
	}
	b := &bench{quick: *quick, only: re}
	os.Exit(b.main(*binary))
}

func (b *bench) main(binary string) int {
	if lab.Entered() {
		b.dir = os.Getenv(envBuilt)
		return lab.Inside(".", func(cert tls.Certificate) int {
			b.cert = cert
			return b.report(inside)
		})
	}
	dir, err := os.MkdirTemp("", "sandlock-bench-")
	if err != nil {
		return fail(err)
	}
	defer os.RemoveAll(dir)
	b.dir = dir
	if err := b.build(binary); err != nil {
		return fail(err)
	}
	conditions("before")
	b.table.head()
	code := b.report(outside)
	if b.wanted(inside) {
		os.Setenv(envBuilt, dir)
		os.Setenv("SANDLOCK_BINARY", b.sandlock())
		code = max(code, lab.Inside(".", nil))
	}
	conditions("after")
	return code
}

// report runs measurements and returns 1 if one of them failed; a missed bar is
// shown, but is no failure.
func (b *bench) report(list []measurement) int {
	code := 0
	for _, m := range list {
		if !b.only.MatchString(m.name) {
			continue
		}
		if err := m.run(b); err != nil {
			fmt.Fprintf(os.Stderr, "bench: %s: %v\n", m.name, err)
			code = 1
		}
	}
	return code
}

func (b *bench) wanted(list []measurement) bool {
	for _, m := range list {
		if b.only.MatchString(m.name) {
			return true
		}
	}
	return false
}

// conditions tells under which circumstances the numbers came about.
func conditions(when string) {
	load, _ := os.ReadFile("/proc/loadavg")
	kernel, _ := exec.Command("uname", "-r").Output()
	cpus, _ := exec.Command("nproc").Output()
	text := func(b []byte) string { return strings.TrimSpace(string(b)) }
	fmt.Printf("%s: uid %d, Linux %s, %s processors, load %s\n", when, os.Getuid(), text(kernel), text(cpus), text(load))
}

func fail(err error) int {
	fmt.Fprintln(os.Stderr, "bench:", err)
	return 1
}
