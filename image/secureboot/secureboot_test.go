package secureboot

import (
	"bytes"
	"encoding/pem"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func run(t *testing.T, name string, args ...string) string {
	t.Helper()
	out, err := exec.Command(name, args...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s %q: %v: %s", name, args, err, out)
	}
	return string(out)
}

func newStore(t *testing.T) Store {
	t.Helper()
	s := Store{Dir: t.TempDir(), Now: time.Now, Valid: 24 * time.Hour}
	if err := s.Create(); err != nil {
		t.Fatal(err)
	}
	return s
}

func (s Store) read(t *testing.T, name string) []byte {
	t.Helper()
	b, err := os.ReadFile(s.path(name))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// certificates are those in a variable's content, as Debian's efitools read it.
func (s Store) certificates(t *testing.T, name string) [][]byte {
	t.Helper()
	base := filepath.Join(t.TempDir(), name)
	run(t, "sig-list-to-certs", s.path(name+".esl"), base)
	found, err := filepath.Glob(base + "-*.der")
	if err != nil {
		t.Fatal(err)
	}
	var all [][]byte
	for _, file := range found {
		b, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, b)
	}
	return all
}

// TestUpdate has Debian's efitools make the same update with the same key and
// time: the bytes are the same but for the signature's own form.
func TestUpdate(t *testing.T) {
	s := newStore(t)
	for name, by := range map[string]string{"PK": "PK", "KEK": "PK", "db": "KEK"} {
		if got := s.certificates(t, name); len(got) != 1 || !bytes.Equal(got[0], s.read(t, name+".cer")) {
			t.Errorf("%s.esl has %d certificates", name, len(got))
		}
		update := s.read(t, name+".auth")
		content := s.read(t, name+".esl")
		if !bytes.HasSuffix(update, content) {
			t.Errorf("%s.auth does not end with the content", name)
		}
		// What the firmware verifies, by sign-efi-sig-list: -o writes it to a file.
		dir := t.TempDir()
		message, signature := filepath.Join(dir, "message"), filepath.Join(dir, "signature")
		at := time.Date(int(update[0])|int(update[1])<<8, time.Month(update[2]), int(update[3]), int(update[4]), int(update[5]), int(update[6]), 0, time.UTC)
		run(t, "sign-efi-sig-list", "-o", "-t", at.Format(time.DateTime), "-g", s.guid(t), "-c", s.path(by+".pem"), "-k", s.path(by+".key"), name, s.path(name+".esl"), message)
		der := update[40 : len(update)-len(content)]
		wrapped := append([]byte{0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x07, 0x02}, sequence(0xa0, der)...)
		if err := os.WriteFile(signature, sequence(0x30, wrapped), 0o644); err != nil {
			t.Fatal(err)
		}
		if out := run(t, "openssl", "smime", "-verify", "-inform", "DER", "-in", signature, "-content", message, "-binary",
			"-noverify", "-certfile", s.path(by+".pem"), "-out", "/dev/null"); !strings.Contains(out, "successful") {
			t.Errorf("%s: openssl: %s", name, out)
		}
	}
}

func (s Store) guid(t *testing.T) string { return strings.TrimSpace(string(s.read(t, "owner"))) }

// sequence is DER of a tag, whose content is longer than 255 bytes.
func sequence(tag byte, content []byte) []byte {
	return append([]byte{tag, 0x82, byte(len(content) >> 8), byte(len(content))}, content...)
}

func TestRotate(t *testing.T) {
	s := newStore(t)
	if err := s.Create(); err == nil {
		t.Error("keys are made over others")
	}
	before := map[string][]byte{}
	for _, name := range Names() {
		before[name] = s.read(t, name+".cer")
	}
	for _, name := range Names() {
		if err := s.Rotate(name); err != nil {
			t.Fatal(err)
		}
		if _, err := s.Signer(name); err != nil || bytes.Equal(s.read(t, name+".cer"), before[name]) {
			t.Errorf("%s: the same key (%v)", name, err)
		}
	}
	// What the old key signed goes on starting, and the new one comes first.
	if got := s.certificates(t, "db"); len(got) != 2 || !bytes.Equal(got[0], s.read(t, "db.cer")) || !bytes.Equal(got[1], before["db"]) {
		t.Errorf("db has %d certificates after its rotation", len(got))
	}
	if got := s.certificates(t, "PK"); len(got) != 1 {
		t.Errorf("PK has %d certificates, the firmware takes one", len(got))
	}
	if update := s.read(t, "PK-update.auth"); !bytes.Contains(update, before["PK"]) {
		t.Error("PK-update.auth is not signed by the key that machines have")
	}
	later := s
	later.Now = func() time.Time { return time.Now().Add(25 * time.Hour) }
	if _, err := later.Revoke([32]byte{1}); err == nil || !strings.Contains(err.Error(), "expired") {
		t.Errorf("an expired KEK signs: %v", err)
	}
}

func TestRevoke(t *testing.T) {
	s := newStore(t)
	for i, want := range []int{2, 0, 1} {
		added, err := s.Revoke([][32]byte{{1}, {1}, {3}}[i], [][32]byte{{2}, {2}, {2}}[i])
		if err != nil || added != want {
			t.Errorf("revocation %d: %d, %v; want %d", i, added, err, want)
		}
	}
	out := run(t, "sig-list-to-certs", s.path("dbx.esl"), filepath.Join(t.TempDir(), "dbx"))
	if n := strings.Count(out, "Guid"); n != 3 {
		t.Errorf("sig-list-to-certs finds %d entries: %s", n, out)
	}
	if !bytes.HasSuffix(s.read(t, "dbx.auth"), s.read(t, "dbx.esl")) {
		t.Error("dbx.auth does not have the content")
	}
}

func TestReadSigner(t *testing.T) {
	s, other := newStore(t), newStore(t)
	ec := filepath.Join(t.TempDir(), "ec.key")
	run(t, "openssl", "genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256", "-out", ec)
	text := filepath.Join(t.TempDir(), "text")
	if err := os.WriteFile(text, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: []byte("x")}), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct{ key, certificate, want string }{
		{s.path("db.key"), other.path("db.pem"), "is not the certificate of"},
		{ec, s.path("db.pem"), "RSA"},
		{s.path("owner"), s.path("db.pem"), "not PEM"},
		{text, s.path("db.pem"), "text"},
		{s.path("db.key"), s.path("nothing"), "no such file"},
	} {
		if _, err := ReadSigner(test.key, test.certificate); err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: got %v, want %q", test.key, err, test.want)
		}
	}
}
