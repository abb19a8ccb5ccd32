// Package secureboot makes and keeps the keys of UEFI Secure Boot: PK, which
// says whose machine it is, KEK, which may change what the machine trusts, db,
// which signs systemd-boot and the UKIs, and dbx, the programs that are revoked.
// `coracle key secure-boot` uses it, and the builder, which signs with db and
// puts the updates of the variables on the ESP, where systemd-boot enrols them
// on a machine in setup mode.
//
// A directory has for each NAME of PK, KEK and db: NAME.key (PKCS #8, to be kept
// secret; PK.key and KEK.key offline), NAME.pem and NAME.cer (the certificate as
// text and, for the menu of a firmware, as DER), NAME.esl (the variable's
// content) and NAME.auth (the same, signed: UEFI specification, 8.2 and 32). The
// builder needs db.key, db.pem, pcr.key and the .auth files only. pcr.key signs
// what TPMs measure (package measure); secrets that are sealed to it open
// under no other key, so it is not rotated.
//
// RSA with 2048 bits and SHA-256 is what all firmware knows. Left out on
// purpose: Microsoft's keys (firmware of graphic and network cards is not
// started without them; enrol those by the firmware's menu where it matters).
package secureboot

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/coracle-os/coracle/image/efisign"
)

// keyBits is the size of the keys.
const keyBits = 2048

// Soon is how long before its expiry a certificate should be replaced.
const Soon = 90 * 24 * time.Hour

// Names are the variables with keys, in the order in which they are signed:
// each by the one before it.
func Names() []string { return []string{"PK", "KEK", "db"} }

// Variables are those with an update in the directory, in the order in which a
// machine in setup mode takes them: PK ends that mode.
func Variables() []string { return []string{"db", "dbx", "KEK", "PK"} }

// A Store is a directory of keys.
type Store struct {
	Dir   string
	Now   func() time.Time
	Valid time.Duration // of a new certificate
}

func (s Store) path(name string) string { return filepath.Join(s.Dir, name) }

// Create makes keys and updates. A directory that has keys is an error.
func (s Store) Create() error {
	if err := os.MkdirAll(s.Dir, 0o700); err != nil {
		return fmt.Errorf("make Secure Boot keys: %w", err)
	}
	for _, name := range Names() {
		if _, err := os.Stat(s.path(name + ".key")); !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("make Secure Boot keys: %q is there already: take another directory, or -rotate %s", s.path(name+".key"), name)
		}
	}
	if err := write(s.path("owner"), []byte(uuid.NewString()+"\n"), 0o644); err != nil {
		return err
	}
	for _, name := range Names() {
		if err := s.newKey(name); err != nil {
			return err
		}
	}
	key, err := rsa.GenerateKey(rand.Reader, keyBits)
	if err != nil {
		return fmt.Errorf("make key for measurements: %w", err)
	}
	if err := s.writeKey("pcr", key); err != nil {
		return err
	}
	return s.sign(Names()...)
}

// Rotate replaces a key. Programs that the old db key signed are trusted until
// they are revoked. A machine that has an old PK takes PK-update.auth.
func (s Store) Rotate(name string) error {
	old, err := s.Signer(name)
	if err != nil {
		return err
	}
	if err := s.newKey(name); err != nil {
		return err
	}
	if name == "PK" {
		content, err := os.ReadFile(s.path("PK.esl"))
		if err != nil {
			return err
		}
		if err := s.writeUpdate("PK-update.auth", name, content, old); err != nil {
			return err
		}
	}
	again := map[string][]string{"PK": {"PK", "KEK"}, "KEK": {"KEK", "db", "dbx"}, "db": {"db"}}[name]
	return s.sign(again...)
}

// newKey makes a key and puts its certificate into the variable's content.
func (s Store) newKey(name string) error {
	owner, err := s.owner()
	if err != nil {
		return err
	}
	key, err := rsa.GenerateKey(rand.Reader, keyBits)
	if err != nil {
		return fmt.Errorf("make key %s: %w", name, err)
	}
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 120))
	if err != nil {
		return fmt.Errorf("make key %s: %w", name, err)
	}
	now := s.Now().UTC().Truncate(time.Second)
	template := &x509.Certificate{
		SerialNumber: serial, Subject: pkix.Name{CommonName: "Coracle Secure Boot " + name + " " + now.Format(time.DateOnly)},
		NotBefore: now.Add(-time.Hour), NotAfter: now.Add(s.Valid),
		BasicConstraintsValid: true, IsCA: name != "db", KeyUsage: x509.KeyUsageDigitalSignature,
	}
	certificate, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return fmt.Errorf("make key %s: %w", name, err)
	}
	content := signatureList(certX509, owner, certificate)
	if name == "db" {
		// What was signed before goes on starting.
		old, err := os.ReadFile(s.path("db.esl"))
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		content = append(content, old...)
	}
	return errors.Join(
		s.writeKey(name, key),
		write(s.path(name+".pem"), pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: certificate}), 0o644),
		write(s.path(name+".cer"), certificate, 0o644),
		write(s.path(name+".esl"), content, 0o644),
	)
}

