package certs

import (
	"crypto/x509"
	"encoding/pem"
	"fmt"
)

// KeyPEM returns the key of the authority in PEM form, as LoadCA reads it: for the
// process that goes on with the authority of the run when this one has ended. The
// caller clears it.
func (ca *CA) KeyPEM() ([]byte, error) {
	der, err := x509.MarshalPKCS8PrivateKey(ca.key)
	if err != nil {
		return nil, fmt.Errorf("the key of the certificate authority: %w", err)
	}
	defer clear(der)
	return pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), nil
}
