package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// children lists the child processes of a process.
func children(pid int) (pids []int) {
	files, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", pid))
	for _, f := range files {
		text, _ := os.ReadFile(f)
		for word := range strings.FieldsSeq(string(text)) {
			if n, err := strconv.Atoi(word); err == nil {
				pids = append(pids, n)
			}
		}
	}
	return pids
}

// own are the processes that are the sandbox's and not the command's: the
// supervisor and the interceptor.
func (w *worker) own() []int {
	pids := []int{w.cmd.Process.Pid}
	for _, pid := range children(w.cmd.Process.Pid) {
		if isInterceptor(strconv.Itoa(pid)) {
			pids = append(pids, pid)
		}
	}
	return pids
}

// supervisors is the processor time of the sandbox's own processes so far.
func (w *worker) supervisors() (sum time.Duration) {
	for _, pid := range w.own() {
		sum += processTime(pid)
	}
	return sum
}

// familyResident is the resident memory of the sandbox's own processes in KiB.
func (w *worker) familyResident() (sum int, err error) {
	for _, pid := range w.own() {
		n, err := residentOf(pid)
		if err != nil {
			return 0, err
		}
		sum += n
	}
	return sum, nil
}

// isInterceptor tells whether a process is the interceptor.
func isInterceptor(pid string) bool {
	comm, err := os.ReadFile("/proc/" + pid + "/comm")
	return err == nil && strings.HasPrefix(string(comm), "sandlock-proxy")
}
