package kv

import (
	"fmt"
	"net/http"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// service starts the discovery service on machine 9, with Debian's etcd as the
// store, and gives its URL.
func service(t *testing.T, l *network) string {
	t.Helper()
	m := l.machine(9)
	etcd, err := exec.LookPath("etcd")
	if err != nil {
		t.Fatalf("%v; install etcd-server", err)
	}
	m.exec(nil, etcd, "--enable-v2", "--data-dir", filepath.Join(t.TempDir(), "v2"), "--unsafe-no-fsync")
	m.start("discovery", nil)
	base := "http://" + m.IP + ":8087"
	eventually(t, 30*time.Second, func() string {
		if status, text := m.request(http.MethodGet, base+"/health", ""); status != 200 || text != "OK" {
			return fmt.Sprintf("/health: %d %s", status, text)
		}
		return ""
	})
	return base
}

func newToken(t *testing.T, l *network, base, query string) string {
	t.Helper()
	status, text := l.machine(9).request(http.MethodGet, base+"/new"+query, "")
	if status != 200 || !strings.HasPrefix(text, base+"/") {
		t.Fatalf("/new%s: %d %q", query, status, text)
	}
	return text
}

func TestDiscoveryToken(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	base := service(t, l)
	url := newToken(t, l, base, "?size=3")
	env := func(n int) []string {
		return []string{fmt.Sprintf("ETCD_NAME=d%d", n), "ETCD_DISCOVERY=" + url, "ETCD_PROXY_REFRESH_INTERVAL=1000"}
	}
	worker := l.machine(5).etcd(append(env(5), "ETCD_PROXY=on")...)
	worker.says(t, 20*time.Second, "this machine waits for their cluster")
	begin := time.Now()
	one := l.machine(1).etcd(env(1)...)
	one.says(t, 20*time.Second, "1 of 3 machines have registered")
	one.kill() // a power cut while it waits
	l.machine(1).etcd(env(1)...)
	two := l.machine(2).etcd(env(2)...)
	l.machine(3).etcd(env(3)...)
	formed(t, l, 60*time.Second, []string{"d1", "d2", "d3"}, 1, 2, 3)
	t.Logf("a cluster of three formed through a token in %v, a restart included", time.Since(begin))

	// One more than the token is for is a proxy, and stands by.
	four := l.machine(4).etcd(env(4)...)
	four.says(t, 20*time.Second, "complete without this machine")
	eventually(t, 30*time.Second, func() string { return l.machine(4).put("/through", "a proxy") })
	four.says(t, 20*time.Second, "the cluster has 3 of 3 members: this machine stands by")

	eventually(t, 30*time.Second, func() string { return l.machine(5).has("/through", "a proxy") })
	if strings.Contains(worker.Log.String(), "stands by") {
		t.Error("a proxy by the owner's word asks to join")
	}

	// A restart with data needs no service; the proxy remembers its members.
	two.kill()
	two = l.machine(2).etcd("ETCD_NAME=d2", "ETCD_DISCOVERY=http://10.77.0.250:1/none")
	two.says(t, 10*time.Second, "the data directory has a member")
	eventually(t, 30*time.Second, func() string { return l.machine(2).has("/through", "a proxy") })
	four.kill()
	l.machine(4).etcd("ETCD_NAME=d4", "ETCD_DISCOVERY=http://10.77.0.250:1/none")
	eventually(t, 30*time.Second, func() string { return l.machine(4).has("/through", "a proxy") })
}

func TestDiscoveryTokenRefused(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	base := service(t, l)
	full := newToken(t, l, base, "?size=1")
	l.machine(1).etcd("ETCD_NAME=a", "ETCD_DISCOVERY="+full)
	formed(t, l, 30*time.Second, []string{"a"}, 1)
	three := newToken(t, l, base, "")
	first := l.machine(2).etcd("ETCD_NAME=same", "ETCD_DISCOVERY="+three)
	first.says(t, 20*time.Second, "1 of 3 machines have registered")
	for _, c := range []struct {
		name, want string
		env        []string
	}{
		{"full, and the fallback is to end", "ETCD_DISCOVERY_FALLBACK is exit", []string{"ETCD_DISCOVERY=" + full, "ETCD_DISCOVERY_FALLBACK=exit"}},
		{"unknown token", "size key not found", []string{"ETCD_DISCOVERY=" + base + "/0123456789abcdef0123456789abcdef"}},
		{"two machines of one name", `two machines have the name "same"`, []string{"ETCD_NAME=same", "ETCD_DISCOVERY=" + three}},
		{"two machines of one address", "two machines cannot share an address", []string{"ETCD_NAME=other", "ETCD_DISCOVERY=" + three, "ETCD_INITIAL_ADVERTISE_PEER_URLS=http://10.77.0.2:2380"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := l.machine(3).etcd(c.env...)
			if code := p.ends(t, 20*time.Second); code != 1 || !strings.Contains(p.Log.String(), c.want) {
				t.Errorf("exit code %d, want 1 and %q", code, c.want)
			}
		})
	}
	first.kill()
	again := l.machine(2)
	again.dir = filepath.Join(t.TempDir(), "new-disk")
	p := again.etcd("ETCD_NAME=same", "ETCD_DISCOVERY="+three)
	if code := p.ends(t, 20*time.Second); code != 1 || !strings.Contains(p.Log.String(), "the token was used before by a machine of this name and address") {
		t.Errorf("exit code %d, want 1 and that the token was used before", code)
	}
}

// TestDiscoveryOnOwnEtcd: the service keeps its tokens in the etcd of its own
// machine, as on a real one.
func TestDiscoveryOnOwnEtcd(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	m := l.machine(9)
	m.etcd("ETCD_NAME=tokens")
	m.start("discovery", nil)
	base := "http://" + m.IP + ":8087"
	eventually(t, 30*time.Second, func() string {
		if status, text := m.request(http.MethodGet, base+"/new", ""); status != 200 {
			return fmt.Sprintf("/new: %d %s", status, text)
		}
		return ""
	})
	url := newToken(t, l, base, "?size=3")
	for n := 1; n <= 3; n++ {
		l.machine(n).etcd(fmt.Sprintf("ETCD_NAME=d%d", n), "ETCD_DISCOVERY="+url)
	}
	formed(t, l, 60*time.Second, []string{"d1", "d2", "d3"}, 1, 2, 3)
	status, text := m.request(http.MethodGet, "http://"+m.IP+":2379/v2/keys"+strings.Replace(url, base, "/_etcd/registry", 1), "")
	if status != 200 || strings.Count(text, "=http://10.77.0.") != 3 {
		t.Errorf("the token in etcd: %d %s", status, text)
	}
}
