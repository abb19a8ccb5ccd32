package efisign

import (
	"bytes"
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/asn1"
	"errors"
	"fmt"
	"math/big"
)

// Object identifiers of RFC 2315, RFC 8017, FIPS 180 and Authenticode.
var (
	oidData          = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 7, 1}
	oidSignedData    = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 7, 2}
	oidContentType   = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 9, 3}
	oidMessageDigest = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 9, 4}
	oidRSA           = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 1, 1}
	oidSHA256        = asn1.ObjectIdentifier{2, 16, 840, 1, 101, 3, 4, 2, 1}
	oidIndirectData  = asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 311, 2, 1, 4}
	oidOpusInfo      = asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 311, 2, 1, 12}
	oidPEImage       = asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 311, 2, 1, 15}
)

// The structures of RFC 2315 as far as they are used.
type (
	algorithm struct {
		ID         asn1.ObjectIdentifier
		Parameters asn1.RawValue `asn1:"optional"`
	}
	contentInfo struct {
		Type    asn1.ObjectIdentifier
		Content asn1.RawValue `asn1:"optional,explicit,tag:0"`
	}
	signedData struct {
		Version      int
		Digests      []algorithm `asn1:"set"`
		Content      contentInfo
		Certificates asn1.RawValue `asn1:"optional,tag:0"`
		CRLs         asn1.RawValue `asn1:"optional,tag:1"`
		Signers      []signerInfo  `asn1:"set"`
	}
	signerInfo struct {
		Version    int
		Issuer     issuerAndSerial
		Digest     algorithm
		Attributes asn1.RawValue `asn1:"optional,tag:0"`
		Encryption algorithm
		Signature  []byte
		Unsigned   asn1.RawValue `asn1:"optional,tag:1"`
	}
	issuerAndSerial struct {
		Issuer asn1.RawValue
		Serial *big.Int
	}
	attribute struct {
		Type   asn1.ObjectIdentifier
		Values []asn1.RawValue `asn1:"set"`
	}
)

func sha256Algorithm() algorithm { return algorithm{oidSHA256, asn1.NullRawValue} }

// Detached returns a DER SignedData (without a ContentInfo around it) of a
// message that is not in it, without attributes: what UEFI's authenticated
// variables want.
func (s Signer) Detached(message []byte) ([]byte, error) {
	sum := sha256.Sum256(message)
	return s.signedData(contentInfo{Type: oidData}, nil, sum)
}

// signedData signs sum, or, when there are some, the attributes, a DER SET.
func (s Signer) signedData(content contentInfo, attributes []byte, sum [sha256.Size]byte) ([]byte, error) {
	signer := signerInfo{
		Version: 1,
		Issuer:  issuerAndSerial{asn1.RawValue{FullBytes: s.Certificate.RawIssuer}, s.Certificate.SerialNumber},
		Digest:  sha256Algorithm(), Encryption: algorithm{oidRSA, asn1.NullRawValue},
	}
	if attributes != nil {
		sum = sha256.Sum256(attributes)
		implicit := bytes.Clone(attributes)
		implicit[0] = 0xa0 // [0] in place of SET
		signer.Attributes = asn1.RawValue{FullBytes: implicit}
	}
	var err error
	if signer.Signature, err = s.Key.Sign(rand.Reader, sum[:], crypto.SHA256); err != nil {
		return nil, err
	}
	return asn1.Marshal(signedData{
		Version: 1, Digests: []algorithm{sha256Algorithm()}, Content: content,
		Certificates: asn1.RawValue{Class: asn1.ClassContextSpecific, Tag: 0, IsCompound: true, Bytes: s.Certificate.Raw},
		Signers:      []signerInfo{signer},
	})
}

