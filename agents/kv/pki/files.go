package pki

import (
	"bytes"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"
)

// Files are where a machine keeps what it has issued for itself.
type Files struct{ Authority, Certificate, Key string }

// In returns the names of the files in a directory.
func In(dir string) Files {
	return Files{filepath.Join(dir, "ca.crt"), filepath.Join(dir, "machine.crt"), filepath.Join(dir, "machine.key")}
}

// DataDir is the store's data directory on a machine, and Local the directory
// of its certificates; programs on the machine use them as their own.
const (
	DataDir = "/var/lib/etcd"
	Local   = DataDir + "/pki"
)

// Readable is true when all the files are there and can be read: the machine's
// own member has its authority, and the caller may use it.
func (f Files) Readable() bool {
	for _, name := range []string{f.Authority, f.Certificate, f.Key} {
		file, err := os.Open(name)
		if err != nil {
			return false
		}
		file.Close()
	}
	return true
}

// Ensure reads the authority in a file, and issues the machine's certificate
// into dir when the one there is not good any more.
func Ensure(authorityFile, dir string, n Names, now time.Time, random io.Reader) (Files, error) {
	f := In(dir)
	text, err := os.ReadFile(authorityFile)
	if err != nil {
		return f, fmt.Errorf("read the authority: %w; user-data's write_files puts it there, with owner etcd:etcd and permissions 0600", err)
	}
	a, err := Parse(text)
	if err != nil {
		return f, fmt.Errorf("%w: %s", err, authorityFile)
	}
	if now.After(a.Certificate.NotAfter) {
		return f, fmt.Errorf("read the authority: the certificate in %s is good until %s, and the clock says %s", authorityFile,
			a.Certificate.NotAfter.Format(time.RFC3339), now.UTC().Format(time.RFC3339))
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return f, fmt.Errorf("issue a certificate: %w", err)
	}
	if known, _ := os.ReadFile(f.Authority); !bytes.Equal(known, a.CertificatePEM()) {
		if err := Replace(f.Authority, a.CertificatePEM()); err != nil {
			return f, err
		}
	}
	old, _ := os.ReadFile(f.Certificate)
	oldKey, _ := os.ReadFile(f.Key)
	if _, err := tls.X509KeyPair(old, oldKey); err == nil && a.Good(old, n, now) {
		return f, nil
	}
	certificate, key, err := a.Issue(n, now, random)
	if err != nil {
		return f, err
	}
	// Without the certificate, which comes last, both are issued anew.
	if err := os.Remove(f.Certificate); err != nil && !errors.Is(err, os.ErrNotExist) {
		return f, fmt.Errorf("issue a certificate: %w", err)
	}
	if err := Replace(f.Key, key); err != nil {
		return f, err
	}
	return f, Replace(f.Certificate, certificate)
}

// Replace writes a file that only its owner can read, so that after a power cut
// the old or the new one is there.
func Replace(name string, content []byte) error {
	f, err := os.OpenFile(name+".new", os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return fmt.Errorf("write %s: %w", name, err)
	}
	_, werr := f.Write(content)
	if err := errors.Join(werr, f.Sync(), f.Close()); err != nil {
		return fmt.Errorf("write %s: %w", name, errors.Join(err, os.Remove(f.Name())))
	}
	if err := os.Rename(f.Name(), name); err != nil {
		return fmt.Errorf("write %s: %w", name, err)
	}
	dir, err := os.Open(filepath.Dir(name))
	if err != nil {
		return fmt.Errorf("write %s: %w", name, err)
	}
	return errors.Join(dir.Sync(), dir.Close())
}
