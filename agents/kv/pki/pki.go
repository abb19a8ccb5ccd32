// Package pki gives the members of a store and their clients certificates of one
// authority of the cluster's own, from one file: the authority's certificate and
// private key, which every machine has from its user-data or through package
// authority. Each machine issues its own certificates from it, so that nothing
// has to be carried around when a machine comes or its address changes.
//
// A machine that has the file can speak as any member: it is as secret as the
// user-data that it comes in. Keys are ECDSA on P-256 and certificates X.509
// (RFC 5280), all from crypto/x509. Left out on purpose: revocation (make a new
// authority), and authorities whose key is kept elsewhere, for which etcd's own
// flags name ready certificates.
package pki

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net"
	"slices"
	"time"
)

// Lifetimes of certificates. Those of machines are renewed at each start of the
// service, and long before their end.
const (
	authorityLife = 20 * 365 * 24 * time.Hour
	machineLife   = 2 * 365 * 24 * time.Hour
	// clockSlack makes new certificates valid for machines whose clock is late.
	clockSlack = 24 * time.Hour
)

// Authority is the cluster's authority.
type Authority struct {
	Certificate *x509.Certificate
	Key         crypto.Signer
}

// Names are what a certificate is good for.
type Names struct {
	Common string
	Hosts  []string // addresses and DNS names
}

// New makes an authority.
func New(name string, now time.Time, random io.Reader) (Authority, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), random)
	if err != nil {
		return Authority{}, fmt.Errorf("make an authority: %w", err)
	}
	template := &x509.Certificate{
		Subject: pkix.Name{CommonName: name}, NotBefore: now.Add(-clockSlack), NotAfter: now.Add(authorityLife),
		KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign, BasicConstraintsValid: true, IsCA: true, MaxPathLenZero: true,
	}
	a := Authority{Certificate: template, Key: key}
	if a.Certificate, err = a.sign(template, key.Public(), random); err != nil {
		return Authority{}, fmt.Errorf("make an authority: %w", err)
	}
	return a, nil
}

// sign signs template and returns the finished certificate.
func (a Authority) sign(template *x509.Certificate, public crypto.PublicKey, random io.Reader) (*x509.Certificate, error) {
	serial := make([]byte, 16)
	if _, err := io.ReadFull(random, serial); err != nil {
		return nil, err
	}
	template.SerialNumber = new(big.Int).SetBytes(serial)
	der, err := x509.CreateCertificate(random, template, a.Certificate, public, a.Key)
	if err != nil {
		return nil, err
	}
	return x509.ParseCertificate(der)
}

// PEM is the authority as one file: its certificate and its private key.
func (a Authority) PEM() ([]byte, error) {
	key, err := x509.MarshalPKCS8PrivateKey(a.Key)
	if err != nil {
		return nil, fmt.Errorf("write the authority: %w", err)
	}
	return append(a.CertificatePEM(), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: key})...), nil
}

// CertificatePEM is the part that may be known.
func (a Authority) CertificatePEM() []byte { return certificatePEM(a.Certificate) }

func certificatePEM(c *x509.Certificate) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Raw})
}

// Parse reads an authority: a certificate and its private key in PEM, in any
// order, as openssl writes them too.
func Parse(text []byte) (Authority, error) {
	var a Authority
	for block, rest := pem.Decode(text); block != nil; block, rest = pem.Decode(rest) {
		switch block.Type {
		case "CERTIFICATE":
			c, err := x509.ParseCertificate(block.Bytes)
			if err != nil {
				return a, fmt.Errorf("read the authority's certificate: %w", err)
			}
			if a.Certificate == nil {
				a.Certificate = c
			}
		case "PRIVATE KEY", "EC PRIVATE KEY", "RSA PRIVATE KEY":
			key, err := parseKey(block)
			if err != nil {
				return a, fmt.Errorf("read the authority's key: %w", err)
			}
			a.Key = key
		}
	}
	switch {
	case a.Certificate == nil:
		return a, errors.New("read the authority: there is no CERTIFICATE in the file")
	case !a.Certificate.IsCA:
		return a, fmt.Errorf("read the authority: the certificate of %q is not that of an authority (CA:TRUE)", a.Certificate.Subject.CommonName)
	case a.Key == nil:
		return a, errors.New("read the authority: there is no PRIVATE KEY in the file; machines issue their own certificates with it")
	case !samePublic(a.Certificate.PublicKey, a.Key.Public()):
		return a, errors.New("read the authority: the private key does not belong to the certificate")
	}
	return a, nil
}

