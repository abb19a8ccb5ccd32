package secureboot

import (
	"bytes"
	"errors"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/coracle-os/coracle/image/efisign"
)

// TestTrust asks what a firmware with the contents of these variables starts.
func TestTrust(t *testing.T) {
	program, err := os.ReadFile("/usr/lib/systemd/boot/efi/systemd-bootx64.efi")
	if err != nil {
		t.Fatal(err)
	}
	ours := newStore(t)
	signer, err := ours.Signer("db")
	if err != nil {
		t.Fatal(err)
	}
	signed, err := signer.Sign(program)
	if err != nil {
		t.Fatal(err)
	}
	flipped := bytes.Clone(signed)
	flipped[len(program)/2] ^= 0xff
	digest, err := efisign.Digest(bytes.NewReader(signed))
	if err != nil {
		t.Fatal(err)
	}
	owner, err := ours.owner()
	if err != nil {
		t.Fatal(err)
	}
	db, kek := ours.read(t, "db.esl"), ours.read(t, "KEK.esl")
	byDigest := signatureList(certSHA256, owner, bytes.Repeat([]byte{1}, 32), digest[:])
	other := signatureList(certPKCS7, owner, []byte("of another kind"))
	for _, c := range []struct {
		name    string
		db, dbx []byte
		program []byte
		want    string // "" for a program that is started
	}{
		{"signed", db, nil, signed, ""},
		{"signed, among other keys", append(append(bytes.Clone(other), kek...), db...), other, signed, ""},
		{"not signed", db, nil, program, "it is not signed"},
		{"flipped", db, nil, flipped, "was changed after"},
		{"another key", kek, nil, signed, "is not in db"},
		{"no keys", nil, nil, signed, "is not in db"},
		{"by its digest", byDigest, nil, signed, ""},
		{"revoked", db, byDigest, signed, "the program is revoked"},
		{"key revoked", db, db, signed, "is revoked"},
		{"no program", db, nil, []byte("text"), "no EFI program"},
	} {
		trust, err := ReadTrust(c.db, c.dbx)
		if err != nil {
			t.Fatalf("%s: %v", c.name, err)
		}
		err = trust.Check(bytes.NewReader(c.program))
		switch {
		case c.want == "" && err != nil:
			t.Errorf("%s: %v", c.name, err)
		case c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)):
			t.Errorf("%s: %v, want %q", c.name, err, c.want)
		case c.want != "" && len(c.program) > 10 && !errors.Is(err, ErrUntrusted):
			t.Errorf("%s: %v does not wrap ErrUntrusted", c.name, err)
		}
	}
	for i := range len(db) {
		if _, err := ReadTrust(db[:i], nil); i > 0 && err == nil {
			t.Errorf("%d bytes of %d: no error", i, len(db))
		}
	}
	// What is expired still starts: firmware does not look, and a machine goes on.
	trust, err := ReadTrust(db, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := signer.CheckTime(time.Now().Add(72 * time.Hour)); err == nil {
		t.Error("the builder signs with an expired key")
	}
	if err := trust.Check(bytes.NewReader(signed)); err != nil {
		t.Error(err)
	}
}

func FuzzReadTrust(f *testing.F) {
	f.Add(signatureList(certX509, certX509, []byte("no certificate")))
	f.Fuzz(func(t *testing.T, data []byte) { _, _ = ReadTrust(data, data) })
}