// attributeSet is the DER SET of the attributes that Authenticode signs.
func attributeSet(contentType asn1.ObjectIdentifier, sum []byte) ([]byte, error) {
	var attributes []attribute
	for _, one := range []struct {
		id    asn1.ObjectIdentifier
		value any
	}{{oidContentType, contentType}, {oidMessageDigest, sum}, {oidOpusInfo, struct{}{}}} {
		value, err := asn1.Marshal(one.value)
		if err != nil {
			return nil, err
		}
		attributes = append(attributes, attribute{one.id, []asn1.RawValue{{FullBytes: value}}})
	}
	return asn1.MarshalWithParams(attributes, "set")
}

// verified is what a SignedData says when its signature holds.
type verified struct {
	contentType asn1.ObjectIdentifier
	content     []byte // DER
	certificate *x509.Certificate
}

// verifySignedData checks a SignedData with its content in it, within a
// ContentInfo, of one signer with SHA-256 and RSA.
func verifySignedData(der []byte) (verified, error) {
	var outer contentInfo
	var sd signedData
	if _, err := asn1.Unmarshal(der, &outer); err != nil {
		return verified{}, fmt.Errorf("PKCS #7: %w", err)
	}
	if !outer.Type.Equal(oidSignedData) {
		return verified{}, fmt.Errorf("PKCS #7: content of type %v, want signed data", outer.Type)
	}
	if _, err := asn1.Unmarshal(outer.Content.Bytes, &sd); err != nil {
		return verified{}, fmt.Errorf("PKCS #7: %w", err)
	}
	if len(sd.Signers) != 1 || !sd.Signers[0].Digest.ID.Equal(oidSHA256) {
		return verified{}, errors.New("PKCS #7: want one signer with SHA-256")
	}
	var content asn1.RawValue
	if _, err := asn1.Unmarshal(sd.Content.Content.Bytes, &content); err != nil {
		return verified{}, fmt.Errorf("PKCS #7: content: %w", err)
	}
	certificate, err := sd.signerCertificate()
	if err != nil {
		return verified{}, err
	}
	sum := sha256.Sum256(content.Bytes)
	if err := sd.Signers[0].check(certificate, sum[:]); err != nil {
		return verified{}, err
	}
	return verified{sd.Content.Type, content.FullBytes, certificate}, nil
}

func (sd signedData) signerCertificate() (*x509.Certificate, error) {
	certificates, err := x509.ParseCertificates(sd.Certificates.Bytes)
	if err != nil {
		return nil, fmt.Errorf("PKCS #7: %w", err)
	}
	for _, c := range certificates {
		issuer := sd.Signers[0].Issuer
		if issuer.Serial != nil && c.SerialNumber.Cmp(issuer.Serial) == 0 && bytes.Equal(c.RawIssuer, issuer.Issuer.FullBytes) {
			return c, nil
		}
	}
	return nil, errors.New("PKCS #7: the signer's certificate is not in it")
}

// check checks the signature, and the attributes, if there are some, against
// the digest of the content.
func (s signerInfo) check(certificate *x509.Certificate, sum []byte) error {
	key, ok := certificate.PublicKey.(*rsa.PublicKey)
	if !ok {
		return fmt.Errorf("PKCS #7: the certificate has a key of type %T, want RSA", certificate.PublicKey)
	}
	if len(s.Attributes.FullBytes) > 0 {
		set := bytes.Clone(s.Attributes.FullBytes)
		set[0] = 0x31 // SET in place of [0]
		var attributes []attribute
		if _, err := asn1.UnmarshalWithParams(set, &attributes, "set"); err != nil {
			return fmt.Errorf("PKCS #7: attributes: %w", err)
		}
		if !bytes.Equal(messageDigest(attributes), sum) {
			return errors.New("the digest in the signature is not the content's")
		}
		own := sha256.Sum256(set)
		sum = own[:]
	}
	if err := rsa.VerifyPKCS1v15(key, crypto.SHA256, sum, s.Signature); err != nil {
		return fmt.Errorf("the signature is not of %q: %w", certificate.Subject.CommonName, err)
	}
	return nil
}

func messageDigest(attributes []attribute) []byte {
	for _, a := range attributes {
		if a.Type.Equal(oidMessageDigest) && len(a.Values) == 1 {
			return a.Values[0].Bytes
		}
	}
	return nil
}
