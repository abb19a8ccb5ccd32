package bench

import (
	"context"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
)

// machine is what a member is started with.
type machine struct{ name, client, peer, dir string }

func machines(b *testing.B, count int) []machine {
	b.Helper()
	dir := b.TempDir()
	var out []machine
	for n := range count {
		name := fmt.Sprintf("m%d", n)
		out = append(out, machine{name, freeAddress(b), freeAddress(b), filepath.Join(dir, name)})
	}
	return out
}

func (m machine) start(b *testing.B, exe string, cluster []machine, env ...string) *server {
	b.Helper()
	var list []string
	for _, one := range cluster {
		list = append(list, one.name+"=http://"+one.peer)
	}
	return run(b, m.client, exe, append([]string{"ETCD_NAME=" + m.name, "ETCD_DATA_DIR=" + m.dir,
		"ETCD_LISTEN_CLIENT_URLS=http://" + m.client, "ETCD_ADVERTISE_CLIENT_URLS=http://" + m.client,
		"ETCD_LISTEN_PEER_URLS=http://" + m.peer, "ETCD_INITIAL_ADVERTISE_PEER_URLS=http://" + m.peer,
		"ETCD_INITIAL_CLUSTER=" + strings.Join(list, ",")}, env...))
}

// voters are the started voting members as a member knows them.
func voters(s *server) ([]string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	c := version3(s)
	defer c.Close()
	list, err := c.MemberList(ctx, clientv3.WithSerializable())
	if err != nil {
		return nil, err
	}
	var names []string
	for _, m := range list.Members {
		if m.Name != "" && !m.IsLearner {
			names = append(names, m.Name)
		}
	}
	slices.Sort(names)
	return names, nil
}

// formed returns when servers know the voters, and all are healthy.
func formed(b *testing.B, servers []*server, names ...string) {
	b.Helper()
	for _, s := range servers {
		await(b, time.Minute, func() error {
			got, err := voters(s)
			if err == nil && !slices.Equal(got, names) {
				err = fmt.Errorf("%s knows the voters %v, want %v", s.client, got, names)
			}
			if err != nil {
				return err
			}
			return s.healthy()
		})
	}
}

// form starts a cluster of three and returns the time until all serve.
func form(b *testing.B, exe string) time.Duration {
	b.Helper()
	all := machines(b, 3)
	var servers []*server
	began := time.Now()
	for _, m := range all {
		servers = append(servers, m.start(b, exe, all))
	}
	formed(b, servers, "m0", "m1", "m2")
	d := time.Since(began)
	for _, s := range servers {
		s.kill()
	}
	return d
}

// BenchmarkForm is the time in which a cluster of three forms from a list, with
// empty data directories.
func BenchmarkForm(b *testing.B) {
	our, their := ours(b), upstream(b)
	for b.Loop() {
		var x, y, ratios []float64
		for range 7 {
			x, y = append(x, form(b, our).Seconds()), append(y, form(b, their).Seconds())
			ratios = append(ratios, y[len(y)-1]/x[len(x)-1])
		}
		b.ReportMetric(0, "ns/op")
		b.ReportMetric(median(x), "ours-s")
		b.ReportMetric(median(y), "theirs-s")
		b.ReportMetric(median(ratios), "ratio")
	}
}

// delay is the stated time after which a member that is away is replaced.
const delay = 5 * time.Second

// heal has one of three members die while a machine stands by, and returns the
// time until that is a member in its place.
func heal(b *testing.B, exe string) time.Duration {
	b.Helper()
	all := machines(b, 4)
	env := []string{"ETCD_JOIN_TOKEN=secret", "ETCD_REMOVE_DELAY=" + delay.String(), "ETCD_PROXY_REFRESH_INTERVAL=1000"}
	var servers []*server
	for _, m := range all[:3] {
		servers = append(servers, m.start(b, exe, all[:3], env...))
	}
	formed(b, servers, "m0", "m1", "m2")
	last := all[3].start(b, exe, nil, append(env, "ETCD_JOIN="+all[0].client, "ETCD_INITIAL_CLUSTER=")...)
	await(b, time.Minute, last.healthy) // as a proxy
	servers[2].kill()
	died := time.Now()
	formed(b, []*server{servers[0], servers[1], last}, "m0", "m1", "m3")
	d := time.Since(died)
	for _, s := range append(servers[:2], last) {
		s.kill()
	}
	return d
}

// BenchmarkHeal is the time from a member's death to a cluster of three again.
// Upstream waits for its owner, so that there is nothing to compare with.
func BenchmarkHeal(b *testing.B) {
	our := ours(b)
	for b.Loop() {
		var list []float64
		for range 5 {
			list = append(list, heal(b, our).Seconds())
		}
		b.ReportMetric(0, "ns/op")
		b.ReportMetric(median(list), "s")
		b.ReportMetric(median(list)-delay.Seconds(), "s-beyond-the-stated-delay")
	}
}
