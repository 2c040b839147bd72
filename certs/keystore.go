package certs

import (
	"bytes"
	"crypto/sha1"
	"encoding/binary"
	"encoding/pem"
	"errors"
	"fmt"
	"time"
	"unicode/utf16"
)

// Java's own form of a key store (sun.security.provider.JavaKeyStore of OpenJDK).
const (
	magicJKS = 0xfeedfeed
	// versionJKS is the one whose certificates carry a type.
	versionJKS = 2
	// tagTrusted marks an entry that is a certificate.
	tagTrusted = 2
	// jksHeader is magic, version and number of entries; a SHA-1 digest ends the store.
	jksHeader = 12
)

// javaPassword is what protects a trust store of Java, if anything does: it is
// written in its documentation.
const javaPassword = "changeit"

// alias is the name of our entries; a number follows.
const alias = "sandlock-ca"

// Errors of KeyStore.
var (
	ErrKeyStore = errors.New("not a key store that Java reads: neither JKS nor PKCS #12")
	ErrPassword = errors.New("the key store has a password other than changeit, or is damaged")
)

// KeyStore returns a Java trust store with the certificates of ca, in PEM form, added
// as trusted entries: JKS or PKCS #12, as the original is. The password stays
// what it was: none or "changeit". A PKCS #12 store loses its integrity code, which
// Java does not ask for; its encrypted parts stay as they are, under any password.
// The error is ErrKeyStore, wrapped, for what is no key store, or ErrPassword.
func KeyStore(original, ca []byte, now time.Time) ([]byte, error) {
	var added [][]byte
	for rest := ca; ; {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			break
		}
		added = append(added, block.Bytes)
	}
	if len(added) == 0 {
		return nil, errors.New("there is no certificate in PEM form to add")
	}
	if len(original) >= jksHeader+sha1.Size && binary.BigEndian.Uint32(original) == magicJKS {
		return addToJKS(original, added, now)
	}
	return addToPKCS12(original, added)
}

// addToJKS appends entries, counts them, and signs the store anew.
func addToJKS(original []byte, added [][]byte, now time.Time) ([]byte, error) {
	body, digest := original[:len(original)-sha1.Size], original[len(original)-sha1.Size:]
	if v := binary.BigEndian.Uint32(body[4:]); v != versionJKS {
		return nil, fmt.Errorf("%w (version %d)", ErrKeyStore, v)
	}
	if sum := jksDigest(body); !bytes.Equal(sum[:], digest) {
		return nil, ErrPassword
	}
	out := bytes.Clone(body)
	count := binary.BigEndian.Uint32(out[8:])
	binary.BigEndian.PutUint32(out[8:], count+uint32(len(added)))
	for i, der := range added {
		out = binary.BigEndian.AppendUint32(out, tagTrusted)
		out = appendJavaText(out, entryAlias(i))
		out = binary.BigEndian.AppendUint64(out, uint64(now.UnixMilli()))
		out = appendJavaText(out, "X.509")
		out = binary.BigEndian.AppendUint32(out, uint32(len(der)))
		out = append(out, der...)
	}
	sum := jksDigest(out)
	return append(out, sum[:]...), nil
}

func entryAlias(i int) string { return fmt.Sprintf("%s-%d", alias, i+1) }

// appendJavaText writes ASCII as DataOutput.writeUTF does.
func appendJavaText(out []byte, s string) []byte {
	return append(binary.BigEndian.AppendUint16(out, uint16(len(s))), s...)
}

// jksDigest protects a store with its password, whitened by a fixed text.
func jksDigest(body []byte) [sha1.Size]byte {
	var b []byte
	for _, u := range utf16.Encode([]rune(javaPassword)) {
		b = binary.BigEndian.AppendUint16(b, u)
	}
	b = append(b, "Mighty Aphrodite"...)
	return sha1.Sum(append(b, body...))
}
