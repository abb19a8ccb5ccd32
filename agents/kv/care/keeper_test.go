package care

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/coracle-os/coracle/agents/kv/kvtest"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/etcdutl/v3/snapshot"
	"go.etcd.io/etcd/server/v3/embed"
	"go.etcd.io/etcd/server/v3/etcdserver/api/v3client"
	"go.uber.org/zap"
)

// cluster starts members and returns a keeper of each.
func cluster(t *testing.T, configs ...*embed.Config) []*Keeper {
	t.Helper()
	var keepers []*Keeper
	for i, e := range kvtest.Start(t, configs...) {
		keepers = append(keepers, &Keeper{
			Config: Config{Interval: time.Hour, Keep: 2, Dir: filepath.Join(t.TempDir(), fmt.Sprint(i))},
			Quota:  configs[i].QuotaBackendBytes, Shrink: e.Server.Backend().Defrag, Tell: func(string) {}, Now: time.Now, Log: zap.NewNop(),
			Client: v3client.New(e.Server), Authorize: e.Server.AuthStore().WithRoot,
		})
	}
	return keepers
}

func put(t *testing.T, c *clientv3.Client, key, value string) {
	t.Helper()
	if _, err := c.Put(t.Context(), key, value); err != nil {
		t.Fatal(err)
	}
}

// hollow leaves a store whose file is large and nearly empty, on every member.
func hollow(t *testing.T, keepers ...*Keeper) {
	t.Helper()
	c := keepers[0].Client
	value := strings.Repeat("x", 1<<20)
	for i := range 80 {
		put(t, c, fmt.Sprintf("big/%d", i), value)
	}
	r, err := c.Delete(t.Context(), "big/", clientv3.WithPrefix())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.Compact(t.Context(), r.Header.Revision, clientv3.WithCompactPhysical()); err != nil {
		t.Fatal(err)
	}
	for _, k := range keepers {
		for end := time.Now().Add(30 * time.Second); ; time.Sleep(10 * time.Millisecond) {
			put(t, c, "small", "") // a file's free pages show at the next write
			s, err := k.Client.Status(t.Context(), "")
			if err == nil && s.DbSizeInUse < 8<<20 {
				break
			}
			if time.Now().After(end) {
				t.Fatalf("a member has not compacted its store: %+v, %v", s, err)
			}
		}
	}
}

func size(t *testing.T, c *clientv3.Client) int64 {
	t.Helper()
	s, err := c.Status(t.Context(), "")
	if err != nil {
		t.Fatal(err)
	}
	return s.DbSize
}

