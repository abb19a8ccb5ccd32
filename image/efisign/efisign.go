// Package efisign signs EFI programs and checks such signatures, for Secure
// Boot: systemd-boot and the UKIs of a release, and what `coracle inspect` says
// of them.
//
// The format is Microsoft's "Windows Authenticode Portable Executable Signature
// Format" with SHA-256 and RSA (PKCS #1 v1.5), as the UEFI specification asks
// for it. There is no signing time in a signature, so the same key and program
// give the same bytes. It is our own because the kept library that can do it
// (sassoftware/relic) needs sixty other modules, and PKCS #7 packages sign only
// plain content, with the time.
//
// Left out on purpose: several signatures in one program, time stamps, chains
// of certificates (firmware trusts the one in db), other algorithms.
package efisign

import (
	"bytes"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"debug/pe"
	"encoding/asn1"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"time"
)

// ErrUnsigned says that a program has no signature.
var ErrUnsigned = errors.New("it is not signed")

// A Signer is a key with its certificate.
type Signer struct {
	Key         *rsa.PrivateKey
	Certificate *x509.Certificate
}

// CheckTime fails when the certificate is not valid now. Firmware does not look
// at it; whoever signs should, so that keys are replaced.
func (s Signer) CheckTime(now time.Time) error {
	name := s.Certificate.Subject.CommonName
	if now.After(s.Certificate.NotAfter) {
		return fmt.Errorf("the certificate %q has expired on %s: make another key with coracle key secure-boot -rotate db",
			name, s.Certificate.NotAfter.Format(time.DateOnly))
	}
	if now.Before(s.Certificate.NotBefore) {
		return fmt.Errorf("the certificate %q is valid from %s on: is the clock right?", name, s.Certificate.NotBefore.Format(time.DateOnly))
	}
	return nil
}

// Sign returns the program with a signature behind it. One that is signed
// already is an error.
func (s Signer) Sign(program []byte) ([]byte, error) {
	signed, err := s.sign(program)
	if err != nil {
		return nil, fmt.Errorf("sign EFI program: %w", err)
	}
	return signed, nil
}

func (s Signer) sign(program []byte) ([]byte, error) {
	h, err := readHeader(bytes.NewReader(program))
	if err != nil {
		return nil, err
	}
	if h.tableSize != 0 {
		return nil, errors.New("it is signed already")
	}
	padded := append(bytes.Clone(program), make([]byte, -len(program)&(tableAlign-1))...)
	imprint, err := h.digest(bytes.NewReader(padded))
	if err != nil {
		return nil, err
	}
	content, err := indirectData(imprint)
	if err != nil {
		return nil, err
	}
	var value asn1.RawValue
	if _, err := asn1.Unmarshal(content, &value); err != nil {
		return nil, err
	}
	sum := sha256.Sum256(value.Bytes)
	attributes, err := attributeSet(oidIndirectData, sum[:])
	if err != nil {
		return nil, err
	}
	signature, err := s.signedData(contentInfo{oidIndirectData, explicit(content)}, attributes, sum)
	if err != nil {
		return nil, err
	}
	signature, err = asn1.Marshal(contentInfo{oidSignedData, explicit(signature)})
	if err != nil {
		return nil, err
	}
	return h.attach(padded, signature), nil
}

// explicit is DER in an explicit tag 0.
func explicit(der []byte) asn1.RawValue {
	return asn1.RawValue{Class: asn1.ClassContextSpecific, Tag: 0, IsCompound: true, Bytes: der}
}

// The content of an Authenticode signature, SpcIndirectDataContent.
type (
	indirect struct {
		Data   indirectImage
		Digest digestInfo
	}
	indirectImage struct {
		Type  asn1.ObjectIdentifier
		Value asn1.RawValue
	}
	digestInfo struct {
		Algorithm algorithm
		Digest    []byte
	}
)

// indirectData has the digest of the program. SpcPeImageData says, as of old,
// that there are no page hashes: no flags, and a link to an empty file name.
func indirectData(imprint [sha256.Size]byte) ([]byte, error) {
	image := []byte{0x30, 0x09, 0x03, 0x01, 0x00, 0xa0, 0x04, 0xa2, 0x02, 0x80, 0x00}
	return asn1.Marshal(indirect{
		indirectImage{oidPEImage, asn1.RawValue{FullBytes: image}}, digestInfo{sha256Algorithm(), imprint[:]},
	})
}

// Digest is the SHA-256 digest of a program that its signature covers, and by
// which dbx revokes it: without signature and checksum.
func Digest(program io.ReaderAt) ([sha256.Size]byte, error) {
	h, err := readHeader(program)
	if err != nil {
		return [sha256.Size]byte{}, fmt.Errorf("digest of EFI program: %w", err)
	}
	return h.digest(program)
}

// Verify checks that the signature of a program fits it and returns the
// certificate that it was made with. Whether that one is to be trusted is the
// caller's to say. An error wraps ErrUnsigned when there is no signature.
func Verify(program io.ReaderAt) (*x509.Certificate, error) {
	certificate, err := verify(program)
	if err != nil {
		return nil, fmt.Errorf("signature of EFI program: %w", err)
	}
	return certificate, nil
}

