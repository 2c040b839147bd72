package main

import (
	"bufio"
	"fmt"
	"os"
	"strconv"
	"strings"
)

const (
	maxResident = 25 << 10 // KiB of the supervisor with all flows
	maxPerFlow  = 50       // KiB
	flows       = 1200
)

// memory looks at the supervisor's resident memory, idle and with idle flows
// through it. The latter come in two halves: the first pays for what is made once.
func memory(b *bench) error {
	net, err := b.network("--allow", serverName)
	if err != nil {
		return err
	}
	defer net.close()
	boxed := net.boxed
	if _, err := boxed.ask(1, "fetch", serverName, tlsPort); err != nil {
		return err
	}
	idle, err := resident(boxed)
	if err != nil {
		return err
	}
	var at [2]int
	for i := range at {
		if _, err := boxed.ask(flows/2, "hold", serverName, tlsPort); err != nil {
			return err
		}
		if at[i], err = resident(boxed); err != nil {
			return err
		}
	}
	perFlow := float64(at[1]-idle) / flows
	b.table.add(row{name: "memory: supervisor, one flow", boxed: kib(idle), bar: "<= " + kib(maxResident), holds: idle <= maxResident})
	b.table.add(row{name: fmt.Sprintf("memory: supervisor, %d idle flows", flows), boxed: kib(at[1]), bar: "<= " + kib(maxResident), holds: at[1] <= maxResident})
	b.table.add(row{name: "memory: per idle flow", boxed: fmt.Sprintf("%.1f KiB", perFlow), bar: fmt.Sprintf("<= %d KiB", maxPerFlow), holds: perFlow <= maxPerFlow})
	return nil
}

func kib(n int) string { return fmt.Sprintf("%.1f MiB", float64(n)/1024) }

// resident is VmRSS of the worker's first process in KiB (proc_pid_status(5)).
func resident(w *worker) (int, error) { return residentOf(w.cmd.Process.Pid) }

func residentOf(pid int) (int, error) {
	f, err := os.Open(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0, err
	}
	defer f.Close()
	for s := bufio.NewScanner(f); s.Scan(); {
		if v, ok := strings.CutPrefix(s.Text(), "VmRSS:"); ok {
			return strconv.Atoi(strings.TrimSuffix(strings.TrimSpace(v), " kB"))
		}
	}
	return 0, fmt.Errorf("%s has no VmRSS", f.Name())
}
