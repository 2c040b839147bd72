// Package dispatch is the engine: it turns a table of handler chains into a
// seccomp filter, receives the notifications that the filter raises and answers
// them. It knows no builtin.
package dispatch

// Handler is asked about a system call. It must not block: what may block is
// answered with Defer. A handler that decides on what it read from the caller's
// memory never answers Continue: the caller could change that memory before
// the kernel reads it again.
type Handler interface {
	Handle(*Call) Action
}

// HandlerFunc adapts a function to Handler.
type HandlerFunc func(*Call) Action

// Handle calls f.
func (f HandlerFunc) Handle(c *Call) Action { return f(c) }
