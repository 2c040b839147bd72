package rule

import "fmt"

// Error says why a request is refused before any rule is asked.
type Error struct {
	// Status is what HTTP answers: 400 for a request that is malformed or has two
	// readings, 421 for one that does not belong to its connection (RFC 9110
	// sections 15.5.1 and 15.5.20).
	Status int
	// Reason is a text for people; what came from the request is quoted in it.
	Reason string
}

// Error returns the reason.
func (e *Error) Error() string { return e.Reason }

const (
	statusBadRequest  = 400
	statusMisdirected = 421
)

func bad(format string, args ...any) error {
	return &Error{Status: statusBadRequest, Reason: fmt.Sprintf(format, args...)}
}

func misdirected(format string, args ...any) error {
	return &Error{Status: statusMisdirected, Reason: fmt.Sprintf(format, args...)}
}

// shorten keeps hostile input from filling a log line.
func shorten(s string) string {
	const most = 100
	if len(s) > most {
		return s[:most] + "..."
	}
	return s
}
