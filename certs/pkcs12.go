package certs

import (
	"encoding/asn1"
	"fmt"
	"unicode/utf16"
)

// Object identifiers of RFC 7292 (PKCS #12), RFC 2315 (PKCS #7), RFC 2985, and the
// attribute by which Java knows that a certificate is trusted
// (sun.security.pkcs12.PKCS12KeyStore of OpenJDK).
var (
	oidData         = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 7, 1}
	oidCertBag      = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 12, 10, 1, 3}
	oidX509         = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 9, 22, 1}
	oidFriendlyName = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 9, 20}
	oidTrusted      = asn1.ObjectIdentifier{2, 16, 840, 1, 113894, 746875, 1, 1}
	oidAnyUsage     = asn1.ObjectIdentifier{2, 5, 29, 37, 0}
)

// versionPFX is the only version of PKCS #12.
const versionPFX = 3

type pfx struct {
	Version  int
	AuthSafe contentInfo
	// MAC is left out by what we write: nothing that a password protects is changed.
	MAC asn1.RawValue `asn1:"optional"`
}

type contentInfo struct {
	Type    asn1.ObjectIdentifier
	Content asn1.RawValue `asn1:"tag:0,explicit,optional"`
}

type safeBag struct {
	ID         asn1.ObjectIdentifier
	Value      asn1.RawValue `asn1:"tag:0,explicit"`
	Attributes []attribute   `asn1:"set"`
}

type certBag struct {
	ID   asn1.ObjectIdentifier
	Data []byte `asn1:"tag:0,explicit"`
}

type attribute struct {
	ID     asn1.ObjectIdentifier
	Values []asn1.RawValue `asn1:"set"`
}

// addToPKCS12 appends one part in clear to the parts of a store.
func addToPKCS12(original []byte, added [][]byte) ([]byte, error) {
	var store pfx
	rest, err := asn1.Unmarshal(original, &store)
	if err != nil || len(rest) > 0 || store.Version != versionPFX || !store.AuthSafe.Type.Equal(oidData) {
		return nil, ErrKeyStore
	}
	var safe []byte
	if _, err := asn1.Unmarshal(store.AuthSafe.Content.Bytes, &safe); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrKeyStore, err)
	}
	var parts []asn1.RawValue
	if rest, err := asn1.Unmarshal(safe, &parts); err != nil || len(rest) > 0 {
		return nil, ErrKeyStore
	}
	part, err := trustedPart(added)
	if err != nil {
		return nil, err
	}
	parts = append(parts, asn1.RawValue{FullBytes: part})
	if safe, err = asn1.Marshal(parts); err != nil {
		return nil, err
	}
	if part, err = data(safe); err != nil {
		return nil, err
	}
	return asn1.Marshal([]asn1.RawValue{{FullBytes: []byte{asn1.TagInteger, 1, versionPFX}}, {FullBytes: part}})
}

// trustedPart returns a ContentInfo that holds certificates as trusted entries.
func trustedPart(added [][]byte) ([]byte, error) {
	usage, err := asn1.Marshal(oidAnyUsage)
	if err != nil {
		return nil, err
	}
	var bags []safeBag
	for i, der := range added {
		cert, err := asn1.Marshal(certBag{ID: oidX509, Data: der})
		if err != nil {
			return nil, err
		}
		bags = append(bags, safeBag{
			ID: oidCertBag, Value: asn1.RawValue{FullBytes: explicit(cert)},
			Attributes: []attribute{
				{oidFriendlyName, []asn1.RawValue{{Tag: asn1.TagBMPString, Bytes: bmp(entryAlias(i))}}},
				{oidTrusted, []asn1.RawValue{{FullBytes: usage}}},
			},
		})
	}
	content, err := asn1.Marshal(bags)
	if err != nil {
		return nil, err
	}
	return data(content)
}

// data wraps content in a ContentInfo of type data.
func data(content []byte) ([]byte, error) {
	text, err := asn1.Marshal(content)
	if err != nil {
		return nil, err
	}
	return asn1.Marshal(contentInfo{Type: oidData, Content: asn1.RawValue{FullBytes: explicit(text)}})
}

// explicit puts the tag [0] around an encoded value.
func explicit(der []byte) []byte {
	out, err := asn1.Marshal(asn1.RawValue{Class: asn1.ClassContextSpecific, IsCompound: true, Bytes: der})
	if err != nil {
		return nil // a raw value with a known tag always encodes
	}
	return out
}

// bmp is UTF-16, big endian.
func bmp(s string) []byte {
	var out []byte
	for _, u := range utf16.Encode([]rune(s)) {
		out = append(out, byte(u>>8), byte(u))
	}
	return out
}
