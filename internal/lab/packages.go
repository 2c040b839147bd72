package lab

import (
	"archive/tar"
	"archive/zip"
	"bytes"
	"compress/gzip"
	"crypto/md5"
	"crypto/sha256"
	"fmt"
	"io"
	"maps"
	"slices"
)

func wheel() []byte {
	var b bytes.Buffer
	z := zip.NewWriter(&b)
	for _, f := range [][2]string{{"labpkg.py", "ok = True\n"},
		{"labpkg-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: labpkg\nVersion: 1.0\n"},
		{"labpkg-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nGenerator: lab\nRoot-Is-Purelib: true\nTag: py3-none-any\n"},
		{"labpkg-1.0.dist-info/RECORD", "labpkg.py,,\nlabpkg-1.0.dist-info/METADATA,,\nlabpkg-1.0.dist-info/WHEEL,,\nlabpkg-1.0.dist-info/RECORD,,\n"}} {
		w, _ := z.Create(f[0])
		io.WriteString(w, f[1])
	}
	z.Close()
	return b.Bytes()
}

func npmPackage() []byte {
	const text = `{"name":"labpkg","version":"1.0.0"}`
	return tarball(map[string]string{"package/package.json": text})
}

// tarball is a tar.gz with the files, the same bytes each time: registries give
// its checksum beforehand.
func tarball(files map[string]string) []byte {
	var b bytes.Buffer
	g := gzip.NewWriter(&b)
	w := tar.NewWriter(g)
	for _, name := range slices.Sorted(maps.Keys(files)) {
		text := files[name]
		w.WriteHeader(&tar.Header{Name: name, Mode: 0o644, Size: int64(len(text))})
		io.WriteString(w, text)
	}
	w.Close()
	g.Close()
	return b.Bytes()
}

// debRepository is a flat repository for apt with one empty package, by file.
func debRepository() map[string][]byte {
	const control = "Package: labpkg\nVersion: 1.0\nArchitecture: all\nMaintainer: lab <lab@lab.test>\nDescription: nothing\n"
	deb := ar([]member{{"debian-binary", []byte("2.0\n")}, {"control.tar.gz", tarball(map[string]string{"./control": control})}, {"data.tar.gz", tarball(nil)}})
	index := []byte(fmt.Sprintf("%sFilename: ./labpkg_1.0_all.deb\nSize: %d\nSHA256: %x\n\n", control, len(deb), sha256.Sum256(deb)))
	release := fmt.Sprintf("Date: Thu, 01 Jan 2026 00:00:00 UTC\nMD5Sum:\n %x %d Packages\nSHA256:\n %x %d Packages\n", md5.Sum(index), len(index), sha256.Sum256(index), len(index))
	return map[string][]byte{"labpkg_1.0_all.deb": deb, "Packages": index, "Release": []byte(release)}
}

type member struct {
	name string
	data []byte
}

// ar is an archive in the format of ar(5).
func ar(members []member) []byte {
	b := []byte("!<arch>\n")
	for _, m := range members {
		b = fmt.Appendf(b, "%-16s%-12d%-6d%-6d%-8o%-10d`\n", m.name, 0, 0, 0, 0o100644, len(m.data))
		if b = append(b, m.data...); len(m.data)%2 != 0 {
			b = append(b, '\n')
		}
	}
	return b
}
