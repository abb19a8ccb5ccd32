// Package hostkeys keeps the keys by which clients know this machine. They are
// made once, at the first start, and written so that a power cut leaves either
// a whole key or none. It is for the SSH server; the files have OpenSSH's names
// and format (ssh_host_ed25519_key and so on, PEM "OPENSSH PRIVATE KEY").
package hostkeys

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/crypto/ssh"
)

// Kind is a type of key, by the name that it has in the file's name.
type Kind string

// The kinds of keys. RSA takes seconds to make on a slow machine; the others
// take none.
const (
	Ed25519 Kind = "ed25519"
	ECDSA   Kind = "ecdsa"
	RSA     Kind = "rsa"
)

// rsaBits is the size of RSA keys, that of ssh-keygen.
const rsaBits = 3072

// Path returns the file of a kind's private key in dir.
func (k Kind) Path(dir string) string { return filepath.Join(dir, "ssh_host_"+string(k)+"_key") }

// Load reads the key of a kind from dir, or makes it there. The signer is
// usable even when err is not nil: it then holds for this run only, and err
// says why it could not be kept or what was wrong with the kept one, which is
// left as it is.
func Load(dir string, kind Kind) (ssh.Signer, error) {
	path := kind.Path(dir)
	data, err := os.ReadFile(path)
	if err == nil {
		signer, perr := ssh.ParsePrivateKey(data)
		if perr == nil {
			return signer, nil
		}
		err = fmt.Errorf("read host key %q: %w; remove it to get a new one", path, perr)
		return fallback(kind, err)
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return fallback(kind, fmt.Errorf("read host key: %w", err))
	}
	key, signer, err := generate(kind)
	if err != nil {
		return nil, err
	}
	if err := store(path, key, signer); err != nil {
		return signer, fmt.Errorf("keep the new host key: %w; clients will see another key after a restart", err)
	}
	return signer, nil
}

func fallback(kind Kind, cause error) (ssh.Signer, error) {
	_, signer, err := generate(kind)
	if err != nil {
		return nil, errors.Join(cause, err)
	}
	return signer, cause
}

func generate(kind Kind) (crypto.PrivateKey, ssh.Signer, error) {
	var key crypto.PrivateKey
	var err error
	switch kind {
	case Ed25519:
		var k ed25519.PrivateKey
		_, k, err = ed25519.GenerateKey(rand.Reader)
		key = &k
	case ECDSA:
		key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	case RSA:
		key, err = rsa.GenerateKey(rand.Reader, rsaBits)
	default:
		err = fmt.Errorf("unknown kind %q", kind)
	}
	if err != nil {
		return nil, nil, fmt.Errorf("make host key: %w", err)
	}
	signer, err := ssh.NewSignerFromKey(key)
	if err != nil {
		return nil, nil, fmt.Errorf("make host key: %w", err)
	}
	return key, signer, nil
}

// store writes the public half, then the private one: a private key is only
// ever there whole, and with its public half.
func store(path string, key crypto.PrivateKey, signer ssh.Signer) error {
	block, err := ssh.MarshalPrivateKey(key, "")
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	if err := replace(path+".pub", ssh.MarshalAuthorizedKey(signer.PublicKey()), 0o644); err != nil {
		return err
	}
	return replace(path, pem.EncodeToMemory(block), 0o600)
}

// replace writes a file under a temporary name, syncs it, and renames it.
func replace(path string, data []byte, mode fs.FileMode) (err error) {
	f, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+".*")
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			os.Remove(f.Name())
		}
	}()
	_, err = f.Write(data)
	err = errors.Join(err, f.Chmod(mode), f.Sync(), f.Close())
	if err != nil {
		return err
	}
	if err := os.Rename(f.Name(), path); err != nil {
		return err
	}
	dir, err := os.Open(filepath.Dir(path))
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}
