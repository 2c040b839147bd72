package tunnel

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"syscall"
	"time"

	"github.com/sandlock/sandlock/netfilter/endpoint"
	"golang.org/x/sys/unix"
)

// AnswerTimeout is how long a proxy may take to answer CONNECT. It first has to
// reach the host, for which others allow 10 to 60 s.
const AnswerTimeout = 30 * time.Second

// Connect asks for a tunnel to name and port over fd, which is connected to the proxy,
// does not block, and stays the caller's. When the proxy agreed, what is sent over fd
// is the host's, and so is the first byte that is read. The error is a *StatusError
// if it did not, and always wraps an errno. It blocks, up to AnswerTimeout.
func (p *Proxy) Connect(ctx context.Context, fd int, name endpoint.Name, port uint16) error {
	to := name.String() + ":" + strconv.Itoa(int(port))
	if err := p.connect(ctx, fd, to); err != nil {
		return fmt.Errorf("CONNECT %s through %s: %w", to, p.at, err)
	}
	return nil
}

func (p *Proxy) connect(ctx context.Context, fd int, to string) error {
	request := "CONNECT " + to + " HTTP/1.1\r\nHost: " + to + "\r\n"
	if p.auth != "" {
		request += "Proxy-Authorization: " + p.auth + "\r\n"
	}
	err := wait(ctx, fd, AnswerTimeout, func(f *os.File) error {
		if _, err := io.WriteString(f, request+"\r\n"); err != nil {
			return err
		}
		return readAnswer(f)
	})
	if errors.Is(err, os.ErrDeadlineExceeded) {
		if ctx.Err() != nil {
			return unix.EINTR
		}
		return fmt.Errorf("no answer within %v: %w", AnswerTimeout, unix.ETIMEDOUT)
	}
	return err
}

// wait lends a copy of fd, a socket that does not block, to use, whose reads and
// writes wait without a thread of their own and fail with os.ErrDeadlineExceeded
// after limit, or when ctx ended. The copy is closed when use returns.
func wait(ctx context.Context, fd int, limit time.Duration, use func(*os.File) error) error {
	dup, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return err
	}
	f := os.NewFile(uintptr(dup), "proxy")
	defer f.Close()
	if err := f.SetDeadline(time.Now().Add(limit)); err != nil {
		return err
	}
	stop := context.AfterFunc(ctx, func() { f.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	return use(f)
}

// readAnswer reads the head of the answer and not a byte more: what follows is the
// host's. So it looks first and takes then.
func readAnswer(f *os.File) error {
	rc, err := f.SyscallConn()
	if err != nil {
		return err
	}
	var seen []byte
	for {
		var part [maxHead]byte
		n, err := receive(rc, part[:maxHead-len(seen)], unix.MSG_PEEK)
		if err != nil {
			return err
		}
		if n == 0 {
			return errNone
		}
		length, status, err := parseHead(append(seen[:len(seen):len(seen)], part[:n]...))
		if err != nil {
			return err
		}
		if length > 0 {
			n = length - len(seen)
		}
		if n, err = receive(rc, part[:n], 0); err != nil {
			return err
		}
		seen = append(seen, part[:n]...)
		switch {
		case length == 0:
		case status.Code/100 != 2:
			return &status
		default:
			return nil
		}
	}
}

// receive is recv(2) that waits for bytes.
func receive(rc syscall.RawConn, b []byte, flags int) (n int, err error) {
	waited := rc.Read(func(fd uintptr) bool {
		for {
			if n, _, err = unix.Recvfrom(int(fd), b, flags); err != unix.EINTR {
				return err != unix.EAGAIN
			}
		}
	})
	if waited != nil {
		return 0, waited
	}
	return n, err
}
