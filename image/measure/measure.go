// Package measure computes what systemd's EFI stub measures of a UKI into PCR 11
// of a TPM, and signs it, so that a secret that is bound to the signer opens
// under every release of the signer and under nothing else.
//
// The builder uses it; `coracle inspect` shows what it signed. It follows
// systemd-stub(7), systemd-measure(1) and part 3 of the TPM 2.0 library
// specification, with SHA-256 and RSA. Stage 1 measures two words after the stub,
// as systemd's initrd does: the signature is for the time between them, so the
// running system cannot open the secret any more.
//
// It is our own because it is a few sums; systemd-measure is what its tests
// compare with. Left out on purpose: other banks, profiles of a UKI.
package measure

import (
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"slices"

	"github.com/coracle-os/coracle/image/uki"
)

// PCR is where the stub measures a UKI.
const PCR = 11

// Words that stage 1 measures into PCR: at its start, and when it is done with
// the secret.
const (
	EnterInitrd = "enter-initrd"
	LeaveInitrd = "leave-initrd"
)

// Names of the sections with the signature and the public key.
const (
	SignatureSection = ".pcrsig"
	KeySection       = ".pcrpkey"
)

// order is the order in which the stub measures sections; .pcrsig is not.
var order = []string{".linux", ".osrel", ".cmdline", ".initrd", ".ucode", ".splash", ".dtb", ".uname", ".sbat", KeySection,
	".profile", ".dtbauto", ".hwids", ".efifw"}

// A Value is the content of a PCR.
type Value [sha256.Size]byte

// Extend returns the value after data was measured.
func (v Value) Extend(data []byte) Value {
	sum := sha256.Sum256(data)
	return sha256.Sum256(append(v[:], sum[:]...))
}

// UKI is the value of PCR 11 when the stub starts the kernel of a UKI.
func UKI(image *uki.Image) (Value, error) {
	var v Value
	for _, name := range order {
		i := slices.IndexFunc(image.Sections, func(s uki.SectionInfo) bool { return s.Name == name })
		if i < 0 {
			continue
		}
		content, err := image.Section(name)
		if err != nil {
			return v, fmt.Errorf("measure UKI: %w", err)
		}
		// In memory a section has its virtual size.
		if more := int64(image.Sections[i].VirtualSize) - int64(len(content)); more > 0 {
			content = append(content, make([]byte, more)...)
		}
		v = v.Extend([]byte(name + "\x00")).Extend(content)
	}
	return v, nil
}

// Stage1 is the value in stage 1, for one that the stub leaves.
func (v Value) Stage1() Value { return v.Extend([]byte(EnterInitrd)) }

// Running is the value in the running system, for one that the stub leaves.
func (v Value) Running() Value { return v.Stage1().Extend([]byte(LeaveInitrd)) }

// policy is the digest of a policy that asks for this value of PCR 11.
func (v Value) policy() [sha256.Size]byte {
	const commandPolicyPCR, algorithmSHA256 = 0x17f, 0x000b
	b := make([]byte, sha256.Size)
	b = binary.BigEndian.AppendUint32(b, commandPolicyPCR)
	b = binary.BigEndian.AppendUint32(b, 1) // one bank
	b = binary.BigEndian.AppendUint16(b, algorithmSHA256)
	b = append(b, 3, 0, 1<<(PCR-8), 0) // bits of PCRs 0 to 23
	values := sha256.Sum256(v[:])
	return sha256.Sum256(append(b, values[:]...))
}

// A Signature is one entry of section .pcrsig.
type Signature struct {
	PCRs   []int  `json:"pcrs"`
	Key    string `json:"pkfp"` // SHA-256 of the public key's DER, hexadecimal
	Policy string `json:"pol"`  // digest, hexadecimal
	Sig    []byte `json:"sig"`
}

// Signatures is section .pcrsig: entries by bank.
type Signatures map[string][]Signature

// Sign signs the policy that PCR 11 is that of stage 1, for a UKI that is
// measured as v.
func Sign(v Value, key *rsa.PrivateKey) (Signatures, error) {
	der, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		return nil, fmt.Errorf("sign measurements: %w", err)
	}
	policy := v.Stage1().policy()
	sum := sha256.Sum256(policy[:])
	sig, err := key.Sign(rand.Reader, sum[:], crypto.SHA256)
	if err != nil {
		return nil, fmt.Errorf("sign measurements: %w", err)
	}
	name := sha256.Sum256(der)
	return Signatures{"sha256": {{[]int{PCR}, hex.EncodeToString(name[:]), hex.EncodeToString(policy[:]), sig}}}, nil
}

// PublicKey is section .pcrpkey: the key as PEM.
func PublicKey(key *rsa.PrivateKey) ([]byte, error) {
	der, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		return nil, fmt.Errorf("encode public key: %w", err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}), nil
}

// ParseKey reads section .pcrpkey.
func ParseKey(text []byte) (*rsa.PublicKey, error) {
	block, _ := pem.Decode(text)
	if block == nil {
		return nil, errors.New("read public key: it is not PEM")
	}
	key, err := x509.ParsePKIXPublicKey(block.Bytes)
	if err != nil {
		return nil, fmt.Errorf("read public key: %w", err)
	}
	public, ok := key.(*rsa.PublicKey)
	if !ok {
		return nil, fmt.Errorf("read public key: it is of type %T, want RSA", key)
	}
	return public, nil
}

// ParseSignatures reads section .pcrsig.
func ParseSignatures(text []byte) (Signatures, error) {
	var s Signatures
	if err := json.Unmarshal(text, &s); err != nil {
		return nil, fmt.Errorf("read signed measurements: %w", err)
	}
	return s, nil
}

// Check says whether the signatures have one by the key for a UKI that is
// measured as v.
func (s Signatures) Check(v Value, key *rsa.PublicKey) error {
	policy := v.Stage1().policy()
	for _, one := range s["sha256"] {
		if one.Policy != hex.EncodeToString(policy[:]) {
			continue
		}
		sum := sha256.Sum256(policy[:])
		return rsa.VerifyPKCS1v15(key, crypto.SHA256, sum[:], one.Sig)
	}
	return errors.New("its measurements are not those that are signed")
}
