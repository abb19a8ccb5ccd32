package pki

import (
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

var now = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

func authority(t *testing.T) Authority {
	t.Helper()
	a, err := New("store", now, rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// openssl is another opinion.
func openssl(t *testing.T, args ...string) string {
	t.Helper()
	out, err := exec.Command("openssl", args...).CombinedOutput()
	if err != nil {
		t.Fatalf("openssl %q: %v\n%s", args, err, out)
	}
	return string(out)
}

func file(t *testing.T, name string, content []byte) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, content, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestIssue(t *testing.T) {
	text, err := authority(t).PEM()
	if err != nil {
		t.Fatal(err)
	}
	a, err := Parse(text)
	if err != nil {
		t.Fatal(err)
	}
	names := Names{Common: "m1", Hosts: []string{"10.0.0.1", "127.0.0.1", "::1", "node1", "localhost", ""}}
	certificate, key, err := a.Issue(names, now, rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	ca, member := file(t, "ca.pem", a.CertificatePEM()), file(t, "m.pem", certificate)
	at := []string{"-attime", "1767400000"} // 2026-01-03
	for _, purpose := range []string{"sslserver", "sslclient"} {
		openssl(t, append(append([]string{"verify", "-x509_strict", "-CAfile", ca, "-purpose", purpose}, at...), member)...)
	}
	for _, host := range []string{"node1", "localhost"} {
		openssl(t, append(append([]string{"verify", "-CAfile", ca, "-verify_hostname", host}, at...), member)...)
	}
	for _, ip := range []string{"10.0.0.1", "127.0.0.1", "::1"} {
		openssl(t, append(append([]string{"verify", "-CAfile", ca, "-verify_ip", ip}, at...), member)...)
	}
	if _, err := tls.X509KeyPair(certificate, key); err != nil {
		t.Error(err)
	}
	if !a.Good(certificate, names, now) {
		t.Error("a new certificate is not good")
	}
	for name, good := range map[string]bool{
		"another name":      a.Good(certificate, Names{Common: "m2"}, now),
		"another host":      a.Good(certificate, Names{Common: "m1", Hosts: []string{"10.0.0.2"}}, now),
		"another authority": authority(t).Good(certificate, names, now),
		"half of its life":  a.Good(certificate, names, now.Add(13*30*24*time.Hour)),
		"years before":      a.Good(certificate, names, now.Add(-2*365*24*time.Hour)),
		"garbage":           a.Good([]byte("garbage"), names, now),
	} {
		if good {
			t.Errorf("%s: it is taken for good", name)
		}
	}
}

// TestParse reads what openssl makes, and refuses what cannot work.
func TestParse(t *testing.T) {
	dir := t.TempDir()
	key, crt := filepath.Join(dir, "key"), filepath.Join(dir, "crt")
	openssl(t, "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", key, "-out", crt, "-subj", "/CN=theirs", "-days", "30")
	read := func(name string) []byte {
		b, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	theirs, err := Parse(append(read(key), read(crt)...))
	if err != nil || theirs.Certificate.Subject.CommonName != "theirs" {
		t.Errorf("openssl's authority: %v", err)
	}
	certificate, _, err := theirs.Issue(Names{Common: "m"}, time.Now(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	openssl(t, "verify", "-CAfile", crt, file(t, "m", certificate))

	a := authority(t)
	text, err := a.PEM()
	if err != nil {
		t.Fatal(err)
	}
	member, memberKey, err := a.Issue(Names{Common: "m"}, now, rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	for want, bad := range map[string][]byte{
		"no CERTIFICATE":                 read(key),
		"no PRIVATE KEY":                 read(crt),
		"does not belong":                append(read(key), a.CertificatePEM()...),
		"not that of an authority":       append(member, memberKey...),
		"read the authority's key":       []byte(strings.Replace(string(text), "-----BEGIN PRIVATE KEY-----\nM", "-----BEGIN PRIVATE KEY-----\nA", 1)),
		"there is no CERTIFICATE in the": nil,
	} {
		if _, err := Parse(bad); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %q", err, want)
		}
	}
	if _, err := x509.ParseCertificate(a.Certificate.Raw); err != nil {
		t.Error(err)
	}
}

// TestEnsureRepairs: what a power cut or an error of the disk left of the
// machine's own files is issued anew.
func TestEnsureRepairs(t *testing.T) {
	text, err := authority(t).PEM()
	if err != nil {
		t.Fatal(err)
	}
	ca, dir := file(t, "ca", text), t.TempDir()
	names := Names{Common: "m", Hosts: []string{"h"}}
	f, err := Ensure(ca, dir, names, now, rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	before, _ := os.ReadFile(f.Certificate)
	if _, err := Ensure(ca, dir, names, now, rand.Reader); err != nil {
		t.Fatal(err)
	}
	if again, _ := os.ReadFile(f.Certificate); string(again) != string(before) {
		t.Error("a good certificate is issued again")
	}
	for _, name := range []string{f.Key, f.Certificate, f.Authority} {
		for _, length := range []int64{0, 100} {
			if err := os.Truncate(name, length); err != nil {
				t.Fatal(err)
			}
			if _, err := Ensure(ca, dir, names, now, rand.Reader); err != nil {
				t.Fatal(err)
			}
			if _, err := tls.LoadX509KeyPair(f.Certificate, f.Key); err != nil {
				t.Errorf("%s cut to %d: %v", filepath.Base(name), length, err)
			}
			openssl(t, "verify", "-CAfile", f.Authority, "-attime", "1767400000", f.Certificate)
		}
	}
}
