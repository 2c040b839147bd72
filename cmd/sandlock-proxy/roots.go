package main

import (
	"bytes"
	"crypto/x509"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"golang.org/x/sys/unix"
)

// maxRoots bounds what is read of a bundle, in bytes. The largest have 0.5 MiB.
const maxRoots = 16 << 20

// bundles are where distributions keep all their roots in one file, in the order
// of crypto/x509, and directories are where they keep a file for each.
var (
	bundles = [...]string{"/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/ca-bundle.pem",
		"/etc/pki/tls/cacert.pem", "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem", "/etc/ssl/cert.pem"}
	directories = [...]string{"/etc/ssl/certs", "/etc/pki/tls/certs"}
)

// readRoots reads the roots of the system, or what SSL_CERT_FILE and SSL_CERT_DIR
// say, and returns a function that parses them. The files are read at once: later
// none can be opened. x509.SystemCertPool also reads every file of the directories,
// which costs ten times as much and mostly finds the same certificates.
func readRoots() func() *x509.CertPool {
	files, dirs := bundles[:], directories[:]
	file, named := os.LookupEnv("SSL_CERT_FILE")
	if named = named && file != ""; named {
		files = []string{file}
	}
	dir, namedDir := os.LookupEnv("SSL_CERT_DIR")
	if namedDir = namedDir && dir != ""; namedDir {
		dirs = strings.Split(dir, ":")
	}
	var texts [][]byte
	for _, f := range files {
		if text, err := readLimited(f); err == nil {
			texts = append(texts, text)
			break
		}
	}
	if namedDir || len(texts) == 0 && !named {
		for _, d := range dirs {
			entries, _ := os.ReadDir(d)
			for _, e := range entries {
				if text, err := readLimited(filepath.Join(d, e.Name())); err == nil {
					texts = append(texts, text)
				}
			}
		}
	}
	return sync.OnceValue(func() *x509.CertPool {
		pool := x509.NewCertPool()
		for _, t := range texts {
			pool.AppendCertsFromPEM(t)
		}
		return pool
	})
}

func readLimited(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	if st, err := f.Stat(); err != nil || !st.Mode().IsRegular() {
		return nil, os.ErrInvalid
	}
	text, err := io.ReadAll(io.LimitReader(f, maxRoots))
	if err != nil || !bytes.Contains(text, []byte("-----BEGIN ")) {
		return nil, os.ErrInvalid
	}
	return text, nil
}

// fileReader reads a file from its beginning, whatever its offset is: it is shared
// with sandlock.
type fileReader struct{ fd int }

// ReadAt reads at an offset.
func (f fileReader) ReadAt(p []byte, off int64) (int, error) {
	n, err := unix.Pread(f.fd, p, off)
	if err == nil && n == 0 && len(p) > 0 {
		err = io.EOF
	}
	return max(n, 0), err
}

func (f fileReader) section() io.Reader { return io.NewSectionReader(f, 0, 1<<40) }
