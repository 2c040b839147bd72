package sandbox

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/sandlock/sandlock/fsvirt/memfile"
	"github.com/sandlock/sandlock/fsvirt/trust"
	"github.com/sandlock/sandlock/fsvirt/walk"
	"github.com/sandlock/sandlock/internal/event"
	"github.com/sandlock/sandlock/internal/wire"
	"golang.org/x/sys/unix"
)

const (
	// authorityWait is how long a start waits for the interceptor, where it has to.
	authorityWait = 20 * time.Second
	// maxKeyStore bounds a Java key store, in bytes. The largest have 0.5 MiB.
	maxKeyStore = 16 << 20
)

// openTrust makes the command trust the authority of the run: its opens of trust
// bundles are answered, and the variables that runtimes read are set where the user
// has not.
func openTrust(p *parts, c *Compiled, _ Options) error {
	if p.http == nil {
		return nil
	}
	walker, err := walk.New(p.thread.Contains)
	if err != nil {
		return err
	}
	var may func(*walk.Object) bool
	if p.files != nil {
		may = p.files.MayRead
	}
	p.trust = trust.New(trust.Config{
		May:       may,
		Authority: p.http, Walker: walker, Bundles: append(trust.Named(p.env), c.Policy.InjectCA...),
		Fault: func(err error) { p.emit(event.Event{Kind: event.Fault, Reason: err.Error()}) },
	})
	p.onClose(p.trust.Close)
	p.env = environment(p.env, trust.Environment(p.env), false)
	if !c.awaitsAuthority() {
		return nil // the command need not wait
	}
	ctx, cancel := context.WithTimeout(context.Background(), authorityWait)
	defer cancel()
	cert, err := p.http.PEM(ctx)
	switch {
	case err != nil && c.Policy.CAFile != "":
		return usage{fmt.Errorf("--ca %s: %w", c.Policy.CAFile, err)}
	case err != nil:
		return err
	}
	if c.Policy.CAOut == "" {
		return nil
	}
	if err := os.WriteFile(c.Policy.CAOut, cert, 0o644); err != nil {
		return usage{fmt.Errorf("--ca-out: %w", err)}
	}
	return nil
}

// awaitsAuthority tells whether the command may not start before there is an authority.
func (c *Compiled) awaitsAuthority() bool { return c.Policy.CAOut != "" || c.Policy.CAFile != "" }

var errNoAuthority = errors.New("the interceptor has ended before it had a certificate authority")

// PEM returns the certificate of the run's authority. It blocks until there is one.
func (x *intercept) PEM(ctx context.Context) ([]byte, error) {
	select {
	case <-x.authority:
		return x.cert, nil
	default:
	}
	select {
	case <-x.authority:
		return x.cert, nil
	case <-x.barren:
		x.mu.Lock()
		defer x.mu.Unlock()
		if x.complaint != "" {
			return nil, errors.New("interceptor: " + x.complaint)
		}
		return nil, errNoAuthority
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// KeyStore returns a copy of a Java key store to which the authority was added. It
// blocks until the interceptor has made it.
func (x *intercept) KeyStore(ctx context.Context, original []byte) ([]byte, error) {
	if _, err := x.PEM(ctx); err != nil {
		return nil, err
	}
	conn, err := x.process()
	if err != nil {
		return nil, err
	}
	in, err := memfile.New("key store", original)
	if err != nil {
		return nil, err
	}
	defer unix.Close(in)
	fd, err := unix.MemfdCreate("key store", unix.MFD_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("memfd_create: %w", err)
	}
	out := os.NewFile(uintptr(fd), "memfd")
	defer out.Close()
	wait := make(chan wire.Stored, 1)
	x.mu.Lock()
	x.next++
	id := x.next
	x.stores[id] = wait
	x.mu.Unlock()
	defer func() {
		x.mu.Lock()
		defer x.mu.Unlock()
		delete(x.stores, id)
	}()
	if err := conn.Send(wire.Store{ID: id}, in, fd); err != nil {
		return nil, err
	}
	select {
	case <-ctx.Done():
		return nil, ctx.Err()
	case m := <-wait:
		if m.Error != "" {
			return nil, errors.New("interceptor: " + m.Error)
		}
		if m.Size > maxKeyStore {
			return nil, wire.ErrMalformed
		}
		copied := make([]byte, m.Size)
		if _, err := io.ReadFull(io.NewSectionReader(out, 0, maxKeyStore), copied); err != nil {
			return nil, fmt.Errorf("interceptor: key store: %w", err)
		}
		return copied, nil
	}
}
