// Package tpm keeps a secret in the TPM 2 of the machine for stage 1: sealed so
// that it opens only while a release of the same signer starts, on this TPM.
//
// The policy is: the key of the UKI's section .pcrpkey has signed what PCR 11
// has now (PolicyAuthorize; package image/measure), and PCRs of the caller's
// choice are as they were when the secret was sealed. PCR 12, into which the EFI
// stub measures what is not of the release (a command line from elsewhere,
// credentials), should be one of them, and where Secure Boot is enforced PCR 7,
// its state and keys: without it a program that is not signed can measure a
// release that it is not. So updates and rollbacks open the secret, and neither
// another system nor another command line does.
// The TPM's key is the ECC storage key of the TCG's provisioning guidance.
//
// The commands are google/go-tpm's. Left out on purpose: PINs, RSA storage keys,
// the dictionary attack counter (nothing here can be guessed).
package tpm

import (
	"crypto/rsa"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"

	"github.com/google/go-tpm/tpm2"
	"github.com/google/go-tpm/tpm2/transport"

	"github.com/coracle-os/coracle/image/measure"
)

// Device is the kernel's resource-managed TPM.
const Device = "/dev/tpmrm0"

// PCRs that a release does not change.
const (
	SecureBootPCR = 7  // whether it is enforced, its keys
	LinePCR       = 12 // what is added to the command line of a release
)

// ErrPolicy says that a secret does not open for what was started.
var ErrPolicy = errors.New("the TPM does not release the key: what was started is not a release of the signer, Secure Boot or the kernel arguments were changed, or the TPM is another one")

// A Blob is a sealed secret, as the TPM gave it; it is of use only to that TPM.
type Blob struct {
	Public, Private []byte
	PCRs            []uint // that must be as they were, beside what is signed
}

// Measure extends PCR 11 by a word.
func Measure(t transport.TPM, word string) error { return extend(t, measure.PCR, word) }

func extend(t transport.TPM, pcr uint, word string) error {
	sum := sha256.Sum256([]byte(word))
	_, err := tpm2.PCRExtend{
		PCRHandle: tpm2.AuthHandle{Handle: tpm2.TPMHandle(pcr), Auth: tpm2.PasswordAuth(nil)},
		Digests:   tpm2.TPMLDigestValues{Digests: []tpm2.TPMTHA{{HashAlg: tpm2.TPMAlgSHA256, Digest: sum[:]}}},
	}.Execute(t)
	if err != nil {
		return fmt.Errorf("measure %q into PCR %d: %w", word, pcr, err)
	}
	return nil
}

// Seal seals a secret of at most 128 bytes for the releases of a key, while the
// PCRs are as they are now.
func Seal(t transport.TPM, secret []byte, key *rsa.PublicKey, pcrs ...uint) (Blob, error) {
	blob, err := seal(t, secret, key, pcrs)
	if err != nil {
		return Blob{}, fmt.Errorf("seal the key to the TPM: %w", err)
	}
	return blob, nil
}

func seal(t transport.TPM, secret []byte, key *rsa.PublicKey, pcrs []uint) (Blob, error) {
	policy, err := policyDigest(t, key, pcrs)
	if err != nil {
		return Blob{}, err
	}
	parent, err := storageKey(t)
	if err != nil {
		return Blob{}, err
	}
	defer parent.flush(t)
	created, err := tpm2.Create{
		ParentHandle: tpm2.AuthHandle{Handle: parent.handle, Name: parent.name,
			Auth: tpm2.HMAC(tpm2.TPMAlgSHA256, 16, tpm2.Salted(parent.handle, parent.public), tpm2.AESEncryption(128, tpm2.EncryptIn))},
		InSensitive: tpm2.TPM2BSensitiveCreate{Sensitive: &tpm2.TPMSSensitiveCreate{
			Data: tpm2.NewTPMUSensitiveCreate(&tpm2.TPM2BSensitiveData{Buffer: secret}),
		}},
		InPublic: tpm2.New2B(tpm2.TPMTPublic{
			Type: tpm2.TPMAlgKeyedHash, NameAlg: tpm2.TPMAlgSHA256,
			ObjectAttributes: tpm2.TPMAObject{FixedTPM: true, FixedParent: true},
			AuthPolicy:       tpm2.TPM2BDigest{Buffer: policy},
		}),
	}.Execute(t)
	if err != nil {
		return Blob{}, err
	}
	return Blob{tpm2.Marshal(created.OutPublic), tpm2.Marshal(created.OutPrivate), pcrs}, nil
}

