package secureboot

import (
	"bytes"
	"crypto/sha256"
	"crypto/x509"
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"github.com/google/uuid"

	"github.com/coracle-os/coracle/image/efisign"
)

// ErrUntrusted says that a firmware with Secure Boot would not start a program.
var ErrUntrusted = errors.New("the firmware's keys (db, dbx) do not let it start")

// A Trust is what a machine's firmware starts: the contents of db and dbx.
type Trust struct {
	certificates, revokedCertificates []*x509.Certificate
	digests, revoked                  [][]byte
}

// ReadTrust reads the contents of the variables db and dbx, which are lists of
// signatures as the UEFI specification has them (32.4.1). Kinds other than
// certificates and SHA-256 digests are passed over.
func ReadTrust(db, dbx []byte) (Trust, error) {
	var t Trust
	err := errors.Join(
		eachSignature(db, &t.certificates, &t.digests),
		eachSignature(dbx, &t.revokedCertificates, &t.revoked),
	)
	if err != nil {
		return Trust{}, fmt.Errorf("read the firmware's keys: %w", err)
	}
	return t, nil
}

// eachSignature reads a variable's lists.
func eachSignature(data []byte, certificates *[]*x509.Certificate, digests *[][]byte) error {
	const header = 16 + 3*4
	le := binary.LittleEndian
	for len(data) > 0 {
		if len(data) < header {
			return fmt.Errorf("%d bytes are no list of signatures", len(data))
		}
		size, skip, each := uint64(le.Uint32(data[16:])), uint64(le.Uint32(data[20:])), uint64(le.Uint32(data[24:]))
		if size > uint64(len(data)) || header+skip > size || each <= 16 {
			return fmt.Errorf("a list of %d bytes with signatures of %d bytes, where %d are left", size, each, len(data))
		}
		kind, list := data[:16], data[header+skip:size]
		for ; uint64(len(list)) >= each; list = list[each:] {
			content := list[16:each]
			switch {
			case bytes.Equal(kind, efiGUID(certX509)):
				// One that Go does not understand is no reason to doubt the others.
				if c, err := x509.ParseCertificate(content); err == nil {
					*certificates = append(*certificates, c)
				}
			case bytes.Equal(kind, efiGUID(certSHA256)) && len(content) == sha256.Size:
				*digests = append(*digests, content)
			}
		}
		data = data[size:]
	}
	return nil
}

// Check fails when the firmware would not start a program; the error then wraps
// ErrUntrusted. As the firmware does, it does not look at expiry.
func (t Trust) Check(program io.ReaderAt) error {
	digest, err := efisign.Digest(program)
	if err != nil {
		return err
	}
	same := func(list [][]byte) bool {
		for _, d := range list {
			if bytes.Equal(d, digest[:]) {
				return true
			}
		}
		return false
	}
	if same(t.revoked) {
		return fmt.Errorf("%w: the program is revoked", ErrUntrusted)
	}
	certificate, err := efisign.Verify(program)
	switch {
	case err == nil && issued(certificate, t.revokedCertificates):
		return fmt.Errorf("%w: the certificate %q is revoked", ErrUntrusted, certificate.Subject.CommonName)
	case same(t.digests):
		return nil
	case err != nil:
		return fmt.Errorf("%w: %w", ErrUntrusted, err)
	case !issued(certificate, t.certificates):
		return fmt.Errorf("%w: the certificate %q, which signed it, is not in db", ErrUntrusted, certificate.Subject.CommonName)
	}
	return nil
}

// issued tells if a certificate is one of a list or was issued by one of them.
func issued(c *x509.Certificate, by []*x509.Certificate) bool {
	for _, parent := range by {
		if c.Equal(parent) || parent.IsCA && c.CheckSignatureFrom(parent) == nil {
			return true
		}
	}
	return false
}

// Variable is the name in efivarfs of one of Variables.
func Variable(name string) string {
	return name + "-" + uuid.UUID(namespace(name)).String()
}
