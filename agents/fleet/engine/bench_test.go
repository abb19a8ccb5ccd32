package engine

import (
	"context"
	"fmt"
	"log/slog"
	"runtime"
	"sync"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"golang.org/x/sync/errgroup"

	"github.com/coracle-os/coracle/agents/fleet"
	"github.com/coracle-os/coracle/agents/fleet/registry"
	"github.com/coracle-os/coracle/agents/kv/kvtest"
)

// crowd is simulated machines with a few connections to the KV between them.
type crowd struct {
	machines []*machine
}

func newCrowd(b *testing.B, l *lab, n int) *crowd {
	b.Helper()
	const connections = 8
	c := &crowd{machines: make([]*machine, n)}
	var registries []*registry.Registry
	for range connections {
		r := *l.registry
		r.Client, r.Timeout = kvtest.Dial(b, store.endpoint), time.Minute
		registries = append(registries, &r)
	}
	var g errgroup.Group
	g.SetLimit(32)
	for i := range n {
		g.Go(func() (err error) {
			c.machines[i], err = startMachine(registries[i%connections], fmt.Sprintf("%032x", i), 30*time.Second)
			if err == nil {
				_, err = c.machines[i].registry.Client.KeepAlive(context.WithoutCancel(b.Context()), c.machines[i].lease)
			}
			return err
		})
	}
	if err := g.Wait(); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		var wg sync.WaitGroup
		for _, m := range c.machines {
			wg.Go(m.stop)
		}
		wg.Wait()
	})
	return c
}

// submitMany creates n units of different content, as many clients would.
func submitMany(b testing.TB, l *lab, n int) {
	b.Helper()
	var g errgroup.Group
	g.SetLimit(64)
	for i := range n {
		g.Go(func() error {
			raw := fmt.Sprintf("[Unit]\nDescription=Unit %d\n\n[Service]\nExecStart=/bin/sleep %d\n", i, i)
			_, err := l.registry.PutUnit(b.Context(), fmt.Sprintf("unit%05d.service", i), raw, fleet.Launched, nil)
			return err
		})
	}
	if err := g.Wait(); err != nil {
		b.Fatal(err)
	}
}

func quietEngine(b *testing.B, l *lab) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	r := *l.registry
	r.Client = kvtest.Dial(b, store.endpoint)
	go func() {
		defer close(done)
		Run(ctx, Options{Registry: &r, MachineID: "bench", Log: slog.New(slog.NewTextHandler(l.log, nil))})
	}()
	b.Cleanup(func() { cancel(); <-done })
}

// countWrites counts keys written under the lab's prefix.
func countWrites(b *testing.B, l *lab, from int64) (stop func() int) {
	ctx, cancel := context.WithCancel(context.Background())
	watch := l.registry.Client.Watch(ctx, l.registry.Keys.Prefix, clientv3.WithPrefix(), clientv3.WithRev(from))
	n := make(chan int)
	go func() {
		total := 0
		for answer := range watch {
			total += len(answer.Events)
		}
		n <- total
	}()
	return func() int { time.Sleep(200 * time.Millisecond); cancel(); return <-n }
}

func revision(b *testing.B, l *lab) int64 {
	answer, err := l.registry.Client.Get(b.Context(), "x")
	if err != nil {
		b.Fatal(err)
	}
	return answer.Header.Revision
}

// BenchmarkPlacement is 10,000 units over 1,000 machines: submitted at once,
// placed, and said to run by the machines. Goals: 10 s, 4 writes for each unit.
func BenchmarkPlacement(b *testing.B) {
	for b.Loop() {
		const units, machines = 10000, 1000
		l := newLab(b)
		newCrowd(b, l, machines)
		l.until("all machines are there", func(s *fleet.Snapshot) bool { return len(s.Machines) == machines })
		quietEngine(b, l)
		l.untilLogged("Engine leadership acquired")
		writes := countWrites(b, l, revision(b, l)+1)
		start := time.Now()
		submitMany(b, l, units)
		submitted := time.Since(start)
		l.until("all are placed", func(s *fleet.Snapshot) bool { return len(s.Placements) == units })
		placed := time.Since(start)
		l.until("all run", func(s *fleet.Snapshot) bool { return len(s.States) == units })
		b.ReportMetric(submitted.Seconds(), "s-submitted")
		b.ReportMetric(placed.Seconds(), "s-placed")
		b.ReportMetric(time.Since(start).Seconds(), "s-running")
		b.ReportMetric(float64(writes())/units, "writes/unit")
	}
}

// BenchmarkEngineStarts is an engine that finds 10,000 units that were submitted
// before over 1,000 machines.
func BenchmarkEngineStarts(b *testing.B) {
	for b.Loop() {
		const units, machines = 10000, 1000
		l := newLab(b)
		newCrowd(b, l, machines)
		submitMany(b, l, units)
		start := time.Now()
		quietEngine(b, l)
		l.until("all are placed", func(s *fleet.Snapshot) bool { return len(s.Placements) == units })
		b.ReportMetric(time.Since(start).Seconds(), "s-placed")
		l.until("all run", func(s *fleet.Snapshot) bool { return len(s.States) == units })
		b.ReportMetric(time.Since(start).Seconds(), "s-running")
	}
}

// BenchmarkIdle counts what 2,000 running units write. Goal: 20 writes a second.
func BenchmarkIdle(b *testing.B) {
	for b.Loop() {
		const units, machines = 2000, 100
		l := newLab(b)
		newCrowd(b, l, machines)
		quietEngine(b, l)
		submitMany(b, l, units)
		l.until("all run", func(s *fleet.Snapshot) bool { return len(s.States) == units })
		const watched = 10 * time.Second
		writes := countWrites(b, l, revision(b, l)+1)
		time.Sleep(watched)
		b.ReportMetric(float64(writes())/watched.Seconds(), "writes/s")
	}
}

// BenchmarkDeadMachine is from the end of a lease to the placement elsewhere of
// all the machine's units, in a quiet cluster of 10,000 over 1,000 machines.
// Goal: 1 s.
func BenchmarkDeadMachine(b *testing.B) {
	for b.Loop() {
		const units, machines = 10000, 1000
		l := newLab(b)
		c := newCrowd(b, l, machines)
		quietEngine(b, l)
		submitMany(b, l, units)
		l.until("all run", func(s *fleet.Snapshot) bool { return len(s.States) == units })
		dead := c.machines[machines/2]
		dead.stop()
		time.Sleep(time.Second) // what the placement left behind in this one process is done
		start := time.Now()
		if _, err := l.registry.Client.Revoke(b.Context(), dead.lease); err != nil {
			b.Fatal(err)
		}
		l.until("all are placed elsewhere", func(s *fleet.Snapshot) bool {
			if len(s.Machines) != machines-1 || len(s.Placements) != units {
				return false
			}
			for _, p := range s.Placements {
				if p.Machine == dead.id {
					return false
				}
			}
			return true
		})
		b.ReportMetric(time.Since(start).Seconds(), "s-placed")
	}
}

// BenchmarkMemory is what the leader's copy of 10,000 running units takes.
func BenchmarkMemory(b *testing.B) {
	for b.Loop() {
		const units, machines = 10000, 1000
		l := newLab(b)
		newCrowd(b, l, machines)
		quietEngine(b, l)
		submitMany(b, l, units)
		l.until("all run", func(s *fleet.Snapshot) bool { return len(s.States) == units })
		with := heap()
		l.mirror.Close() // the same as the engine's
		b.ReportMetric(float64(with-heap())/(1<<20), "MiB-mirror")
	}
}

func heap() int64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}
