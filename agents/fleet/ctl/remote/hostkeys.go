package remote

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"

	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/knownhosts"
)

// hostKeys makes the check of the keys of the host at address. algorithms are
// the kinds of key that the file has for it, nil for all: a server that has
// keys of several kinds must show one that can be compared.
func (c *Config) hostKeys(address string) (check ssh.HostKeyCallback, algorithms []string, err error) {
	if !c.Strict {
		return ssh.InsecureIgnoreHostKey(), nil, nil
	}
	known, err := c.readKnown()
	if err != nil {
		return nil, nil, err
	}
	var none *knownhosts.KeyError
	if errors.As(known(address, &net.TCPAddr{IP: net.IPv4zero}, noKey{}), &none) {
		for _, k := range none.Want {
			algorithms = append(algorithms, kinds(k.Key.Type())...)
		}
	}
	return func(host string, remote net.Addr, key ssh.PublicKey) error {
		err := known(host, remote, key)
		var unknown *knownhosts.KeyError
		switch {
		case err == nil:
			return nil
		case !errors.As(err, &unknown):
			return err
		case len(unknown.Want) > 0:
			w := unknown.Want[0]
			return fmt.Errorf("the host key of %s has changed: it shows %s %s, but %s line %d has another; the machine was replaced or somebody "+
				"is in between; if it was replaced, remove that line", host, key.Type(), ssh.FingerprintSHA256(key), w.Filename, w.Line)
		}
		return c.trust(host, key)
	}, algorithms, nil
}

// readKnown reads the file; one that is missing knows no host.
func (c *Config) readKnown() (ssh.HostKeyCallback, error) {
	files := []string{c.KnownHosts}
	if _, err := os.Stat(c.KnownHosts); errors.Is(err, fs.ErrNotExist) {
		files = nil
	}
	known, err := knownhosts.New(files...)
	if err != nil {
		return nil, fmt.Errorf("read the known host keys of %q: %w; correct or remove the file", c.KnownHosts, err)
	}
	return known, nil
}

// trust asks about the key of an unknown host and, if the answer is yes,
// remembers it.
func (c *Config) trust(host string, key ssh.PublicKey) error {
	question := fmt.Sprintf("The authenticity of host %s is not known: it shows the key %s %s.\nTrust it and continue (yes/no)? ",
		host, key.Type(), ssh.FingerprintSHA256(key))
	if c.Ask == nil || !c.Ask(question) {
		return fmt.Errorf("the host key of %s is not known and was not trusted; answer yes, or put it into %s", host, c.KnownHosts)
	}
	if err := c.remember(host, key); err != nil {
		return fmt.Errorf("remember the host key of %s: %w", host, err)
	}
	return nil
}

// remember appends a line in one write, so that two at once do not mix.
func (c *Config) remember(host string, key ssh.PublicKey) error {
	if err := os.MkdirAll(filepath.Dir(c.KnownHosts), 0o700); err != nil {
		return err
	}
	f, err := os.OpenFile(c.KnownHosts, os.O_APPEND|os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return err
	}
	line := knownhosts.Line([]string{host}, key) + "\n"
	if end, err := f.Seek(0, 2); err == nil && end > 0 { // after a last line without its end
		last := make([]byte, 1)
		if _, err := f.ReadAt(last, end-1); err == nil && last[0] != '\n' {
			line = "\n" + line
		}
	}
	_, err = f.WriteString(line)
	return errors.Join(err, f.Close())
}

// kinds are the signature algorithms for a type of key.
func kinds(keyType string) []string {
	if keyType == ssh.KeyAlgoRSA {
		return []string{ssh.KeyAlgoRSASHA512, ssh.KeyAlgoRSASHA256}
	}
	return []string{keyType}
}

// noKey is a key that no file has, to ask which it has.
type noKey struct{}

func (noKey) Type() string                        { return "none" }
func (noKey) Marshal() []byte                     { return []byte("none") }
func (noKey) Verify([]byte, *ssh.Signature) error { return errors.New("not a key") }