func samePublic(a, b crypto.PublicKey) bool {
	k, ok := a.(interface{ Equal(crypto.PublicKey) bool })
	return ok && k.Equal(b)
}

func parseKey(block *pem.Block) (crypto.Signer, error) {
	var key any
	var err error
	switch block.Type {
	case "EC PRIVATE KEY":
		key, err = x509.ParseECPrivateKey(block.Bytes)
	case "RSA PRIVATE KEY":
		key, err = x509.ParsePKCS1PrivateKey(block.Bytes)
	default:
		key, err = x509.ParsePKCS8PrivateKey(block.Bytes)
	}
	if err != nil {
		return nil, err
	}
	signer, ok := key.(crypto.Signer)
	if !ok {
		return nil, fmt.Errorf("a key of type %T cannot sign", key)
	}
	return signer, nil
}

// Issue makes a certificate for server and client use and its key, in PEM.
func (a Authority) Issue(n Names, now time.Time, random io.Reader) (certificate, key []byte, err error) {
	private, err := ecdsa.GenerateKey(elliptic.P256(), random)
	if err != nil {
		return nil, nil, fmt.Errorf("issue a certificate: %w", err)
	}
	template := &x509.Certificate{
		Subject: pkix.Name{CommonName: n.Common}, NotBefore: now.Add(-clockSlack), NotAfter: now.Add(machineLife),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	if template.NotAfter.After(a.Certificate.NotAfter) {
		template.NotAfter = a.Certificate.NotAfter
	}
	for _, host := range n.Hosts {
		if ip := net.ParseIP(host); ip != nil {
			template.IPAddresses = append(template.IPAddresses, ip)
		} else if host != "" {
			template.DNSNames = append(template.DNSNames, host)
		}
	}
	c, err := a.sign(template, private.Public(), random)
	if err != nil {
		return nil, nil, fmt.Errorf("issue a certificate: %w", err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		return nil, nil, fmt.Errorf("issue a certificate: %w", err)
	}
	return certificatePEM(c), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), nil
}

// Good is true when a certificate in PEM is of this authority, has these names
// and more than half of its life before it.
func (a Authority) Good(certificate []byte, n Names, now time.Time) bool {
	block, _ := pem.Decode(certificate)
	if block == nil {
		return false
	}
	c, err := x509.ParseCertificate(block.Bytes)
	if err != nil || c.CheckSignatureFrom(a.Certificate) != nil || c.Subject.CommonName != n.Common {
		return false
	}
	half := c.NotBefore.Add(c.NotAfter.Sub(c.NotBefore) / 2)
	if now.Before(c.NotBefore) || now.After(half) && c.NotAfter.Before(a.Certificate.NotAfter) || now.After(c.NotAfter) {
		return false
	}
	has := slices.Clone(c.DNSNames)
	for _, ip := range c.IPAddresses {
		has = append(has, ip.String())
	}
	for _, host := range n.Hosts {
		if ip := net.ParseIP(host); ip != nil {
			host = ip.String()
		}
		if host != "" && !slices.Contains(has, host) {
			return false
		}
	}
	return true
}

// Equal is true for the same authority.
func (a Authority) Equal(b Authority) bool { return bytes.Equal(a.Certificate.Raw, b.Certificate.Raw) }
