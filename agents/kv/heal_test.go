package kv

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func joinEnv(n int, more ...string) []string {
	return append([]string{fmt.Sprintf("ETCD_NAME=j%d", n), "ETCD_JOIN_TOKEN=secret", "ETCD_PROXY_REFRESH_INTERVAL=1000"}, more...)
}

func TestJoin(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	begin := time.Now()
	l.machine(1).etcd(joinEnv(1)...)
	formed(t, l, 30*time.Second, []string{"j1"}, 1)
	if problem := l.machine(1).put("/before", "the others"); problem != "" {
		t.Fatal(problem)
	}
	stranger := l.machine(5).etcd("ETCD_NAME=stranger", "ETCD_JOIN=10.77.0.1", "ETCD_JOIN_TOKEN=guess")
	stranger.says(t, 20*time.Second, "ETCD_JOIN_TOKEN of the machine that asks is not this cluster's")
	// Two at once, one with another member's address than the leader's.
	l.machine(2).etcd(joinEnv(2, "ETCD_JOIN=10.77.0.1")...)
	l.machine(3).etcd(joinEnv(3, "ETCD_JOIN=10.77.0.77:2379,10.77.0.2:2379,http://10.77.0.1:2379")...)
	formed(t, l, 90*time.Second, []string{"j1", "j2", "j3"}, 1, 2, 3)
	t.Logf("a cluster of three by join in %v", time.Since(begin))
	eventually(t, 10*time.Second, func() string { return l.machine(3).has("/before", "the others") })
	fourth := l.machine(4).etcd(joinEnv(4, "ETCD_JOIN=10.77.0.3")...)
	fourth.says(t, 30*time.Second, "the cluster has 3 of 3 members: this machine stands by")
	eventually(t, 20*time.Second, func() string { return l.machine(4).has("/before", "the others") })
	twin := l.machine(6).etcd(joinEnv(2, "ETCD_JOIN=10.77.0.1")...)
	twin.says(t, 30*time.Second, "which lives: two machines of one name; give this one another name")
}

// TestHealing: a member dies and a machine that stands by takes its place; the
// dead one comes back with its old data, which is told apart.
func TestHealing(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	base := service(t, l)
	url := newToken(t, l, base, "?size=3")
	env := func(n int) []string {
		return []string{fmt.Sprintf("ETCD_NAME=h%d", n), "ETCD_DISCOVERY=" + url, "ETCD_REMOVE_DELAY=5s", "ETCD_PROXY_REFRESH_INTERVAL=1000"}
	}
	members := map[int]process{}
	for n := 1; n <= 3; n++ {
		members[n] = l.machine(n).etcd(env(n)...)
	}
	formed(t, l, 60*time.Second, []string{"h1", "h2", "h3"}, 1, 2, 3)
	standby := l.machine(4).etcd(env(4)...)
	standby.says(t, 30*time.Second, "stands by")
	if problem := l.machine(1).put("/kept", "v"); problem != "" {
		t.Fatal(problem)
	}
	died := time.Now()
	members[2].kill()
	formed(t, l, 90*time.Second, []string{"h1", "h3", "h4"}, 1, 3, 4)
	t.Logf("healed %v after the death, of which 5s are the stated time", time.Since(died))
	eventually(t, 10*time.Second, func() string { return l.machine(4).has("/kept", "v") })
	reasons := members[1].Log.String() + members[3].Log.String()
	for _, want := range []string{`healing: remove member`, `longer than 5s; "h4" takes its place`, `healing: add as a learner "h4"`, `healing: promote member`} {
		if !strings.Contains(reasons, want) {
			t.Errorf("the log does not say %q", want)
		}
	}
	back := l.machine(2).etcd(env(2)...)
	back.says(t, 30*time.Second, "its data is stale and was moved to")
	back.says(t, 30*time.Second, "the cluster has 3 of 3 members: this machine stands by")
	eventually(t, 20*time.Second, func() string { return l.machine(2).has("/kept", "v") })
	if moved, _ := filepath.Glob(filepath.Join(l.machine(2).dir, "member.removed-*")); len(moved) != 1 {
		t.Errorf("moved aside: %v", moved)
	}
	// Now h3 loses its disk, and comes back at once.
	members[3].kill()
	if err := os.RemoveAll(filepath.Join(l.machine(3).dir, "member")); err != nil {
		t.Fatal(err)
	}
	again := l.machine(3).etcd(env(3)...)
	again.says(t, 10*time.Second, "its data is gone: it cannot come back as the same one")
	formed(t, l, 90*time.Second, []string{"h1", "h2", "h4"}, 1, 2, 4)
	again.says(t, 30*time.Second, "stands by")
}

