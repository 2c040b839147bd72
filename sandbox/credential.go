package sandbox

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/sandlock/sandlock/internal/wire"
	"github.com/sandlock/sandlock/proxy/auth"
	"golang.org/x/sys/unix"
)

// maxSecret bounds a secret, in bytes.
const maxSecret = 64 << 10

// credential says where a secret comes from: one of env, file and fd.
type credential struct {
	name      string
	env, file string
	fd        int // -1 for none
}

// parseCredential reads NAME=env:VAR, NAME=file:PATH or NAME=fd:N. Of a secret that
// stands there by mistake, the error shows nothing.
func parseCredential(t RuleText) (credential, error) {
	c := credential{fd: -1}
	var from string
	var ok bool
	c.name, from, ok = strings.Cut(t.Text, "=")
	if !ok || !validCredentialName(c.name) {
		return c, fmt.Errorf("%s: write NAME=env:VAR, NAME=file:PATH or NAME=fd:N, with a NAME of letters, digits, _ and -", t.Source)
	}
	kind, value, _ := strings.Cut(from, ":")
	switch {
	case kind == "env" && value != "" && !strings.ContainsAny(value, "=\x00"):
		c.env = value
	case kind == "file" && value != "":
		c.file = value
	case kind == "fd":
		n, err := strconv.Atoi(value)
		if err != nil || n < 0 || n == 1 || n == 2 {
			return c, fmt.Errorf("%s: %s: fd:N takes the number of a descriptor to read, 0 or from 3 on", t.Source, c.name)
		}
		c.fd = n
	default:
		return c, fmt.Errorf("%s: %s: a secret comes from env:VAR, file:PATH or fd:N, and is never written on the command line", t.Source, c.name)
	}
	return c, nil
}

func validCredentialName(s string) bool {
	for i := range len(s) {
		c := s[i]
		if !(c|0x20 >= 'a' && c|0x20 <= 'z' || c >= '0' && c <= '9' || c == '_' || c == '-') {
			return false
		}
	}
	return s != ""
}

// compileCredentials reads the rules for secrets, and where these come from. It
// reads no secret.
func (c *Compiled) compileCredentials(p *Policy) error {
	var errs []error
	known := map[string]bool{}
	for _, t := range p.Credentials {
		cred, err := parseCredential(t)
		switch {
		case err != nil:
			errs = append(errs, err)
		case known[cred.name]:
			errs = append(errs, fmt.Errorf("%s: %s is given twice", t.Source, cred.name))
		case slices.Contains(p.PassFDs, cred.fd):
			errs = append(errs, fmt.Errorf("%s: descriptor %d is passed to the command, which could read the secret itself", t.Source, cred.fd))
		}
		known[cred.name] = true
		c.credentials = append(c.credentials, cred)
	}
	for _, t := range p.HTTPAuth {
		r, err := auth.Parse(t.Text, t.Source)
		switch {
		case err != nil:
			errs = append(errs, err)
			continue
		case !known[r.Credential]:
			errs = append(errs, fmt.Errorf("%s %q: there is no credential %q; add --credential %s=env:VAR", t.Source, t.Text, r.Credential, r.Credential))
		case p.TLS == TLSPassthrough:
			errs = append(errs, fmt.Errorf("%s %q has to see inside TLS, and --tls passthrough forbids it", t.Source, t.Text))
		}
		if err := c.checkSeen(&r.Match, t.Source, t.Text); err != nil {
			errs = append(errs, err)
		}
		c.auth = append(c.auth, r.Match)
	}
	return errors.Join(errs...)
}

// hideCredentials takes the variables that hold secrets out of the environment that
// the command inherits. What --env sets stays: it may be a stand-in.
func (c *Compiled) hideCredentials(base []string) []string {
	return slices.DeleteFunc(slices.Clone(base), func(kv string) bool {
		name, _, _ := strings.Cut(kv, "=")
		return slices.ContainsFunc(c.credentials, func(cred credential) bool { return cred.env != "" && cred.env == name })
	})
}

// readCredentials reads the secrets. The caller clears them.
func (c *Compiled) readCredentials() ([]wire.Credential, error) {
	var out []wire.Credential
	for _, cred := range c.credentials {
		secret, err := cred.read()
		if err != nil {
			return nil, usage{fmt.Errorf("--credential %s: %w", cred.name, err)}
		}
		secret = bytes.TrimSuffix(bytes.TrimSuffix(secret, []byte("\n")), []byte("\r"))
		switch {
		case len(secret) == 0:
			return nil, usage{fmt.Errorf("--credential %s: the secret is empty", cred.name)}
		case len(secret) > maxSecret:
			return nil, usage{fmt.Errorf("--credential %s: the secret is longer than %d bytes", cred.name, maxSecret)}
		}
		out = append(out, wire.Credential{Name: cred.name, Secret: secret})
	}
	return out, nil
}

func (cred *credential) read() ([]byte, error) {
	var f *os.File
	switch {
	case cred.env != "":
		v, ok := os.LookupEnv(cred.env)
		if !ok {
			return nil, fmt.Errorf("the environment variable %s is not set", cred.env)
		}
		return []byte(v), nil
	case cred.file != "":
		var err error
		if f, err = os.Open(cred.file); err != nil {
			return nil, err
		}
	default:
		if cred.fd == 0 {
			// The command has it too, and could read a file from its beginning again.
			if _, err := unix.Seek(0, 0, io.SeekCurrent); err == nil {
				return nil, errors.New("descriptor 0 is a file, which the command could read as well; use file:PATH or a pipe")
			}
		}
		fd, err := unix.FcntlInt(uintptr(cred.fd), unix.F_DUPFD_CLOEXEC, 0)
		if err != nil {
			return nil, fmt.Errorf("descriptor %d: %w", cred.fd, err)
		}
		f = os.NewFile(uintptr(fd), "credential")
	}
	defer f.Close()
	return io.ReadAll(io.LimitReader(f, maxSecret+3))
}
