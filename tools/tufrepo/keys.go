package tufrepo

import (
	"crypto"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/sigstore/sigstore/pkg/signature"
	"github.com/theupdateframework/go-tuf/v2/metadata"
)

// A Key is a private key with the public form that root metadata has.
type Key struct {
	ID     string
	Role   string // what it was made for; root metadata decides
	File   string
	public *metadata.Key
	signer signature.Signer
}

// Keys are the private keys at hand, by their ID. They need not be all:
// offline keys stay away.
type Keys map[string]*Key

const (
	keySuffix = ".key"
	pemType   = "PRIVATE KEY"
)

// LoadKeys reads the key files of the directories. Other files are left alone.
func LoadKeys(dirs ...string) (Keys, error) {
	keys := Keys{}
	for _, dir := range dirs {
		entries, err := os.ReadDir(dir)
		if err != nil {
			return nil, fmt.Errorf("read keys: %w; `coracle key init` makes them", err)
		}
		for _, e := range entries {
			if !strings.HasSuffix(e.Name(), keySuffix) || e.IsDir() {
				continue
			}
			key, err := loadKey(filepath.Join(dir, e.Name()))
			if err != nil {
				return nil, err
			}
			keys[key.ID] = key
		}
	}
	return keys, nil
}

func loadKey(file string) (*Key, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("read key: %w", err)
	}
	block, _ := pem.Decode(text)
	if block == nil || block.Type != pemType {
		return nil, fmt.Errorf("read key %q: no PEM block %q", file, pemType)
	}
	parsed, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return nil, fmt.Errorf("read key %q: %w", file, err)
	}
	private, ok := parsed.(ed25519.PrivateKey)
	if !ok {
		return nil, fmt.Errorf("read key %q: a %T, want Ed25519", file, parsed)
	}
	role, _, _ := strings.Cut(filepath.Base(file), "-")
	return newKey(private, role, file)
}

func newKey(private ed25519.PrivateKey, role, file string) (*Key, error) {
	public, err := metadata.KeyFromPublicKey(private.Public())
	if err != nil {
		return nil, fmt.Errorf("key of %s: %w", role, err)
	}
	id, err := public.ID()
	if err != nil {
		return nil, fmt.Errorf("key of %s: %w", role, err)
	}
	signer, err := signature.LoadSigner(private, crypto.Hash(0))
	if err != nil {
		return nil, fmt.Errorf("key of %s: %w", role, err)
	}
	return &Key{ID: id, Role: role, File: file, public: public, signer: signer}, nil
}

// Generate makes a key for a role, writes it to dir (mode 0600, named
// ROLE-ID.key) and adds it to the keys.
func (k Keys) Generate(dir, role string) (*Key, error) {
	_, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("make key of %s: %w", role, err)
	}
	key, err := newKey(private, role, "")
	if err != nil {
		return nil, err
	}
	der, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		return nil, fmt.Errorf("make key of %s: %w", role, err)
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("make key of %s: %w", role, err)
	}
	key.File = filepath.Join(dir, role+"-"+key.ID[:12]+keySuffix)
	text := pem.EncodeToMemory(&pem.Block{Type: pemType, Bytes: der})
	if err := writeFile(key.File, text, 0o600); err != nil {
		return nil, fmt.Errorf("make key of %s: %w", role, err)
	}
	k[key.ID] = key
	return key, nil
}

// of returns the keys at hand that a role has.
func (k Keys) of(role *metadata.Role) []*Key {
	var keys []*Key
	for _, id := range role.KeyIDs {
		if key := k[id]; key != nil {
			keys = append(keys, key)
		}
	}
	return keys
}

// noKey is the error for keys of a role that are not at hand.
func noKey(role string, have, want int) error {
	return fmt.Errorf("sign %s: %d of the %d keys that it needs are here; name the directory of its keys with -key-dir", role, have, want)
}

// dirOf says where keys of a role are, for new ones; else the first of dirs.
func (k Keys) dirOf(role string, dirs []string) (string, error) {
	var files []string
	for _, key := range k {
		if key.Role == role {
			files = append(files, key.File)
		}
	}
	if len(files) > 0 {
		return filepath.Dir(slices.Min(files)), nil
	}
	if len(dirs) == 0 {
		return "", errors.New("no directory for the new key; name one with -key-dir")
	}
	return dirs[0], nil
}

// writeFile writes a file so that it is there as a whole or not at all, also
// after a power cut.
func writeFile(name string, content []byte, mode fs.FileMode) error {
	f, err := os.CreateTemp(filepath.Dir(name), ".new-*")
	if err != nil {
		return err
	}
	_, err = f.Write(content)
	return moveInto(f, name, mode, err)
}

// moveInto gives a temporary file its name, or removes it when there was an
// error already.
func moveInto(f *os.File, name string, mode fs.FileMode, err error) error {
	if err == nil {
		err = f.Chmod(mode)
	}
	if err == nil {
		err = f.Sync()
	}
	err = errors.Join(err, f.Close())
	if err == nil {
		err = os.Rename(f.Name(), name)
	}
	if err != nil {
		return errors.Join(err, os.Remove(f.Name()))
	}
	return syncDir(filepath.Dir(name))
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
