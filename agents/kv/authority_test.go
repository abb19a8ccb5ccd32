package kv

import (
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/coracle-os/coracle/agents/kv/pki"
)

// TestAuthority has two members whose settings say http everywhere, and one file
// with an authority: peers and clients must show its certificates.
func TestAuthority(t *testing.T) {
	dir := t.TempDir()
	a, err := pki.New("store", time.Now(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	text, err := a.PEM()
	if err != nil {
		t.Fatal(err)
	}
	ca := filepath.Join(dir, "authority.pem")
	if err := os.WriteFile(ca, text, 0o600); err != nil {
		t.Fatal(err)
	}
	clients, peers := []string{freeURL(t), freeURL(t)}, []string{freeURL(t), freeURL(t)}
	env := func(i int) []string {
		return []string{"ETCD_TLS_CA_FILE=" + ca, "ETCD_NAME=" + []string{"m1", "m2"}[i], "ETCD_DATA_DIR=" + filepath.Join(dir, []string{"m1", "m2"}[i]),
			"ETCD_LISTEN_CLIENT_URLS=" + clients[i], "ETCD_ADVERTISE_CLIENT_URLS=" + clients[i],
			"ETCD_LISTEN_PEER_URLS=" + peers[i], "ETCD_INITIAL_ADVERTISE_PEER_URLS=" + peers[i],
			"ETCD_INITIAL_CLUSTER=m1=" + peers[0] + ",m2=" + peers[1]}
	}
	first := self(t, "etcd", env(0))
	if err := first.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { first.Process.Kill(); first.Wait() })
	member(t, filepath.Join(dir, "m2"), env(1)...)

	files := pki.In(filepath.Join(dir, "m1", "pki"))
	own, err := tls.LoadX509KeyPair(files.Certificate, files.Key)
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AddCert(a.Certificate)
	get := func(url string, certificates ...tls.Certificate) (string, error) {
		c := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool, Certificates: certificates}, DisableKeepAlives: true}, Timeout: 5 * time.Second}
		resp, err := c.Get(url + "/version")
		if err != nil {
			return "", err
		}
		defer resp.Body.Close()
		b, err := io.ReadAll(resp.Body)
		return string(b), err
	}
	secure := strings.Replace(clients[1], "http:", "https:", 1)
	if got, err := get(secure, own); err != nil || !strings.Contains(got, "etcdserver") {
		t.Errorf("with a certificate: %q, %v", got, err)
	}
	if got, err := get(secure); err == nil {
		t.Errorf("without a certificate: %q", got)
	}
	if got, err := get(clients[1]); err == nil && strings.Contains(got, "etcdserver") {
		t.Errorf("without TLS: %q", got)
	}
	out, err := self(t, "etcdctl", []string{"ETCDCTL_ENDPOINTS=" + secure, "ETCDCTL_CACERT=" + files.Authority,
		"ETCDCTL_CERT=" + files.Certificate, "ETCDCTL_KEY=" + files.Key}, "member", "list").CombinedOutput()
	if err != nil || strings.Count(string(out), "started") != 2 {
		t.Errorf("etcdctl member list: %v\n%s", err, out)
	}
}

func TestAuthorityThatCannotBe(t *testing.T) {
	bad := filepath.Join(t.TempDir(), "bad.pem")
	if err := os.WriteFile(bad, []byte("nothing"), 0o600); err != nil {
		t.Fatal(err)
	}
	for file, want := range map[string]string{"/does/not/exist": "write_files puts it there", bad: "there is no CERTIFICATE"} {
		code, out := ends(t, []string{"ETCD_TLS_CA_FILE=" + file, "ETCD_DATA_DIR=" + filepath.Join(t.TempDir(), "data")})
		if code != 1 || !strings.Contains(out, want) {
			t.Errorf("%s: exit code %d, %q; want %q", file, code, out, want)
		}
	}
}
