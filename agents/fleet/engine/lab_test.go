package engine

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/coracle-os/coracle/agents/fleet"
	"github.com/coracle-os/coracle/agents/fleet/registry"
	"github.com/coracle-os/coracle/agents/fleet/registry/layout"
	"github.com/coracle-os/coracle/agents/fleet/registry/mirror"
	"github.com/coracle-os/coracle/agents/kv/kvtest"
	testlab "github.com/coracle-os/coracle/agents/lab"
)

// store is the one etcd of this package's tests; each has a prefix of its own.
var store struct{ endpoint string }

func TestMain(m *testing.M) {
	os.Exit(kvtest.Main(m, func(address string) { store.endpoint = address }))
}

// lab is a cluster of simulated machines and real engines.
type lab struct {
	t        testing.TB
	registry *registry.Registry
	mirror   *mirror.Mirror
	log      *testlab.Log
}

func newLab(t testing.TB) *lab {
	t.Helper()
	client := kvtest.Dial(t, store.endpoint)
	prefix := "/" + strings.ReplaceAll(t.Name(), "/", "-") + fmt.Sprint(time.Now().UnixNano())
	l := &lab{t: t, registry: registry.New(client, prefix, 0), log: &testlab.Log{}}
	l.mirror = mirror.New(client, mirror.Options{Prefix: prefix})
	t.Cleanup(l.mirror.Close)
	return l
}

// engine runs an engine until stop or the test's end.
func (l *lab) engine(o Options) (stop func()) {
	if o.Registry == nil {
		o.Registry = l.registry
	}
	o.TTL = time.Second
	o.Log = slog.New(slog.NewTextHandler(l.log, nil)).With("engine", o.MachineID)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { defer close(done); Run(ctx, o) }()
	stop = func() { cancel(); <-done }
	l.t.Cleanup(stop)
	return stop
}

// submit creates a unit that is to run.
func (l *lab) submit(name, section string) {
	l.t.Helper()
	if _, err := l.registry.PutUnit(l.t.Context(), name, "[Service]\nExecStart=/bin/sleep 100\n"+section, fleet.Launched, nil); err != nil {
		l.t.Fatal(err)
	}
}

// until waits for a state of the cluster.
func (l *lab) until(what string, ok func(*fleet.Snapshot) bool) *fleet.Snapshot {
	l.t.Helper()
	ctx, cancel := context.WithTimeout(l.t.Context(), time.Minute)
	defer cancel()
	for {
		v, err := l.mirror.At(ctx, 0)
		if err != nil {
			l.t.Fatalf("waiting until %s: %v", what, err)
		}
		if ok(v.Snapshot) {
			return v.Snapshot
		}
		select {
		case <-v.Changed:
		case <-ctx.Done():
			l.t.Fatalf("never: %s\nplacements: %v\nlog:\n%s", what, v.Placements, l.log)
		}
	}
}

// untilLogged waits for a line of an engine.
func (l *lab) untilLogged(text string) {
	l.t.Helper()
	for end := time.Now().Add(time.Minute); !strings.Contains(l.log.String(), text); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			l.t.Fatalf("never logged: %s\nlog:\n%s", text, l.log)
		}
	}
}

// where is the machine of a unit's only placement, "" if there is none.
func where(s *fleet.Snapshot, unit string) string {
	for _, p := range s.Placements {
		if p.Unit == unit {
			return p.Machine
		}
	}
	return ""
}

// machine is a simulated one: it does to the KV what an agent does.
type machine struct {
	registry *registry.Registry
	id       string
	lease    clientv3.LeaseID
	stop     func() // without a trace in the KV, as a power cut
	writes   int    // of states and tokens
}

func (l *lab) machine(id string) *machine {
	l.t.Helper()
	m, err := startMachine(l.registry, id, time.Minute)
	if err != nil {
		l.t.Fatal(err)
	}
	l.t.Cleanup(m.stop)
	return m
}

// die ends the machine and its lease.
func (m *machine) die(t testing.TB) {
	t.Helper()
	m.stop()
	if _, err := m.registry.Client.Revoke(t.Context(), m.lease); err != nil {
		t.Fatal(err)
	}
}

func startMachine(r *registry.Registry, id string, ttl time.Duration) (*machine, error) {
	ctx, cancel := context.WithCancel(context.Background())
	grant, err := r.Client.Grant(ctx, int64(ttl/time.Second))
	if err != nil {
		cancel()
		return nil, err
	}
	m := &machine{registry: r, id: id, lease: grant.ID}
	if _, err := r.Register(ctx, fleet.Machine{ID: id, BootID: "b", CPU: 4000, Memory: 8 << 30}, grant.ID); err != nil {
		cancel()
		return nil, err
	}
	var wg sync.WaitGroup
	wg.Go(func() { m.run(ctx) })
	m.stop = func() { cancel(); wg.Wait() }
	return m, nil
}

// run starts and stops what the schedule says, at once.
func (m *machine) run(ctx context.Context) {
	running := map[string]string{} // unit to hash
	m.registry.WatchSchedule(ctx, m.id, slog.New(slog.DiscardHandler), func(s registry.Schedule) {
		var states []fleet.UnitState
		here := map[string]bool{}
		for _, u := range s.Units {
			here[u.Unit] = true
			if u.State == fleet.Inactive {
				m.registry.RemoveToken(ctx, u)
				delete(running, u.Unit)
				m.writes += 2
			} else if running[u.Unit] != u.Hash {
				running[u.Unit] = u.Hash
				states = append(states, fleet.UnitState{Unit: u.Unit, Machine: m.id, Hash: u.Hash, Load: "loaded", Active: "active", Sub: "running", Since: time.Now()})
			}
		}
		for unit := range running {
			if !here[unit] {
				delete(running, unit)
			}
		}
		m.registry.PublishStates(ctx, m.lease, states)
		m.writes += len(states)
	}, nil)
}

// key of the leader, for tests that look at it.
func (l *lab) leader() (layout.Engine, bool) {
	l.t.Helper()
	v, err := l.mirror.Fresh(l.t.Context())
	if err != nil {
		l.t.Fatal(err)
	}
	return v.Leader()
}
