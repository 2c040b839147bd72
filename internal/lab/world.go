package lab

import (
	"crypto/tls"
	"fmt"
	"os"
)

// Entered tells whether this process is already in a lab, or about to be.
func Entered() bool { return os.Getenv(envStage) != "" }

// Inside runs f in a lab and returns the exit code, for programs that are no
// tests. The calling binary is executed again with its own arguments, twice, as
// Main says; f is called in the last of these processes only. The names are
// served, but none of the web servers: cert is for them, and the lab's clients
// trust it.
func Inside(root string, f func(cert tls.Certificate) int) int {
	switch os.Getenv(envStage) {
	case "":
		return outer(root)
	case "init":
		return initStage()
	}
	cert, err := issue()
	if err == nil {
		err = trust()
	}
	if err == nil {
		err = startDNS()
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "lab:", err)
		return 1
	}
	return f(cert)
}