// TestCutOffMember: a member that is cut off, and one that is paused, are
// replaced while their programs run; when they are back they notice.
func TestCutOffMember(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	env := func(n int) []string {
		return []string{fmt.Sprintf("ETCD_NAME=c%d", n), "ETCD_JOIN_TOKEN=secret", "ETCD_REMOVE_DELAY=3s", "ETCD_JOIN=10.77.0.1,10.77.0.2,10.77.0.3"}
	}
	l.machine(1).etcd("ETCD_NAME=c1", "ETCD_JOIN_TOKEN=secret", "ETCD_REMOVE_DELAY=3s")
	formed(t, l, 30*time.Second, []string{"c1"}, 1)
	two, three := l.machine(2).etcd(env(2)...), l.machine(3).etcd(env(3)...)
	formed(t, l, 60*time.Second, []string{"c1", "c2", "c3"}, 1, 2, 3)
	four := l.machine(4).etcd(env(4)...)
	four.says(t, 30*time.Second, "stands by")
	l.machine(2).Plug(false)
	formed(t, l, 60*time.Second, []string{"c1", "c3", "c4"}, 1, 3, 4)
	l.machine(2).Plug(true)
	two.says(t, 60*time.Second, "its data is stale and was moved to")
	two.says(t, 30*time.Second, "stands by")
	three.Cmd.Process.Signal(unix.SIGSTOP)
	formed(t, l, 60*time.Second, []string{"c1", "c2", "c4"}, 1, 2, 4)
	three.Cmd.Process.Signal(unix.SIGCONT)
	three.says(t, 60*time.Second, "its data is stale and was moved to")
	three.says(t, 30*time.Second, "stands by")
	// What the owner removes stays out.
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Second)
	defer cancel()
	c := l.machine(1).client(l.machine(1).endpoint())
	list, err := c.MemberList(ctx)
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range list.Members {
		if m.Name == "c4" {
			eventually(t, 20*time.Second, func() string { // etcd wants some seconds without a change
				if _, err := c.MemberRemove(ctx, m.ID); err != nil {
					return err.Error()
				}
				return ""
			})
		}
	}
	const stays = "its member was removed while it lived, which only the owner does"
	four.says(t, 30*time.Second, stays)
	formed(t, l, 60*time.Second, []string{"c1", "c2", "c3"}, 1, 2, 3)
	// A restart is no wish to have it back; adding it is.
	four.stop()
	four = l.machine(4).etcd(env(4)...)
	four.says(t, 30*time.Second, stays+": the owner lets it join again with `etcdctl member add c4 --peer-urls="+l.machine(4).peer())
	eventually(t, 20*time.Second, func() string { return l.machine(4).put("/proxied", "still") })
	if got, problem := l.machine(1).voters(); len(got) != 3 {
		t.Errorf("voters %v %s after the restart", got, problem)
	}
	eventually(t, 20*time.Second, func() string {
		if _, err := c.MemberAdd(ctx, []string{l.machine(4).peer()}); err != nil {
			return err.Error()
		}
		return ""
	})
	formed(t, l, 60*time.Second, []string{"c1", "c2", "c3", "c4"}, 1, 2, 3, 4)
}

// TestNoHealing: off by one key, and never without a majority.
func TestNoHealing(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	env := []string{staticCluster(3), "ETCD_HEAL=off", "ETCD_REMOVE_DELAY=1s", "ETCD_JOIN_TOKEN=secret"}
	p := trio(l, env...)
	formed(t, l, 60*time.Second, []string{"n1", "n2", "n3"}, 1, 2, 3)
	p[0].kill()
	standby := l.machine(4).etcd("ETCD_NAME=n4", "ETCD_JOIN=10.77.0.2", "ETCD_JOIN_TOKEN=secret")
	standby.says(t, 30*time.Second, "stands by")
	time.Sleep(8 * time.Second) // long after the delay
	if got, _ := l.machine(2).voters(); len(got) != 3 {
		t.Errorf("with healing off the voters are %v", got)
	}
	p[1].Cmd.Process.Signal(unix.SIGTERM)
	<-p[1].Done
	// The last one begins anew with healing on: it must not change anything.
	p[2].stop()
	last := l.machine(3).etcd(staticCluster(3), "ETCD_REMOVE_DELAY=1s", "ETCD_JOIN_TOKEN=secret")
	last.says(t, 20*time.Second, "the data directory has a member")
	time.Sleep(6 * time.Second)
	l.machine(1).etcd(env...)
	eventually(t, 60*time.Second, func() string { return l.machine(1).put("/alive", "again") })
	l.machine(2).etcd(env...)
	formed(t, l, 60*time.Second, []string{"n1", "n2", "n3"}, 1, 2, 3)
}