func (s Store) writeKey(name string, key *rsa.PrivateKey) error {
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return fmt.Errorf("write key %s: %w", name, err)
	}
	return write(s.path(name+".key"), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private}), 0o600)
}

// sign writes the updates of variables anew. One without content has none.
func (s Store) sign(names ...string) error {
	for _, name := range names {
		content, err := os.ReadFile(s.path(name + ".esl"))
		if errors.Is(err, fs.ErrNotExist) && name == "dbx" {
			continue
		}
		if err != nil {
			return fmt.Errorf("sign variable %s: %w", name, err)
		}
		by := "KEK"
		if name == "PK" || name == "KEK" {
			by = "PK"
		}
		signer, err := s.Signer(by)
		if err != nil {
			return err
		}
		if err := signer.CheckTime(s.Now()); err != nil {
			return fmt.Errorf("sign variable %s: %w", name, err)
		}
		if err := s.writeUpdate(name+".auth", name, content, signer); err != nil {
			return err
		}
	}
	return nil
}

func (s Store) writeUpdate(file, name string, content []byte, by efisign.Signer) error {
	signed, err := update(name, attributes, s.Now(), content, by)
	if err != nil {
		return err
	}
	return write(s.path(file), signed, 0o644)
}

// Revoke adds programs to dbx by their digests (package efisign). It returns how
// many were not in it yet.
func (s Store) Revoke(programs ...[sha256.Size]byte) (added int, err error) {
	owner, err := s.owner()
	if err != nil {
		return 0, err
	}
	content, err := os.ReadFile(s.path("dbx.esl"))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return 0, fmt.Errorf("revoke: %w", err)
	}
	for _, digest := range programs {
		if strings.Contains(string(content), string(digest[:])) {
			continue
		}
		content = append(content, signatureList(certSHA256, owner, digest[:])...)
		added++
	}
	if added == 0 {
		return 0, nil
	}
	if err := write(s.path("dbx.esl"), content, 0o644); err != nil {
		return 0, err
	}
	return added, s.sign("dbx")
}

// Signer reads a key and its certificate, and checks that they belong together.
func (s Store) Signer(name string) (efisign.Signer, error) {
	signer, err := ReadSigner(s.path(name+".key"), s.path(name+".pem"))
	if err != nil {
		return signer, fmt.Errorf("Secure Boot key %s: %w", name, err)
	}
	return signer, nil
}

// ReadSigner reads a key and a certificate, both PEM.
func ReadSigner(keyFile, certificateFile string) (efisign.Signer, error) {
	key, err := readKey(keyFile)
	if err != nil {
		return efisign.Signer{}, err
	}
	block, err := readPEM(certificateFile)
	if err != nil {
		return efisign.Signer{}, err
	}
	certificate, err := x509.ParseCertificate(block)
	if err != nil {
		return efisign.Signer{}, fmt.Errorf("%q: %w", certificateFile, err)
	}
	if !key.PublicKey.Equal(certificate.PublicKey) {
		return efisign.Signer{}, fmt.Errorf("%q is not the certificate of %q", certificateFile, keyFile)
	}
	return efisign.Signer{Key: key, Certificate: certificate}, nil
}

// MeasurementKey reads the key that signs measurements.
func (s Store) MeasurementKey() (*rsa.PrivateKey, error) { return readKey(s.path("pcr.key")) }

func readKey(path string) (*rsa.PrivateKey, error) {
	block, err := readPEM(path)
	if err != nil {
		return nil, err
	}
	parsed, err := x509.ParsePKCS8PrivateKey(block)
	if err != nil {
		return nil, fmt.Errorf("%q: %w", path, err)
	}
	key, ok := parsed.(*rsa.PrivateKey)
	if !ok {
		return nil, fmt.Errorf("%q: a key of type %T; firmware wants RSA", path, parsed)
	}
	return key, nil
}

func readPEM(path string) ([]byte, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	block, _ := pem.Decode(text)
	if block == nil {
		return nil, fmt.Errorf("%q: it is not PEM", path)
	}
	return block.Bytes, nil
}

func (s Store) owner() (uuid.UUID, error) {
	text, err := os.ReadFile(s.path("owner"))
	if err != nil {
		return uuid.UUID{}, fmt.Errorf("Secure Boot keys: %w (coracle key secure-boot makes them)", err)
	}
	owner, err := uuid.Parse(strings.TrimSpace(string(text)))
	if err != nil {
		return uuid.UUID{}, fmt.Errorf("Secure Boot keys: %q: %w", s.path("owner"), err)
	}
	return owner, nil
}

// write replaces a file as a whole.
func write(path string, content []byte, mode fs.FileMode) error {
	temporary := path + ".new"
	if err := os.WriteFile(temporary, content, mode); err != nil {
		return err
	}
	return os.Rename(temporary, path)
}