func verify(program io.ReaderAt) (*x509.Certificate, error) {
	h, err := readHeader(program)
	if err != nil {
		return nil, err
	}
	if h.tableSize == 0 {
		return nil, ErrUnsigned
	}
	if h.tableSize < tableHeader || h.tableSize > 1<<20 {
		return nil, fmt.Errorf("a certificate table of %d bytes", h.tableSize)
	}
	table := make([]byte, h.tableSize)
	if _, err := program.ReadAt(table, h.tableAt); err != nil {
		return nil, fmt.Errorf("read the certificate table: %w", err)
	}
	size := binary.LittleEndian.Uint32(table)
	if kind := binary.LittleEndian.Uint16(table[6:]); size < tableHeader || int64(size) > h.tableSize || kind != typePKCS {
		return nil, fmt.Errorf("a certificate of type %d and %d bytes", kind, size)
	}
	v, err := verifySignedData(table[tableHeader:size])
	if err != nil {
		return nil, err
	}
	var content indirect
	if _, err := asn1.Unmarshal(v.content, &content); err != nil || !v.contentType.Equal(oidIndirectData) {
		return nil, errors.New("it is not the signature of a program")
	}
	imprint, err := h.digest(program)
	if err != nil {
		return nil, err
	}
	if !bytes.Equal(content.Digest.Digest, imprint[:]) {
		return nil, errors.New("it is of another program: this one was changed after it was signed")
	}
	return v.certificate, nil
}

// Of the headers of a PE32+ program.
const (
	offChecksum  = 24 + 64 // from the PE signature
	offTable     = 24 + 112 + 4*8
	tableAlign   = 8
	tableHeader  = 8 // WIN_CERTIFICATE
	tableVersion = 0x0200
	typePKCS     = 0x0002
)

// header is where things are in a PE program.
type header struct {
	pe        int64 // the PE signature
	tableAt   int64 // the certificate table
	tableSize int64 // 0 without one
}

func readHeader(program io.ReaderAt) (header, error) {
	file, err := pe.NewFile(program)
	if err != nil {
		return header{}, fmt.Errorf("no EFI program: %w", err)
	}
	optional, ok := file.OptionalHeader.(*pe.OptionalHeader64)
	if !ok || optional.NumberOfRvaAndSizes < 5 {
		return header{}, errors.New("no EFI program: it has no place for a signature")
	}
	var start [4]byte
	if _, err := program.ReadAt(start[:], 0x3c); err != nil {
		return header{}, fmt.Errorf("no EFI program: %w", err)
	}
	table := optional.DataDirectory[4]
	return header{int64(binary.LittleEndian.Uint32(start[:])), int64(table.VirtualAddress), int64(table.Size)}, nil
}

// digest is the SHA-256 sum of all but checksum, the table's place and the table
// itself, which must be the last of the file. The specification sums section by
// section; where the file has them in order and without gaps, which Build of
// package uki and linkers see to, that is the same.
func (h header) digest(program io.ReaderAt) ([sha256.Size]byte, error) {
	end := int64(1) << 40
	if h.tableSize != 0 {
		end = h.tableAt
		if n, _ := program.ReadAt(make([]byte, 1), h.tableAt+h.tableSize); n != 0 {
			return [sha256.Size]byte{}, errors.New("there is something behind the certificate table")
		}
	}
	checksum, table := h.pe+offChecksum, h.pe+offTable
	sum := sha256.New()
	for _, part := range [][2]int64{{0, checksum}, {checksum + 4, table}, {table + 8, end}} {
		if _, err := io.Copy(sum, io.NewSectionReader(program, part[0], part[1]-part[0])); err != nil {
			return [sha256.Size]byte{}, fmt.Errorf("read EFI program: %w", err)
		}
	}
	return [sha256.Size]byte(sum.Sum(nil)), nil
}

// attach appends the signature as the certificate table.
func (h header) attach(program, signature []byte) []byte {
	size := tableHeader + len(signature)
	le := binary.LittleEndian
	out := le.AppendUint32(bytes.Clone(program), uint32(size))
	out = le.AppendUint16(out, tableVersion)
	out = le.AppendUint16(out, typePKCS)
	out = append(out, signature...)
	out = append(out, make([]byte, -len(out)&(tableAlign-1))...)
	le.PutUint32(out[h.pe+offTable:], uint32(len(program)))
	le.PutUint32(out[h.pe+offTable+4:], uint32(len(out)-len(program)))
	le.PutUint32(out[h.pe+offChecksum:], 0)
	le.PutUint32(out[h.pe+offChecksum:], checksum(out))
	return out
}

// checksum is the PE checksum of a program in which it is zero.
func checksum(program []byte) uint32 {
	var sum uint32
	for i := 0; i+1 < len(program); i += 2 {
		sum += uint32(binary.LittleEndian.Uint16(program[i:]))
		sum = sum&0xffff + sum>>16
	}
	return sum + uint32(len(program))
}
