package kv

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"
)

// trio starts machines 1 to 3 with the same variables beside their addresses.
func trio(l *lab, env ...string) []*process {
	var out []*process
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
func formed(t *testing.T, l *lab, limit time.Duration, names []string, machines ...int) {
	t.Helper()
	for _, n := range machines {
		m := l.machine(n)
		eventually(t, limit, func() string {
			got, problem := m.voters()
			slices.Sort(got)
			if problem == "" && !slices.Equal(got, names) {
				problem = fmt.Sprintf("%s knows the voters %v, want %v", m.ip, got, names)
			}
			return problem
		})
		eventually(t, limit, func() string { return m.put("/formed", m.ip) })
	}
}

func TestStaticClusterSurvivesALoss(t *testing.T) {
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
