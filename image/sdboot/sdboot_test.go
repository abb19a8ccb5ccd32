package sdboot

import (
	"bytes"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"errors"
	"math/big"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/coracle-os/coracle/image/efisign"
)

// host is Debian's systemd-boot on this machine.
func host(t *testing.T) []byte {
	t.Helper()
	content, err := os.ReadFile("/" + InRoot)
	if err != nil {
		t.Fatal(err)
	}
	return content
}

func TestRead(t *testing.T) {
	content := host(t)
	p, err := Read(content)
	if err != nil {
		t.Fatal(err)
	}
	package_, err := exec.Command("dpkg-query", "-W", "-f", "${Version}", "systemd-boot-efi").Output()
	if err != nil {
		t.Fatal(err)
	}
	if p.Version != string(package_) || !p.Signed.IsZero() {
		t.Errorf("version %q signed %v, the package is %q", p.Version, p.Signed, package_)
	}
	stub, err := os.ReadFile(filepath.Join("/", filepath.Dir(InRoot), "linuxx64.efi.stub"))
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		content []byte
		want    error
	}{
		"empty":                  {nil, ErrDamaged},
		"text":                   {[]byte("not a program"), ErrDamaged},
		"half":                   {content[:len(content)/2], ErrDamaged},
		"another program":        {stub, ErrForeign},
		"a line without its end": {bytes.ReplaceAll(content, []byte(" ####"), []byte("     ")), ErrForeign},
	} {
		if _, err := Read(c.content); !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", name, err, c.want)
		}
	}
}

// TestSigned orders the same program by what signed it, and finds a flipped byte.
func TestSigned(t *testing.T) {
	plain, err := Read(host(t))
	if err != nil {
		t.Fatal(err)
	}
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	sign := func(from time.Time) Program {
		t.Helper()
		template := &x509.Certificate{SerialNumber: big.NewInt(1), NotBefore: from, NotAfter: from.Add(time.Hour)}
		der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
		if err != nil {
			t.Fatal(err)
		}
		certificate, err := x509.ParseCertificate(der)
		if err != nil {
			t.Fatal(err)
		}
		signed, err := efisign.Signer{Key: key, Certificate: certificate}.Sign(plain.Content)
		if err != nil {
			t.Fatal(err)
		}
		p, err := Read(signed)
		if err != nil {
			t.Fatal(err)
		}
		return p
	}
	first, second := sign(time.Now().Add(-time.Hour)), sign(time.Now())
	later := plain
	later.Version = strings.Replace(plain.Version, "2", "9", 1)
	for i, pair := range [][2]Program{{plain, first}, {first, second}, {second, later}} {
		if pair[0].Compare(pair[1]) != -1 || pair[1].Compare(pair[0]) != 1 || pair[0].Compare(pair[0]) != 0 {
			t.Errorf("pair %d is not in order", i)
		}
	}
	flipped := bytes.Clone(first.Content)
	flipped[len(flipped)/2] ^= 0xff
	if _, err := Read(flipped); !errors.Is(err, ErrDamaged) {
		t.Errorf("a flipped byte: %v", err)
	}
}
