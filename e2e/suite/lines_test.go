package suite

import (
	"strings"
	"sync"
	"syscall"
)

// exitSignal ends a sandlock that runs in the background.
const exitSignal = syscall.SIGTERM

// lines collects output and tells when there is more.
type lines struct {
	mu   sync.Mutex
	b    strings.Builder
	more chan struct{}
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.b.Write(p)
	select {
	case l.more <- struct{}{}:
	default:
	}
	return len(p), nil
}

func (l *lines) text() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}
