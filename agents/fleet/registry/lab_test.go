package registry_test

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/coracle-os/coracle/agents/fleet"
	"github.com/coracle-os/coracle/agents/fleet/registry"
	"github.com/coracle-os/coracle/agents/fleet/registry/mirror"
	"github.com/coracle-os/coracle/agents/kv/kvtest"
	testlab "github.com/coracle-os/coracle/agents/lab"
)

// store is the one etcd of this package's tests; each has a prefix of its own.
var store struct{ endpoint string }

func TestMain(m *testing.M) {
	os.Exit(kvtest.Main(m, func(address string) { store.endpoint = address }))
}

// lab is a registry and a mirror of a prefix of their own.
type lab struct {
	*testing.T
	*registry.Registry
	mirror *mirror.Mirror
	log    *testlab.Log
	now    time.Time
}

func newLab(t *testing.T) *lab {
	t.Helper()
	client := kvtest.Dial(t, store.endpoint)
	prefix := fmt.Sprintf("/%s%d", t.Name(), time.Now().UnixNano())
	l := &lab{T: t, Registry: registry.New(client, prefix, 0), log: &testlab.Log{}, now: time.Now()}
	l.mirror = l.newMirror(client, 0)
	return l
}

func (l *lab) newMirror(client *clientv3.Client, idle time.Duration) *mirror.Mirror {
	m := mirror.New(client, mirror.Options{
		Prefix: l.Keys.Prefix, Idle: idle, Log: slog.New(slog.NewTextHandler(l.log, nil)), Now: func() time.Time { return l.now },
	})
	l.Cleanup(m.Close)
	return m
}

// fresh is the cluster as it is now.
func (l *lab) fresh() *mirror.View {
	l.Helper()
	ctx, cancel := context.WithTimeout(l.Context(), time.Minute)
	defer cancel()
	v, err := l.mirror.Fresh(ctx)
	if err != nil {
		l.Fatal(err)
	}
	return v
}

func (l *lab) set(key, value string) {
	l.Helper()
	if _, err := l.Client.Put(l.Context(), key, value); err != nil {
		l.Fatal(err)
	}
}

func (l *lab) put(name, raw string, desired fleet.JobState) registry.Result {
	l.Helper()
	r, err := l.PutUnit(l.Context(), name, raw, desired, nil)
	if err != nil {
		l.Fatal(err)
	}
	return r
}

func (l *lab) lease() clientv3.LeaseID {
	l.Helper()
	grant, err := l.Client.Grant(l.Context(), 60)
	if err != nil {
		l.Fatal(err)
	}
	return grant.ID
}

// join registers a machine; leave ends its lease.
func (l *lab) join(m fleet.Machine) (lease clientv3.LeaseID, leave func()) {
	l.Helper()
	lease = l.lease()
	if _, err := l.Register(l.Context(), m, lease); err != nil {
		l.Fatal(err)
	}
	return lease, func() {
		l.Helper()
		if _, err := l.Client.Revoke(l.Context(), lease); err != nil {
			l.Fatal(err)
		}
	}
}
