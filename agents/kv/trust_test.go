package kv

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/coracle-os/coracle/agents/kv/pki"
)

// autoEnv is what cloud-config's `tls: auto`, `join` and `join-token` write;
// every address in it is one without TLS, and no file is given.
func autoEnv(n int, more ...string) []string {
	return append([]string{fmt.Sprintf("ETCD_NAME=t%d", n), "ETCD_TLS=auto", "ETCD_JOIN_TOKEN=0123456789abcdef0123456789abcdef", "ETCD_REMOVE_DELAY=1h"}, more...)
}

// trusted is a client in m with the certificate that m has issued for itself.
func (m *machineUnderTest) trusted() (*http.Client, error) {
	f := pki.In(filepath.Join(m.dir, "pki"))
	own, err := tls.LoadX509KeyPair(f.Certificate, f.Key)
	if err != nil {
		return nil, err
	}
	ca, err := os.ReadFile(f.Authority)
	if err != nil {
		return nil, err
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(ca)
	c := m.http()
	c.Transport.(*http.Transport).TLSClientConfig = &tls.Config{Certificates: []tls.Certificate{own}, RootCAs: pool}
	return c, nil
}

// startedMembers waits until m sees that many voting members over TLS.
func startedMembers(t *testing.T, m *machineUnderTest, n int) {
	t.Helper()
	eventually(t, 60*time.Second, func() string {
		c, err := m.trusted()
		if err != nil {
			return err.Error()
		}
		resp, err := c.Post("https://"+m.IP+":2379/v3/cluster/member/list", "application/json", strings.NewReader(`{"linearizable":false}`))
		if err != nil {
			return err.Error()
		}
		defer resp.Body.Close()
		var b bytes.Buffer
		b.ReadFrom(resp.Body)
		text := b.String()
		if got := strings.Count(text, `"name":"t`); got != n || strings.Contains(text, "isLearner") || strings.Contains(text, "http://") {
			return fmt.Sprintf("%d members, want %d: %s", got, n, text)
		}
		return ""
	})
}

// TestAutoTLS: three machines with one key for TLS and no file become a cluster
// in which everybody shows a certificate.
func TestAutoTLS(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	file := func(n int) string { return filepath.Join(l.machine(n).dir, "pki", "authority.pem") }
	join := "ETCD_JOIN=10.77.0.1"
	early := l.machine(2).etcd(autoEnv(2, join)...) // before there is anybody
	early.says(t, 20*time.Second, "tls: waiting for the authority")
	first := l.machine(1).etcd(autoEnv(1, join)...) // the same settings: it is the machine that they name
	first.says(t, 20*time.Second, "begins the cluster and makes its authority")
	stranger := l.machine(4).etcd(append(autoEnv(4, join), "ETCD_JOIN_TOKEN=another-token-of-some-length")...)
	stranger.says(t, 20*time.Second, "ETCD_JOIN_TOKEN of the machine that asks is not this cluster's")
	// A machine that was in another cluster: it has an authority, and no member.
	other := l.machine(3).etcd(autoEnv(3, "ETCD_JOIN_TOKEN=")...)
	other.says(t, 20*time.Second, "ready to serve client requests")
	other.stop()
	if err := os.RemoveAll(filepath.Join(l.machine(3).dir, "member")); err != nil {
		t.Fatal(err)
	}
	third := l.machine(3).etcd(autoEnv(3, "ETCD_JOIN=10.77.0.2,10.77.0.1")...)
	third.says(t, 20*time.Second, "the authority here was not the cluster's")
	for _, n := range []int{1, 2, 3} {
		startedMembers(t, l.machine(n), 3)
	}
	authority, err := os.ReadFile(file(1))
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range []int{1, 2, 3} {
		if got, err := os.ReadFile(file(n)); err != nil || !bytes.Equal(got, authority) {
			t.Errorf("machine %d has another authority, %v", n, err)
		}
		if info, err := os.Stat(file(n)); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("machine %d: %v, %v", n, info, err)
		}
	}
	if _, err := os.Stat(file(4)); err == nil {
		t.Error("the stranger has an authority")
	}
	for _, url := range []string{"http://10.77.0.1:2379/version", "https://10.77.0.1:2379/version", "https://10.77.0.1:2380/members", "http://10.77.0.1:2380/members"} {
		c := l.machine(4).http()
		c.Transport.(*http.Transport).TLSClientConfig = &tls.Config{InsecureSkipVerify: true}
		resp, err := c.Get(url)
		if err == nil && resp.StatusCode == 200 {
			t.Errorf("%s answers without a certificate", url)
		}
	}

	// The first machine's disk loses the end of what is secret: it is whole
	// again from the others.
	first.kill()
	key := pki.In(filepath.Join(l.machine(1).dir, "pki")).Key
	for _, name := range []string{file(1), key} {
		if err := os.Truncate(name, 100); err != nil {
			t.Fatal(err)
		}
	}
	again := l.machine(1).etcd(autoEnv(1, join)...)
	again.says(t, 20*time.Second, "is damaged and comes from another machine")
	startedMembers(t, l.machine(1), 3)
	if got, err := os.ReadFile(file(1)); err != nil || !bytes.Equal(got, authority) {
		t.Errorf("the authority is not what it was, %v", err)
	}
}

// TestAutoTLSAlone: what a machine alone does about its authority, and about
// settings that no authority could come from.
func TestAutoTLSAlone(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "data")
	client, peer := freeURL(t), freeURL(t)
	env := []string{"ETCD_TLS=auto", "ETCD_LISTEN_CLIENT_URLS=" + client, "ETCD_ADVERTISE_CLIENT_URLS=" + client, "ETCD_LISTEN_PEER_URLS=" + peer, "ETCD_INITIAL_ADVERTISE_PEER_URLS=" + peer}
	cmd, _ := member(t, dir, env...)
	file := filepath.Join(dir, "pki", "authority.pem")
	before, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	cmd.Process.Kill()
	cmd.Wait()
	cmd, _ = member(t, dir, env...)
	cmd.Process.Kill()
	cmd.Wait()
	if after, err := os.ReadFile(file); err != nil || !bytes.Equal(before, after) {
		t.Errorf("a restart changed the authority, %v", err)
	}
	if err := os.Truncate(file, 100); err != nil {
		t.Fatal(err)
	}
	with := func(more ...string) []string {
		return append(append([]string{"ETCD_DATA_DIR=" + dir}, env...), more...)
	}
	for _, c := range []struct {
		name, want string
		env        []string
		before     func() error
	}{
		{"truncated", "the file is damaged; copy the file from another machine", with(), nil},
		{"lost", "another authority would shut out everybody", with(), func() error { return os.Remove(file) }},
		{"a list of members", "no machine is the first", with("ETCD_INITIAL_CLUSTER=a=http://a:1,b=http://b:1"), nil},
		{"a discovery token", "no machine is the first", with("ETCD_DISCOVERY=http://h/t"), nil},
		{"no join token", "set ETCD_JOIN_TOKEN too", with("ETCD_JOIN=h"), nil},
		{"a short join token", "at least 16 characters", with("ETCD_JOIN=h", "ETCD_JOIN_TOKEN=secret"), nil},
		{"another word", "it is none of off, auto", with("ETCD_TLS=yes"), nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			if c.before != nil {
				if err := c.before(); err != nil {
					t.Fatal(err)
				}
			}
			code, out := ends(t, c.env)
			if code != 1 || !strings.Contains(out, c.want) {
				t.Errorf("exit code %d, %q; want %q", code, out, c.want)
			}
		})
	}
}
