package locksmith

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.etcd.io/etcd/api/v3/etcdserverpb"

	"github.com/coracle-os/coracle/agents/locksmith/semaphore"
	"github.com/coracle-os/coracle/rootfs/program"
)

// ctl runs locksmithctl against a store.
func ctl(t *testing.T, endpoint string, args ...string) (out string, code int) {
	t.Helper()
	var stdout, stderr bytes.Buffer
	tool := tool{Stdio: program.Stdio{Out: &stdout, Err: &stderr}, id: "this-machine",
		locks: func(context.Context) bool { return true }, reboot: func(context.Context) error { fmt.Fprintln(&stdout, "REBOOT"); return nil },
		flag: filepath.Join(t.TempDir(), "update-engine", "reboot-needed")}
	tool.config.Store.SetEndpoints("")
	code = tool.main(t.Context(), append([]string{"-endpoint", endpoint}, args...))
	return stdout.String() + stderr.String(), code
}

func TestCtl(t *testing.T) {
	_, endpoints := startStore(t, 1)
	for _, tt := range []struct {
		args string
		out  string
		code int
	}{
		{"status", "Available: 1\nMax: 1\n", 0},
		{"lock", "", 0},
		{"status", "Available: 0\nMax: 1\n\nMACHINE ID\nthis-machine\n", 0},
		{"lock other", "locksmithctl: the reboot lock is taken: 0 of 1 places are free; held by [\"this-machine\"]\n", 1},
		{"set-max 4", "Old: 1\nNew: 4\n", 0},
		{"lock other", "", 0},
		{"status", "Available: 2\nMax: 4\n\nMACHINE ID\nother\nthis-machine\n", 0},
		{"unlock other", "", 0},
		{"unlock other", "locksmithctl: this machine does not hold the reboot lock: \"other\"\n", 1},
		{"reboot", "REBOOT\n", 0},
		{"unlock", "", 0},
		{"-group web status", "Available: 1\nMax: 1\n", 0},
		{"-group web lock", "", 0},
		{"status", "Available: 4\nMax: 4\n", 0},
		{"send-need-reboot", "", 0},
		{"", "locksmithctl: no command given; see locksmithctl -h\n", 2},
		{"frobnicate", "locksmithctl: unknown command \"frobnicate\"; see locksmithctl -h\n", 2},
		{"set-max many", "locksmithctl: set-max: \"many\" is not a number; see locksmithctl -h\n", 2},
		{"status now", "locksmithctl: status: too many arguments [\"now\"]; see locksmithctl -h\n", 2},
		{"-colour status", "locksmithctl: flag provided but not defined: -colour; see locksmithctl -h\n", 2},
	} {
		out, code := ctl(t, endpoints[0], strings.Fields(tt.args)...)
		if out != tt.out || code != tt.code {
			t.Errorf("locksmithctl %s: exit code %d, output:\n%s\nwant %d:\n%s", tt.args, code, out, tt.code, tt.out)
		}
	}
}

// TestManyAtOnce: of many machines never more than max hold the lock.
func TestManyAtOnce(t *testing.T) {
	_, endpoints := startStore(t, 1)
	const machines, places = 12, 3
	config := StoreConfig{Endpoints: endpoints}
	if out, code := ctl(t, endpoints[0], "set-max", fmt.Sprint(places)); code != 0 {
		t.Fatal(out)
	}
	var holding, most atomic.Int32
	var wg sync.WaitGroup
	for i := range machines {
		wg.Go(func() {
			c, id := NewCluster(config, nil), fmt.Sprint("machine-", i)
			for deadline := time.Now().Add(time.Minute); ; {
				err := c.Lock(t.Context(), id)
				if err == nil {
					break
				}
				if !errors.Is(err, semaphore.ErrFull) || time.Now().After(deadline) {
					t.Error(err)
					return
				}
			}
			n := holding.Add(1)
			for m := most.Load(); n > m && !most.CompareAndSwap(m, n); m = most.Load() {
			}
			holding.Add(-1)
			if err := c.Unlock(t.Context(), id); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if most.Load() > places {
		t.Errorf("%d machines held the lock at once, want at most %d", most.Load(), places)
	}
	if out, _ := ctl(t, endpoints[0], "status"); out != "Available: 3\nMax: 3\n" {
		t.Errorf("in the end:\n%s", out)
	}
}

// TestQuorumOfACluster stops one member of three.
func TestQuorumOfACluster(t *testing.T) {
	stop, endpoints := startStore(t, 3)
	own := func(_ context.Context, m *etcdserverpb.Member) bool { return m.Name == "m0" }
	cluster := NewCluster(StoreConfig{Endpoints: endpoints}, own)
	list := func() []Member {
		members, err := cluster.Members(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return members
	}
	if err := GuardQuorum(list()); err != nil {
		t.Errorf("all are healthy: %v", err)
	}
	stop(2)
	members := list()
	if err := GuardQuorum(members); !errors.Is(err, ErrQuorum) || !strings.Contains(err.Error(), `["m2"]`) {
		t.Errorf("m2 is down: %v, want that m2 is missing", err)
	}
	for i := range members {
		members[i].Own = members[i].Name == "m2"
	}
	if err := GuardQuorum(members); err != nil {
		t.Errorf("the machine of the member that is down may reboot: %v", err)
	}
	stop(1)
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
	defer cancel()
	if _, err := cluster.Members(ctx); err == nil {
		t.Error("members are listed without a quorum")
	}
}
