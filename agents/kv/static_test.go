package kv

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"
)

// trio starts machines 1 to 3 with the same variables beside their addresses.
func trio(l *network, env ...string) []process {
	var out []process
	for n := 1; n <= 3; n++ {
		out = append(out, l.machine(n).etcd(env...))
	}
	return out
}

func staticCluster(n int) string {
	var out []string
	for i := 1; i <= n; i++ {
		out = append(out, fmt.Sprintf("n%d=http://10.77.0.%d:2380", i, i))
	}
	return "ETCD_INITIAL_CLUSTER=" + strings.Join(out, ",")
}

// formed waits until the machines take writes and all know the named voters.
func formed(t *testing.T, l *network, limit time.Duration, names []string, machines ...int) {
	t.Helper()
	for _, n := range machines {
		m := l.machine(n)
		eventually(t, limit, func() string {
			got, problem := m.voters()
			slices.Sort(got)
			if problem == "" && !slices.Equal(got, names) {
				problem = fmt.Sprintf("%s knows the voters %v, want %v", m.IP, got, names)
			}
			return problem
		})
		eventually(t, limit, func() string { return m.put("/formed", m.IP) })
	}
}

func TestStaticClusterSurvivesALoss(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	start := time.Now()
	processes := trio(l, staticCluster(3), "ETCD_INITIAL_CLUSTER_TOKEN=one")
	formed(t, l, 60*time.Second, []string{"n1", "n2", "n3"}, 1, 2, 3)
	t.Logf("a cluster of three formed in %v", time.Since(start))
	processes[1].kill()
	eventually(t, 30*time.Second, func() string { return l.machine(1).put("/k", "v") })
	eventually(t, 30*time.Second, func() string { return l.machine(3).has("/k", "v") })
	l.machine(2).etcd(staticCluster(3), "ETCD_INITIAL_CLUSTER_TOKEN=one")
	eventually(t, 60*time.Second, func() string { return l.machine(2).has("/k", "v") })
	eventually(t, 30*time.Second, func() string { return l.machine(2).put("/k2", "v2") })
}

// TestStaticDiskLost: a member of a list comes back without its data; it is not
// let in as who it was, and joins anew.
func TestStaticDiskLost(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	env := []string{staticCluster(3), "ETCD_JOIN_TOKEN=secret"}
	p := trio(l, env...)
	formed(t, l, 60*time.Second, []string{"n1", "n2", "n3"}, 1, 2, 3)
	if problem := l.machine(1).put("/kept", "v"); problem != "" {
		t.Fatal(problem)
	}
	p[1].kill()
	l.machine(2).dir += "-new-disk"
	back := l.machine(2).etcd(env...)
	back.says(t, 20*time.Second, `runs with the member "n2" at this machine's address`)
	back.says(t, 60*time.Second, "this machine is admitted to the cluster")
	formed(t, l, 60*time.Second, []string{"n1", "n2", "n3"}, 1, 2, 3)
	eventually(t, 10*time.Second, func() string { return l.machine(2).has("/kept", "v") })
	// The address of a living member is nobody else's.
	twin := l.machine(4).etcd(append(env, "ETCD_INITIAL_ADVERTISE_PEER_URLS=http://10.77.0.1:2380")...)
	twin.says(t, 30*time.Second, "which lives: two machines cannot share an address")
}

// TestStaticDiskLostWithoutToken: nobody lets it in, and the machine says so and
// is a proxy.
func TestStaticDiskLostWithoutToken(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	p := trio(l, staticCluster(3))
	formed(t, l, 60*time.Second, []string{"n1", "n2", "n3"}, 1, 2, 3)
	p[1].kill()
	l.machine(2).dir += "-new-disk"
	back := l.machine(2).etcd(staticCluster(3))
	back.says(t, 20*time.Second, "this machine stays a proxy: no ETCD_JOIN_TOKEN is set")
	eventually(t, 20*time.Second, func() string { return l.machine(2).put("/through", "v") })
}

// TestOldKeys: three machines with the words of etcd 0.4 and a token.
func TestOldKeys(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	url := newToken(t, l, service(t, l), "")
	for n := 1; n <= 3; n++ {
		m := l.machine(n)
		m.start("etcd", []string{fmt.Sprintf("ETCD_NAME=o%d", n), "ETCD_DATA_DIR=" + m.dir, "ETCD_DISCOVERY=" + url,
			"ETCD_ADDR=" + m.IP + ":4001", "ETCD_PEER_ADDR=" + m.IP + ":7001"})
	}
	formed(t, l, 60*time.Second, []string{"o1", "o2", "o3"}, 1, 2, 3)
	if code, text := l.machine(1).request("GET", "http://10.77.0.2:4001/version", ""); code != 200 {
		t.Errorf("port 4001: %d %s", code, text)
	}
	if code, text := l.machine(1).request("GET", "http://10.77.0.2:7001/members", ""); code != 200 {
		t.Errorf("port 7001: %d %s", code, text)
	}
}

// TestOnlyAToken: nothing but the token in the user-data.
func TestOnlyAToken(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	url := newToken(t, l, service(t, l), "")
	for n := 1; n <= 3; n++ {
		m := l.machine(n)
		m.start("etcd", []string{fmt.Sprintf("ETCD_NAME=t%d", n), "ETCD_DATA_DIR=" + m.dir, "ETCD_DISCOVERY=" + url})
	}
	formed(t, l, 60*time.Second, []string{"t1", "t2", "t3"}, 1, 2, 3)
}