// Unseal opens a blob. An error wraps ErrPolicy when it does not open for what
// was started.
func Unseal(t transport.TPM, blob Blob, key *rsa.PublicKey, signed measure.Signatures) ([]byte, error) {
	secret, err := unseal(t, blob, key, signed)
	if err != nil {
		return nil, fmt.Errorf("open the key in the TPM: %w", err)
	}
	return secret, nil
}

func unseal(t transport.TPM, blob Blob, key *rsa.PublicKey, signed measure.Signatures) ([]byte, error) {
	public, err := tpm2.Unmarshal[tpm2.TPM2BPublic](blob.Public)
	if err != nil {
		return nil, fmt.Errorf("the sealed key is damaged: %w", err)
	}
	private, err := tpm2.Unmarshal[tpm2.TPM2BPrivate](blob.Private)
	if err != nil {
		return nil, fmt.Errorf("the sealed key is damaged: %w", err)
	}
	parent, err := storageKey(t)
	if err != nil {
		return nil, err
	}
	defer parent.flush(t)
	loaded, err := tpm2.Load{ParentHandle: tpm2.NamedHandle{Handle: parent.handle, Name: parent.name}, InPublic: *public, InPrivate: *private}.Execute(t)
	if err != nil {
		return nil, fmt.Errorf("%w (load: %w)", ErrPolicy, err)
	}
	defer tpm2.FlushContext{FlushHandle: loaded.ObjectHandle}.Execute(t)
	session, closeSession, err := tpm2.PolicySession(t, tpm2.TPMAlgSHA256, 16,
		tpm2.Salted(parent.handle, parent.public), tpm2.AESEncryption(128, tpm2.EncryptOut))
	if err != nil {
		return nil, err
	}
	defer closeSession()
	if err := satisfy(t, session.Handle(), key, signed, blob.PCRs); err != nil {
		return nil, err
	}
	answer, err := tpm2.Unseal{ItemHandle: tpm2.AuthHandle{Handle: loaded.ObjectHandle, Name: loaded.Name, Auth: session}}.Execute(t)
	if err != nil {
		return nil, fmt.Errorf("%w (%w)", ErrPolicy, err)
	}
	return answer.OutData.Buffer, nil
}

// satisfy takes a session through the policy.
func satisfy(t transport.TPM, session tpm2.TPMHandle, key *rsa.PublicKey, signed measure.Signatures, pcrs []uint) error {
	if _, err := (tpm2.PolicyPCR{PolicySession: session, Pcrs: selection(measure.PCR)}).Execute(t); err != nil {
		return err
	}
	now, err := tpm2.PolicyGetDigest{PolicySession: session}.Execute(t)
	if err != nil {
		return err
	}
	var signature []byte
	for _, s := range signed["sha256"] {
		if s.Policy == hex.EncodeToString(now.PolicyDigest.Buffer) {
			signature = s.Sig
		}
	}
	if signature == nil {
		return fmt.Errorf("%w (no signature for policy %x)", ErrPolicy, now.PolicyDigest.Buffer)
	}
	external, err := tpm2.LoadExternal{InPublic: tpm2.New2B(template(key)), Hierarchy: tpm2.TPMRHOwner}.Execute(t)
	if err != nil {
		return err
	}
	defer tpm2.FlushContext{FlushHandle: external.ObjectHandle}.Execute(t)
	sum := sha256.Sum256(now.PolicyDigest.Buffer)
	verified, err := tpm2.VerifySignature{
		KeyHandle: external.ObjectHandle, Digest: tpm2.TPM2BDigest{Buffer: sum[:]},
		Signature: tpm2.TPMTSignature{SigAlg: tpm2.TPMAlgRSASSA, Signature: tpm2.NewTPMUSignature(tpm2.TPMAlgRSASSA,
			&tpm2.TPMSSignatureRSA{Hash: tpm2.TPMAlgSHA256, Sig: tpm2.TPM2BPublicKeyRSA{Buffer: signature}})},
	}.Execute(t)
	if err != nil {
		return fmt.Errorf("%w (signature: %w)", ErrPolicy, err)
	}
	if _, err := (tpm2.PolicyAuthorize{
		PolicySession: session, ApprovedPolicy: now.PolicyDigest, KeySign: external.Name, CheckTicket: verified.Validation,
	}).Execute(t); err != nil {
		return fmt.Errorf("%w (authorize: %w)", ErrPolicy, err)
	}
	_, err = tpm2.PolicyPCR{PolicySession: session, Pcrs: selection(pcrs...)}.Execute(t)
	return err
}

