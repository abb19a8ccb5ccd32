package efisign_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/coracle-os/coracle/image/efisign"
	"github.com/coracle-os/coracle/image/secureboot"
)

// program is the smallest PE32+ program that firmware tools read: headers and
// one section.
func program(content string) []byte {
	const optionalSize, start = 112 + 16*8, 0x200
	b := make([]byte, start+0x200)
	le := binary.LittleEndian
	copy(b, "MZ")
	le.PutUint32(b[0x3c:], 0x40)
	h := b[0x40:]
	copy(h, "PE\x00\x00")
	le.PutUint16(h[4:], 0x8664)
	le.PutUint16(h[6:], 1)
	le.PutUint16(h[20:], optionalSize)
	le.PutUint16(h[22:], 0x206)
	o := h[24:]
	le.PutUint16(o, 0x20b)
	le.PutUint32(o[16:], 0x1000) // entry
	le.PutUint32(o[32:], 0x1000) // alignments
	le.PutUint32(o[36:], 0x200)
	le.PutUint32(o[56:], 0x2000)
	le.PutUint32(o[60:], start)
	le.PutUint16(o[68:], 10)
	le.PutUint32(o[108:], 16)
	s := o[optionalSize:]
	copy(s, ".text")
	le.PutUint32(s[8:], 0x200)
	le.PutUint32(s[12:], 0x1000)
	le.PutUint32(s[16:], 0x200)
	le.PutUint32(s[20:], start)
	le.PutUint32(s[36:], 0x60000020)
	copy(b[start:], content)
	return b
}

func keys(t *testing.T, valid time.Duration) (dir string, signer efisign.Signer) {
	t.Helper()
	dir = t.TempDir()
	store := secureboot.Store{Dir: dir, Now: time.Now, Valid: valid}
	if err := store.Create(); err != nil {
		t.Fatal(err)
	}
	signer, err := store.Signer("db")
	if err != nil {
		t.Fatal(err)
	}
	return dir, signer
}

// TestSign has Debian's sbverify judge what is signed here, and this package
// what Debian's sbsign signs. The same input gives the same bytes.
func TestSign(t *testing.T) {
	dir, signer := keys(t, time.Hour)
	plain := program("hello")
	signed, err := signer.Sign(plain)
	if err != nil {
		t.Fatal(err)
	}
	again, err := signer.Sign(plain)
	if err != nil || !bytes.Equal(signed, again) {
		t.Errorf("signed twice, the bytes differ (%v)", err)
	}
	if _, err := signer.Sign(signed); err == nil {
		t.Error("a signed program is signed again")
	}
	path := filepath.Join(dir, "hello.efi")
	verifies := func(program []byte) (string, bool) {
		if err := os.WriteFile(path, program, 0o644); err != nil {
			t.Fatal(err)
		}
		out, err := exec.Command("sbverify", "--cert", filepath.Join(dir, "db.pem"), path).CombinedOutput()
		return string(out), err == nil
	}
	if out, ok := verifies(signed); !ok {
		t.Errorf("sbverify: %s", out)
	}
	certificate, err := efisign.Verify(bytes.NewReader(signed))
	if err != nil || !certificate.Equal(signer.Certificate) {
		t.Errorf("got %v, %v", certificate, err)
	}
	if _, err := efisign.Verify(bytes.NewReader(plain)); !errors.Is(err, efisign.ErrUnsigned) {
		t.Errorf("unsigned: %v", err)
	}
	// Every byte counts, but for the checksum and the end's padding.
	for at := 0; at < len(signed); at += 37 {
		flipped := bytes.Clone(signed)
		flipped[at] ^= 1
		_, err := efisign.Verify(bytes.NewReader(flipped))
		if out, ok := verifies(flipped); ok != (err == nil) && at < len(plain) {
			t.Errorf("byte %d flipped: we say %v, sbverify %s", at, err, out)
		}
	}

	if err := os.WriteFile(path, plain, 0o644); err != nil {
		t.Fatal(err)
	}
	other := filepath.Join(dir, "other.efi")
	if out, err := exec.Command("sbsign", "--key", filepath.Join(dir, "db.key"), "--cert", filepath.Join(dir, "db.pem"), "--output", other, path).CombinedOutput(); err != nil {
		t.Fatalf("sbsign: %v: %s", err, out)
	}
	theirs, err := os.ReadFile(other)
	if err != nil {
		t.Fatal(err)
	}
	if certificate, err := efisign.Verify(bytes.NewReader(theirs)); err != nil || !certificate.Equal(signer.Certificate) {
		t.Errorf("of sbsign: %v, %v", certificate, err)
	}
	ours, err1 := efisign.Digest(bytes.NewReader(signed))
	digest, err2 := efisign.Digest(bytes.NewReader(theirs))
	if ours != digest || err1 != nil || err2 != nil {
		t.Errorf("digests %x %v, %x %v", ours, err1, digest, err2)
	}
}

// TestExpired has a certificate that is no longer valid, or not yet.
func TestExpired(t *testing.T) {
	_, signer := keys(t, 24*time.Hour)
	for at, want := range map[time.Duration]string{0: "", 25 * time.Hour: "-rotate db", -25 * time.Hour: "clock"} {
		err := signer.CheckTime(time.Now().Add(at))
		if (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("after %v: %v, want %q", at, err, want)
		}
	}
}

// FuzzVerify finds no input that is more than an error.
func FuzzVerify(f *testing.F) {
	f.Add(program("hello"))
	f.Fuzz(func(t *testing.T, b []byte) {
		_, _ = efisign.Verify(bytes.NewReader(b))
		_, _ = efisign.Digest(bytes.NewReader(b))
	})
}
