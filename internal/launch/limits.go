package launch

import (
	"github.com/sandlock/sandlock/internal/sys/rlimit"
	"golang.org/x/sys/unix"
)

// originalNoFile is the RLIMIT_NOFILE that this process was started with: Go's
// start-up raises the soft limit, and the command shall not see that.
var originalNoFile = unix.Rlimit{Cur: rlimit.NoFile[0], Max: rlimit.NoFile[1]}