// policyDigest is the digest of the policy with the PCRs as they are now.
func policyDigest(t transport.TPM, key *rsa.PublicKey, pcrs []uint) ([]byte, error) {
	read, err := tpm2.PCRRead{PCRSelectionIn: selection(pcrs...)}.Execute(t)
	if err != nil {
		return nil, err
	}
	if len(read.PCRValues.Digests) != len(pcrs) {
		return nil, errors.New("the TPM has no SHA-256 bank; switch it on in the firmware")
	}
	name, err := tpm2.ObjectName(ptr(template(key)))
	if err != nil {
		return nil, err
	}
	calculator, err := tpm2.NewPolicyCalculator(tpm2.TPMAlgSHA256)
	if err != nil {
		return nil, err
	}
	if err := (tpm2.PolicyAuthorize{KeySign: *name}).Update(calculator); err != nil {
		return nil, err
	}
	values := sha256.New()
	for _, d := range read.PCRValues.Digests { // in the order of their numbers
		values.Write(d.Buffer)
	}
	if err := (tpm2.PolicyPCR{PcrDigest: tpm2.TPM2BDigest{Buffer: values.Sum(nil)}, Pcrs: selection(pcrs...)}).Update(calculator); err != nil {
		return nil, err
	}
	return calculator.Hash().Digest, nil
}

func ptr[T any](v T) *T { return &v }

// storage is the TPM's storage key. What goes to it and comes from it is
// encrypted with it, against listeners on the bus.
type storage struct {
	handle tpm2.TPMHandle
	name   tpm2.TPM2BName
	public tpm2.TPMTPublic
}

// storageKey makes the storage key, which is the same at every call.
func storageKey(t transport.TPM) (storage, error) {
	primary, err := tpm2.CreatePrimary{PrimaryHandle: tpm2.TPMRHOwner, InPublic: tpm2.New2B(tpm2.ECCSRKTemplate)}.Execute(t)
	if err != nil {
		return storage{}, fmt.Errorf("make the storage key: %w", err)
	}
	public, err := primary.OutPublic.Contents()
	if err != nil {
		return storage{}, fmt.Errorf("make the storage key: %w", err)
	}
	return storage{primary.ObjectHandle, primary.Name, *public}, nil
}

func (s storage) flush(t transport.TPM) { _, _ = tpm2.FlushContext{FlushHandle: s.handle}.Execute(t) }

// template is the key as the TPM names it; the same as systemd's.
func template(key *rsa.PublicKey) tpm2.TPMTPublic {
	return tpm2.TPMTPublic{
		Type: tpm2.TPMAlgRSA, NameAlg: tpm2.TPMAlgSHA256,
		ObjectAttributes: tpm2.TPMAObject{Decrypt: true, SignEncrypt: true, UserWithAuth: true},
		Parameters: tpm2.NewTPMUPublicParms(tpm2.TPMAlgRSA, &tpm2.TPMSRSAParms{
			Symmetric: tpm2.TPMTSymDefObject{Algorithm: tpm2.TPMAlgNull}, Scheme: tpm2.TPMTRSAScheme{Scheme: tpm2.TPMAlgNull},
			KeyBits: tpm2.TPMKeyBits(key.N.BitLen()),
		}),
		Unique: tpm2.NewTPMUPublicID(tpm2.TPMAlgRSA, &tpm2.TPM2BPublicKeyRSA{Buffer: key.N.Bytes()}),
	}
}

func selection(pcrs ...uint) tpm2.TPMLPCRSelection {
	return tpm2.TPMLPCRSelection{PCRSelections: []tpm2.TPMSPCRSelection{{Hash: tpm2.TPMAlgSHA256, PCRSelect: tpm2.PCClientCompatible.PCRs(pcrs...)}}}
}
