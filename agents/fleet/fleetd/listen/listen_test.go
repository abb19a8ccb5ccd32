package listen

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"io"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// authority issues certificates for 127.0.0.1 into files.
type authority struct {
	t    *testing.T
	dir  string
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	pool *x509.CertPool
}

func newAuthority(t *testing.T) *authority {
	a := &authority{t: t, dir: t.TempDir(), pool: x509.NewCertPool()}
	a.cert, a.key = a.issue("ca", nil, nil)
	a.pool.AddCert(a.cert)
	return a
}

func (a *authority) path(name string) string { return filepath.Join(a.dir, name) }

func (a *authority) issue(name string, parent *x509.Certificate, parentKey *ecdsa.PrivateKey) (*x509.Certificate, *ecdsa.PrivateKey) {
	a.t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		a.t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: name}, NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, BasicConstraintsValid: true, IsCA: parent == nil, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}}
	if parent == nil {
		parent, parentKey = template, key
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, &key.PublicKey, parentKey)
	if err != nil {
		a.t.Fatal(err)
	}
	secret, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		a.t.Fatal(err)
	}
	for file, block := range map[string]*pem.Block{name + ".crt": {Type: "CERTIFICATE", Bytes: der}, name + ".key": {Type: "PRIVATE KEY", Bytes: secret}} {
		if err := os.WriteFile(a.path(file), pem.EncodeToMemory(block), 0o600); err != nil {
			a.t.Fatal(err)
		}
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		a.t.Fatal(err)
	}
	return cert, key
}

func (a *authority) files(name string) Files {
	return Files{CA: a.path("ca.crt"), Certificate: a.path(name + ".crt"), Key: a.path(name + ".key")}
}

// passed is a socket as the service manager passes it.
func passed(t *testing.T, network, address string) *os.File {
	t.Helper()
	l, err := net.Listen(network, address)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if u, ok := l.(*net.UnixListener); ok {
		u.SetUnlinkOnClose(false)
	}
	f, err := l.(interface{ File() (*os.File, error) }).File()
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func TestSecure(t *testing.T) {
	ours, others := newAuthority(t), newAuthority(t)
	ours.issue("server", ours.cert, ours.key)
	ours.issue("client", ours.cert, ours.key)
	others.issue("client", others.cert, others.key)
	path := filepath.Join(t.TempDir(), "fleet.sock")
	s, err := Passed([]*os.File{passed(t, "unix", path), passed(t, "tcp", "127.0.0.1:0")})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	if warnings, err := s.Secure(ours.files("server")); len(warnings) > 0 || err != nil {
		t.Fatal(warnings, err)
	}
	for _, l := range s.Listeners {
		server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "hello") })}
		go server.Serve(l)
		t.Cleanup(func() { server.Close() })
	}
	address := s.Listeners[1].Addr().String()
	get := func(scheme string, config *tls.Config) string {
		transport := &http.Transport{TLSClientConfig: config, DisableKeepAlives: true}
		answer, err := (&http.Client{Transport: transport}).Get(scheme + "://" + address)
		if err != nil {
			return err.Error()
		}
		defer answer.Body.Close()
		body, _ := io.ReadAll(answer.Body)
		return string(body)
	}
	with := func(a *authority) *tls.Config {
		c, err := tls.LoadX509KeyPair(a.path("client.crt"), a.path("client.key"))
		if err != nil {
			t.Fatal(err)
		}
		return &tls.Config{RootCAs: ours.pool, Certificates: []tls.Certificate{c}}
	}
	for name, c := range map[string]struct {
		scheme string
		config *tls.Config
		want   string
	}{
		"a client of ours":      {"https", with(ours), "hello"},
		"a client of others":    {"https", with(others), "certificate"},
		"without a certificate": {"https", &tls.Config{RootCAs: ours.pool}, "certificate required"},
		"without TLS":           {"http", nil, "HTTP request to an HTTPS server"},
		"an old version of TLS": {"https", &tls.Config{RootCAs: ours.pool, MaxVersion: tls.VersionTLS11}, "version"},
		"who does not trust us": {"https", &tls.Config{RootCAs: others.pool}, "unknown authority"},
	} {
		if got := get(c.scheme, c.config); !strings.Contains(got, c.want) {
			t.Errorf("%s: %q, want %q", name, got, c.want)
		}
	}
	plain := &http.Client{Transport: &http.Transport{Dial: func(string, string) (net.Conn, error) { return net.Dial("unix", path) }}}
	if answer, err := plain.Get("http://fleet"); err != nil || answer.StatusCode != 200 {
		t.Errorf("the local socket has no TLS: %v", err)
	}
}

func TestSecureSays(t *testing.T) {
	a := newAuthority(t)
	a.issue("server", a.cert, a.key)
	wrong := a.files("server")
	wrong.CA = a.path("server.key")
	for _, c := range []struct {
		address string
		files   Files
		want    string // in the error or the warning
	}{
		{"127.0.0.1:0", Files{}, ""},
		{"[::1]:0", Files{}, ""},
		{"0.0.0.0:0", Files{}, "without TLS: whoever reaches that address can run programs as root"},
		{":0", Files{}, "without TLS"},
		{":0", a.files("server"), ""},
		{"127.0.0.1:0", a.files("missing"), "tls_certfile"},
		{"127.0.0.1:0", wrong, "has no certificate in PEM"},
	} {
		s, err := Passed([]*os.File{passed(t, "tcp", c.address)})
		if err != nil {
			t.Fatal(err)
		}
		warnings, err := s.Secure(c.files)
		s.Close()
		got := strings.Join(warnings, "\n")
		if err != nil {
			got += err.Error()
		}
		if (c.want == "") != (got == "") || !strings.Contains(got, c.want) {
			t.Errorf("%s with %+v: %q, want %q", c.address, c.files, got, c.want)
		}
	}
	file, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Passed([]*os.File{file}); err == nil || !strings.Contains(err.Error(), "/dev/null") {
		t.Errorf("what is no socket: %v", err)
	}
}
