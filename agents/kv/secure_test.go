package kv

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc"
)

// issuer makes the certificates of one cluster.
type issuer struct {
	t    *testing.T
	dir  string
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

func newIssuer(t *testing.T) *issuer {
	t.Helper()
	a := &issuer{t: t, dir: t.TempDir()}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "ca"}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: time.Now().Add(-2 * time.Hour), NotAfter: time.Now().Add(2 * time.Hour), KeyUsage: x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	a.key = key
	if a.cert, err = x509.ParseCertificate(der); err != nil {
		t.Fatal(err)
	}
	a.write("ca.pem", "CERTIFICATE", der)
	return a
}

func (a *issuer) write(name, kind string, der []byte) string {
	a.t.Helper()
	path := filepath.Join(a.dir, name)
	if err := os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600); err != nil {
		a.t.Fatal(err)
	}
	return path
}

// env gives a machine its certificate and the variables for it.
func (a *issuer) env(m *machineUnderTest) []string {
	a.t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		a.t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: m.IP},
		NotBefore: a.cert.NotBefore, NotAfter: a.cert.NotAfter, KeyUsage: x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
		IPAddresses: []net.IP{net.ParseIP(m.IP), net.IPv4(127, 0, 0, 1)},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, a.cert, &key.PublicKey, a.key)
	if err != nil {
		a.t.Fatal(err)
	}
	keyDER, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		a.t.Fatal(err)
	}
	cert, priv, ca := a.write(m.IP+".pem", "CERTIFICATE", der), a.write(m.IP+"-key.pem", "EC PRIVATE KEY", keyDER), filepath.Join(a.dir, "ca.pem")
	env := []string{"ETCD_CERT_FILE=" + cert, "ETCD_KEY_FILE=" + priv, "ETCD_TRUSTED_CA_FILE=" + ca, "ETCD_CLIENT_CERT_AUTH=true",
		"ETCD_PEER_CERT_FILE=" + cert, "ETCD_PEER_KEY_FILE=" + priv, "ETCD_PEER_TRUSTED_CA_FILE=" + ca, "ETCD_PEER_CLIENT_CERT_AUTH=true"}
	for _, v := range m.addresses() {
		env = append(env, strings.ReplaceAll(v, "http://", "https://"))
	}
	return env
}

// client is an HTTP client in the machine with the machine's certificate.
func (a *issuer) client(m *machineUnderTest) *http.Client {
	a.t.Helper()
	cert, err := tls.LoadX509KeyPair(filepath.Join(a.dir, m.IP+".pem"), filepath.Join(a.dir, m.IP+"-key.pem"))
	if err != nil {
		a.t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AddCert(a.cert)
	c := m.http()
	c.Transport.(*http.Transport).TLSClientConfig = &tls.Config{Certificates: []tls.Certificate{cert}, RootCAs: pool}
	return c
}

// TestTLS: forming, healing and forwarding when every connection needs a
// certificate.
func TestTLS(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	a := newIssuer(t)
	env := func(n int, more ...string) []string {
		return append(append([]string{fmt.Sprintf("ETCD_NAME=j%d", n), "ETCD_JOIN_TOKEN=secret", "ETCD_REMOVE_DELAY=3s"}, a.env(l.machine(n))...), more...)
	}
	first := l.machine(1).etcd(env(1)...)
	l.machine(2).etcd(env(2, "ETCD_JOIN=10.77.0.1")...)
	third := l.machine(3).etcd(env(3, "ETCD_JOIN=10.77.0.1")...)
	promoted := func(n int) func() string {
		return func() string {
			if got := strings.Count(first.Log.String(), "healing: promote member"); got < n {
				return fmt.Sprintf("%d machines were promoted, want %d", got, n)
			}
			return ""
		}
	}
	eventually(t, 60*time.Second, promoted(2))
	fourth := l.machine(4).etcd(env(4, "ETCD_JOIN=10.77.0.1")...)
	fourth.says(t, 30*time.Second, "stands by")
	readonly := l.machine(5).etcd(append(env(5, "ETCD_PROXY=readonly"), "ETCD_INITIAL_CLUSTER=j1=https://10.77.0.1:2380")...)
	for _, n := range []int{4, 5} {
		eventually(t, 20*time.Second, func() string {
			resp, err := a.client(l.machine(n)).Get("https://127.0.0.1:2379/version")
			if err != nil {
				return err.Error()
			}
			resp.Body.Close()
			if resp.StatusCode != 200 {
				return resp.Status
			}
			return ""
		})
	}
	resp, err := a.client(l.machine(5)).Post("https://127.0.0.1:2379/v3/kv/put", "application/json", strings.NewReader(`{"key":"YQ==","value":"YQ=="}`))
	if err != nil || resp.StatusCode != 403 {
		t.Errorf("a write through the reading proxy: %v %v", resp, err)
	}
	c, err := clientv3.New(clientv3.Config{
		Endpoints: []string{"https://127.0.0.1:2379"}, TLS: a.client(l.machine(5)).Transport.(*http.Transport).TLSClientConfig,
		DialOptions: []grpc.DialOption{grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) {
			return l.machine(5).dial(ctx, "tcp", "127.0.0.1:2379")
		})},
	})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	if _, err := c.Get(ctx, "/k"); err != nil {
		t.Errorf("a read through the reading proxy: %v", err)
	}
	if _, err := c.Put(ctx, "/k", "v"); err == nil || !strings.Contains(err.Error(), "only reads") {
		t.Errorf("a write through the reading proxy: %v", err)
	}
	readonly.stop()
	third.kill()
	eventually(t, 60*time.Second, promoted(3))
	if !strings.Contains(fourth.Log.String(), "this machine is admitted to the cluster") {
		t.Error("it is not the machine that stood by")
	}
}

// TestJoinWithAuthentication: the members admit while the store's users need
// passwords.
func TestJoinWithAuthentication(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	first := l.machine(1).etcd(joinEnv(1)...)
	formed(t, l, 30*time.Second, []string{"j1"}, 1)
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	c := l.machine(1).client(l.machine(1).endpoint())
	for _, err := range []error{
		second(c.UserAdd(ctx, "root", "pw")), second(c.RoleAdd(ctx, "root")), second(c.UserGrantRole(ctx, "root", "root")), second(c.AuthEnable(ctx)),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	l.machine(2).etcd(joinEnv(2, "ETCD_JOIN=10.77.0.1")...)
	first.says(t, 60*time.Second, "healing: promote member")
}