// TestAgain has a first look that fails, as that of a member without a leader
// does: its words are not a minute late.
func TestAgain(t *testing.T) {
	k := cluster(t, kvtest.Config(t, 0, t.TempDir()))[0]
	looks, told := 0, make(chan string, 1)
	authorize := k.Authorize
	k.Authorize = func(ctx context.Context) context.Context {
		if looks++; looks == 1 {
			gone, cancel := context.WithCancel(ctx)
			cancel()
			return gone
		}
		return authorize(ctx)
	}
	k.Tell = func(words string) { told <- words }
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() { k.Run(ctx); close(ended) }()
	select {
	case <-told:
	case <-time.After(Every / 2):
		t.Error("no words half a minute after a look that failed")
	}
	cancel()
	<-ended
	// From then on what fails waits its turn: a snapshot does that has no place.
	k.Dir = filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(k.Dir, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := k.Look(t.Context()); err == nil || k.pause() != Every {
		t.Errorf("a look with a snapshot that fails: %v, the next in %v", err, k.pause())
	}
}

// TestWithUsers looks after a member whose store needs permissions.
func TestWithUsers(t *testing.T) {
	k := cluster(t, kvtest.Config(t, 0, t.TempDir()))[0]
	k.Quota = 1 << 30
	c, ctx := k.Client, t.Context()
	_, err := c.UserAdd(ctx, "root", "s")
	if err == nil {
		_, err = c.UserGrantRole(ctx, "root", "root")
	}
	if err == nil {
		_, err = c.AuthEnable(ctx)
	}
	if err != nil {
		t.Fatal(err)
	}
	if err := k.Look(ctx); err != nil {
		t.Fatal(err)
	}
	if files, err := filepath.Glob(filepath.Join(k.Dir, "*.db")); err != nil || len(files) != 1 {
		t.Errorf("snapshots %q, %v, want one", files, err)
	}
	if err := k.defragment(k.Authorize(ctx)); err != nil {
		t.Errorf("defragment: %v", err)
	}
}

func TestSnapshotsAndRestore(t *testing.T) {
	k := cluster(t, kvtest.Config(t, 0, t.TempDir()))[0]
	ctx := t.Context()
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	k.Now = func() time.Time { return now }
	if err := os.MkdirAll(k.Dir, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(k.Dir, ".new-left"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for i := range 4 {
		put(t, k.Client, "key", fmt.Sprint(i))
		for range 2 { // nothing is due the second time
			if err := k.Look(ctx); err != nil {
				t.Fatal(err)
			}
		}
		now = now.Add(2 * time.Hour)
	}
	all, _ := filepath.Glob(filepath.Join(k.Dir, "*"))
	hidden, _ := filepath.Glob(filepath.Join(k.Dir, ".*"))
	if len(all) != 2 || len(hidden) != 0 {
		t.Fatalf("the directory holds %q and %q, want the 2 newest snapshots", all, hidden)
	}
	// Upstream's own tool takes the newest for whole, and makes a member of it.
	util := snapshot.NewV3(zap.NewNop())
	if s, err := util.Status(all[1]); err != nil || s.TotalKey == 0 {
		t.Errorf("etcdutl snapshot status: %+v, %v", s, err)
	}
	restored := kvtest.Config(t, 0, filepath.Join(t.TempDir(), "restored"))
	err := util.Restore(snapshot.RestoreConfig{SnapshotPath: all[1], Name: restored.Name, OutputDataDir: restored.Dir,
		PeerURLs: []string{restored.AdvertisePeerUrls[0].String()}, InitialCluster: restored.InitialCluster, InitialClusterToken: restored.InitialClusterToken})
	if err != nil {
		t.Fatal(err)
	}
	got, err := cluster(t, restored)[0].Client.Get(ctx, "key")
	if err != nil || len(got.Kvs) != 1 || string(got.Kvs[0].Value) != "3" {
		t.Errorf("the restored store has %v, %v; want key=3", got, err)
	}
}

func TestDefragment(t *testing.T) {
	keepers := cluster(t, kvtest.Config(t, 0, t.TempDir()), kvtest.Config(t, 1, t.TempDir()), kvtest.Config(t, 2, t.TempDir()))
	ctx := t.Context()
	hollow(t, keepers...)
	handedOver := false
	for _, k := range keepers {
		k.Interval = 0
		led := leads(t, k)
		if err := k.Look(ctx); err != nil {
			t.Fatal(err)
		}
		if got := size(t, k.Client); got > 32<<20 || k.lastDefragment.IsZero() {
			t.Errorf("the file has %d bytes afterwards", got)
		}
		if led && leads(t, k) {
			t.Error("the leader has defragmented its file without handing over")
		}
		handedOver = handedOver || led
	}
	if !handedOver {
		t.Error("none of the members led at its turn")
	}
}

func leads(t *testing.T, k *Keeper) bool {
	t.Helper()
	s, err := k.Client.Status(t.Context(), "")
	if err != nil {
		t.Fatal(err)
	}
	return s.Leader == s.Header.MemberId
}

func TestOneAtATime(t *testing.T) {
	k := cluster(t, kvtest.Config(t, 0, t.TempDir()))[0]
	k.Interval = 0
	hollow(t, k)
	put(t, k.Client, lockKey+"/0", "another member's") // an older waiter than any
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	if err := k.Look(ctx); err == nil || !strings.Contains(err.Error(), "another member has its turn") {
		t.Errorf("%v, want that another member has its turn", err)
	}
	if got := size(t, k.Client); got < 64<<20 {
		t.Errorf("the file has %d bytes: it was defragmented all the same", got)
	}
}

func TestAlarmIsTold(t *testing.T) {
	cfg := kvtest.Config(t, 0, t.TempDir())
	cfg.QuotaBackendBytes = 16 << 20
	k := cluster(t, cfg)[0]
	var told []string
	k.Tell = func(words string) { told = append(told, words) }
	for range 2 {
		if err := k.Look(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	value := strings.Repeat("x", 1<<20)
	for i := 0; ; i++ {
		if _, err := k.Client.Put(t.Context(), fmt.Sprint(i), value); err != nil {
			break
		}
	}
	if err := k.Look(t.Context()); err != nil {
		t.Fatal(err)
	}
	if len(told) != 2 || !strings.HasPrefix(told[0], "leader of 1") || !strings.HasPrefix(told[1], "Alarm: NOSPACE on member m0") {
		t.Errorf("told %q, want the state once and then the alarm", told)
	}
}
