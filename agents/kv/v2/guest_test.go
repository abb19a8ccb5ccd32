package v2_test

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/coracle-os/coracle/agents/kv/pki"
)

// status is the answer's; 0 if there is none.
func (s *side) status(t *testing.T, c call) int {
	t.Helper()
	var status int
	_, _ = fmt.Sscan(s.outcome(t, c), &status)
	return status
}

// TestGuests has what is stricter than with etcd 2, and changes of users while
// others work.
func TestGuests(t *testing.T) {
	s := newSide(t, ours(t))
	const guest = "/v2/auth/roles/guest"
	for _, c := range []call{
		{"", "PUT", "/v2/keys/a/b", "value=1"}, {"", "PUT", "/v2/auth/users/root", `{"user":"root","password":"s"}`}, {"", "PUT", "/v2/auth/enable", ""},
		{"root:s", "PUT", guest, `{"role":"guest","revoke":{"kv":{"read":["/*"],"write":["/*"]}},"grant":{"kv":{"read":["/a"],"write":["/a","/w/*"]}}}`},
	} {
		if status := s.status(t, c); status >= 300 {
			t.Fatalf("%s: %d", c, status)
		}
	}
	for _, test := range []struct {
		call call
		want int
	}{
		{call{"", "GET", "/v2/keys/a", ""}, 200},
		{call{"", "GET", "/v2/keys/a?recursive=true", ""}, 401},
		{call{"", "GET", "/v2/keys/a/b", ""}, 401},
		{call{"", "DELETE", "/v2/keys/a?recursive=true", ""}, 401},
		{call{"", "GET", "/v2/keys/?recursive=true", ""}, 401},
		{call{"root:wrong", "GET", "/v2/keys/a", ""}, 401},
	} {
		if got := s.status(t, test.call); got != test.want {
			t.Errorf("%s: %d, want %d", test.call, got, test.want)
		}
	}

	ctx, cancel := context.WithCancel(t.Context())
	var writers sync.WaitGroup
	for i := range 4 {
		writers.Go(func() {
			for n := 0; ctx.Err() == nil; n++ {
				c := call{"", "PUT", fmt.Sprintf("/v2/keys/w/%d", i), fmt.Sprintf("value=%d", n)}
				if status := s.status(t, c); status >= 300 {
					t.Errorf("%s while users change: %d", c, status)
					return
				}
			}
		})
	}
	for n := range 10 {
		c := call{"root:s", "PUT", "/v2/auth/roles/r", fmt.Sprintf(`{"role":"r","grant":{"kv":{"read":["/%d","/%d/*"]}}}`, n, n)}
		if n == 0 {
			c.body = `{"role":"r"}`
		}
		if status := s.status(t, c); status >= 300 {
			t.Errorf("%s: %d", c, status)
		}
	}
	cancel()
	writers.Wait()
}

// TestCertificates lets clients show a certificate in place of a password.
func TestCertificates(t *testing.T) {
	authority, err := pki.New("root", time.Now(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	file := func(name string, b []byte) string {
		p := filepath.Join(dir, name)
		if err := os.WriteFile(p, b, 0o600); err != nil {
			t.Fatal(err)
		}
		return p
	}
	issue := func(name string) (certificate, key []byte) {
		certificate, key, err := authority.Issue(pki.Names{Common: name, Hosts: []string{"127.0.0.1"}}, time.Now(), rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		return certificate, key
	}
	certificate, key := issue("server")
	client, peer := strings.Replace(freeURL(t), "http:", "https:", 1), freeURL(t)
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(exe)
	cmd.Env = append(os.Environ(), "TEST_PROGRAM=etcd", "ETCD_DATA_DIR="+filepath.Join(dir, "data"), "ETCD_LISTEN_CLIENT_URLS="+client, "ETCD_ADVERTISE_CLIENT_URLS="+client,
		"ETCD_LISTEN_PEER_URLS="+peer, "ETCD_INITIAL_ADVERTISE_PEER_URLS="+peer, "ETCD_CERT_FILE="+file("c", certificate), "ETCD_KEY_FILE="+file("k", key),
		"ETCD_TRUSTED_CA_FILE="+file("a", authority.CertificatePEM()), "ETCD_CLIENT_CERT_AUTH=true")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cmd.Process.Kill(); cmd.Wait() })
	by := func(name string) *side {
		certificate, key := issue(name)
		pair, err := tls.X509KeyPair(certificate, key)
		if err != nil {
			t.Fatal(err)
		}
		roots := x509.NewCertPool()
		roots.AppendCertsFromPEM(authority.CertificatePEM())
		return &side{server: &server{t: t, url: client}, client: &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots, Certificates: []tls.Certificate{pair}}}}}
	}
	nobody := by("nobody")
	for end := time.Now().Add(30 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		if r, err := nobody.client.Get(client + "/health"); err == nil {
			r.Body.Close()
			if r.StatusCode == http.StatusOK {
				break
			}
		}
		if time.Now().After(end) {
			t.Fatal("the member does not answer")
		}
	}
	for _, c := range []call{
		{"", "PUT", "/v2/keys/a", "value=1"}, {"", "PUT", "/v2/auth/users/root", `{"user":"root","password":"s"}`},
		{"", "PUT", "/v2/auth/roles/r", `{"role":"r","permissions":{"kv":{"read":["/a"]}}}`}, {"", "PUT", "/v2/auth/users/u", `{"user":"u","password":"p","roles":["r"]}`},
		{"", "PUT", "/v2/auth/roles/guest", `{"role":"guest"}`}, {"", "PUT", "/v2/auth/enable", ""},
	} {
		if status := nobody.status(t, c); status >= 300 {
			t.Fatalf("%s: %d", c, status)
		}
	}
	for _, test := range []struct {
		name string
		call call
		want int
	}{
		{"nobody", call{"", "GET", "/v2/keys/a", ""}, 401}, // nor the authority's name, which is root
		{"u", call{"", "GET", "/v2/keys/a", ""}, 200},
		{"u", call{"", "PUT", "/v2/keys/a", "value=2"}, 401},
		{"u", call{"u:wrong", "GET", "/v2/keys/a", ""}, 401},
		{"u", call{"", "GET", "/v2/auth/users", ""}, 401},
		{"root", call{"", "GET", "/v2/auth/users", ""}, 200},
		{"nobody", call{"root:s", "PUT", "/v2/keys/a", "value=2"}, 200},
	} {
		if got := by(test.name).status(t, test.call); got != test.want {
			t.Errorf("certificate of %s, %s: %d, want %d", test.name, test.call, got, test.want)
		}
	}
}
