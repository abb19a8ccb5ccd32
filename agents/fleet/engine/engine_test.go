package engine

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/coracle-os/coracle/agents/fleet"
	"github.com/coracle-os/coracle/agents/fleet/decide"
	"github.com/coracle-os/coracle/agents/fleet/registry"
	"github.com/coracle-os/coracle/agents/fleet/registry/layout"
	"github.com/coracle-os/coracle/agents/kv/kvtest"
)

// TestPlaces follows a unit through its life, and fleet's log lines.
func TestPlaces(t *testing.T) {
	l := newLab(t)
	l.machine("m1")
	metrics := prometheus.NewRegistry()
	l.engine(Options{MachineID: "e1", Metrics: NewMetrics(metrics)})
	l.submit("a.service", "")
	l.until("a runs", func(s *fleet.Snapshot) bool { return len(s.States) == 1 && where(s, "a.service") == "m1" })
	l.untilLogged("Engine completed reconciliation in ")
	for _, line := range []string{
		"Engine leadership acquired", "Engine leader is e1", "Scheduled Unit(a.service) to Machine(m1)",
		`EngineReconciler completed task: {Type: AttemptScheduleUnit, JobName: a.service, MachineID: m1, Reason: `,
	} {
		l.untilLogged(line)
	}
	if _, err := l.registry.Destroy(t.Context(), "a.service"); err != nil {
		t.Fatal(err)
	}
	l.until("the machine gave a up", func(s *fleet.Snapshot) bool { return len(s.Placements)+len(s.States) == 0 })
	l.untilLogged("Unscheduled Job(a.service) from Machine(m1)")
	got := map[string]float64{}
	families, err := metrics.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() == "fleet_engine_task_count_total" {
			for _, m := range f.Metric {
				got[m.Label[0].GetValue()] = m.GetCounter().GetValue()
			}
		}
	}
	if want := map[string]float64{"AttemptScheduleUnit": 1, "UnscheduleUnit": 1}; !maps.Equal(got, want) {
		t.Errorf("tasks counted: %v, want %v", got, want)
	}
}

// TestMachineDies: the end of a lease frees its units at once, and no other moves.
func TestMachineDies(t *testing.T) {
	l := newLab(t)
	m1 := l.machine("m1")
	l.machine("m2")
	l.engine(Options{MachineID: "e1"})
	for i := range 10 {
		l.submit(fmt.Sprintf("u%d.service", i), "")
	}
	before := l.until("all run", func(s *fleet.Snapshot) bool { return len(s.States) == 10 })
	m1.die(t)
	after := l.until("all run on m2", func(s *fleet.Snapshot) bool {
		for i := range s.Placements {
			if s.Placements[i].Machine != "m2" {
				return false
			}
		}
		return len(s.States) == 10 && len(s.Placements) == 10
	})
	for _, u := range before.Units {
		if where(before, u.Name) == "m2" && where(after, u.Name) != "m2" {
			t.Errorf("%s moved", u.Name)
		}
	}
	if strings.Count(l.log.String(), "Unscheduled Job(") != 5 {
		t.Errorf("not five units moved:\n%s", l.log)
	}
}

// TestLeaderKilled: the leader's connection is cut; another engine leads when
// its lease has ended, and it follows when it is back.
func TestLeaderKilled(t *testing.T) {
	l := newLab(t)
	l.machine("m1")
	wire := kvtest.NewCable(t, store.endpoint)
	cut := *l.registry
	cut.Client, cut.Timeout = kvtest.Dial(t, wire.Addr), 500*time.Millisecond
	l.engine(Options{MachineID: "e1", Registry: &cut})
	l.untilLogged("Engine leader is e1")
	l.engine(Options{MachineID: "e2"})
	l.submit("a.service", "")
	l.until("a runs", func(s *fleet.Snapshot) bool { return len(s.States) == 1 })
	wire.Cut(true)
	l.submit("b.service", "")
	l.until("b runs", func(s *fleet.Snapshot) bool { return len(s.States) == 2 })
	if e, _ := l.leader(); e.MachineID != "e2" {
		t.Errorf("%+v leads", e)
	}
	l.untilLogged("Engine leadership lost")
	wire.Cut(false)
	l.untilLogged("Engine leadership changed from e1 to e2")
}

// TestStops: an engine that is told to stop gives the leadership up at once.
func TestStops(t *testing.T) {
	l := newLab(t)
	stop := l.engine(Options{MachineID: "e1"})
	l.untilLogged("Engine leadership acquired")
	stop()
	if e, there := l.leader(); there {
		t.Errorf("%+v still leads", e)
	}
}

// TestKeyRemoved: the leader's key is removed by hand.
func TestKeyRemoved(t *testing.T) {
	l := newLab(t)
	l.machine("m1")
	l.engine(Options{MachineID: "e1"})
	l.untilLogged("Engine leadership acquired")
	if _, err := l.registry.Client.Delete(t.Context(), l.registry.Keys.Leader()); err != nil {
		t.Fatal(err)
	}
	l.submit("a.service", "")
	l.until("a runs", func(s *fleet.Snapshot) bool { return len(s.States) == 1 })
}

// TestVersions: a newer engine takes over from an older one, which stands aside.
func TestVersions(t *testing.T) {
	l := newLab(t)
	l.engine(Options{MachineID: "e1", Version: 1})
	l.untilLogged("Engine leadership acquired")
	stop := l.engine(Options{MachineID: "e2", Version: 2})
	l.untilLogged("Engine leader is e2")
	l.untilLogged("A newer engine has led this cluster; this one stands aside")
	if e, _ := l.leader(); e != (layout.Engine{MachineID: "e2", Version: 2}) {
		t.Errorf("%+v leads", e)
	}
	stop()
	before := strings.Count(l.log.String(), "Engine leadership acquired")
	l.engine(Options{MachineID: "e3", Version: 2})
	l.untilLogged("Engine leader is e3")
	if n := strings.Count(l.log.String(), "Engine leadership acquired"); n != before+1 {
		t.Errorf("%d engines led after the newer one had stopped, want 1", n-before)
	}
}

// TestPanic: units that the thinking cannot bear stay as they are, and the rest
// is decided on.
func TestPanic(t *testing.T) {
	l := newLab(t)
	l.machine("m1")
	poison := "[Unit]\nDescription=poison\n"
	bad := layout.HashOf("[Service]\nExecStart=/bin/sleep 100\n" + poison)
	l.engine(Options{MachineID: "e1", Decide: func(s *fleet.Snapshot) decide.Result {
		for _, u := range s.Units {
			if u.Hash == bad {
				panic("cannot bear it")
			}
		}
		return decide.Decide(s)
	}})
	for _, name := range []string{"a.service", "b.service", "c.service", "d.service"} {
		l.submit(name, "")
	}
	l.until("all run", func(s *fleet.Snapshot) bool { return len(s.States) == 4 })
	before := l.until("all run", func(s *fleet.Snapshot) bool { return true })
	l.submit("b.service", poison)
	l.submit("d.service", poison)
	l.submit("e.service", "")
	after := l.until("the good one runs", func(s *fleet.Snapshot) bool { return where(s, "e.service") != "" && len(s.States) == 5 })
	if !slices.Equal(before.Placements, after.Placements[:4]) {
		t.Errorf("%v, want %v first", after.Placements, before.Placements)
	}
	l.untilLogged("leaves it as it is until its content changes")
	l.submit("b.service", "")
	if _, err := l.registry.Destroy(t.Context(), "d.service"); err != nil {
		t.Fatal(err)
	}
	l.until("d is gone", func(s *fleet.Snapshot) bool { return where(s, "d.service") == "" })
}

// TestPanicAlways: when it is no unit's fault nothing is written, and the next
// change is tried.
func TestPanicAlways(t *testing.T) {
	l := newLab(t)
	l.machine("m1")
	l.engine(Options{MachineID: "e1", Decide: func(s *fleet.Snapshot) decide.Result {
		if m := s.Machine("m2"); m != nil {
			panic("cannot bear m2")
		}
		return decide.Decide(s)
	}})
	m2 := l.machine("m2")
	l.submit("a.service", "")
	l.untilLogged("cannot bear m2")
	m2.die(t)
	l.until("a runs", func(s *fleet.Snapshot) bool { return where(s, "a.service") == "m1" })
}

// TestManyAtOnce: units by the thousand, with garbage among them.
func TestManyAtOnce(t *testing.T) {
	l := newLab(t)
	for i := range 10 {
		l.machine(fmt.Sprintf("m%d", i))
	}
	l.engine(Options{MachineID: "e1"})
	for _, key := range []string{"job/x.service", "unit/x", "schedule/m1", "schedule/m1/x.service", "machines/m77/object", "machines", "states/m1/x", "junk", "engine/version"} {
		if _, err := l.registry.Client.Put(t.Context(), l.registry.Keys.Prefix+key, "\x00garbage"); err != nil {
			t.Fatal(err)
		}
	}
	const units = 2000
	submitMany(t, l, units)
	s := l.until("all run", func(s *fleet.Snapshot) bool { return len(s.States) == units })
	here := map[string]int{}
	for _, p := range s.Placements {
		here[p.Machine]++
	}
	for m, n := range here {
		if n != units/10 {
			t.Errorf("%s has %d units, want %d", m, n, units/10)
		}
	}
}

// TestFlapping: a machine joins and leaves without end; units of the others stay
// where they are.
func TestFlapping(t *testing.T) {
	l := newLab(t)
	for i := range 3 {
		l.machine(fmt.Sprintf("m%d", i))
	}
	l.engine(Options{MachineID: "e1"})
	for i := range 30 {
		l.submit(fmt.Sprintf("u%d.service", i), "")
	}
	before := l.until("all run", func(s *fleet.Snapshot) bool { return len(s.States) == 30 })
	for i := range 20 {
		flapper := l.machine("flapper")
		name := fmt.Sprintf("new%d.service", i)
		l.submit(name, "") // the least loaded machine is the flapper
		l.until("it is placed", func(s *fleet.Snapshot) bool { return where(s, name) != "" })
		flapper.die(t)
	}
	after := l.until("all run on machines that stay", func(s *fleet.Snapshot) bool {
		for _, p := range s.Placements {
			if p.Machine == "flapper" {
				return false
			}
		}
		return len(s.States) == 50 && len(s.Placements) == 50
	})
	for _, u := range before.Units {
		if where(before, u.Name) != where(after, u.Name) {
			t.Errorf("%s moved", u.Name)
		}
	}
}

// TestTimeAlone: what only time changes happens without any change in the KV.
func TestTimeAlone(t *testing.T) {
	l := newLab(t)
	var passes atomic.Int32
	l.engine(Options{MachineID: "e1", Decide: func(s *fleet.Snapshot) decide.Result {
		if passes.Add(1) < 3 {
			return decide.Result{Again: s.Now.Add(10 * time.Millisecond)}
		}
		return decide.Result{}
	}})
	for end := time.Now().Add(time.Minute); passes.Load() < 3; time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("the engine does not think again")
		}
	}
}

// TestDrainEnds: a drain with a time ends then.
func TestDrainEnds(t *testing.T) {
	l := newLab(t)
	l.machine("m1")
	if _, err := l.registry.SetDrain(t.Context(), "m1", layout.Drained{Reason: "test", Until: time.Now().Add(300 * time.Millisecond)}); err != nil {
		t.Fatal(err)
	}
	l.submit("a.service", "")
	l.engine(Options{MachineID: "e1"})
	l.until("a runs", func(s *fleet.Snapshot) bool { return len(s.States) == 1 })
}

// TestCollects: contents that nobody has any more go; those in use stay.
func TestCollects(t *testing.T) {
	l := newLab(t)
	l.machine("m1")
	l.engine(Options{MachineID: "e1", Collect: 20 * time.Millisecond})
	l.submit("a.service", "")
	l.submit("b.service", "[X-Fleet]\nConflicts=none*\n")
	l.until("both run", func(s *fleet.Snapshot) bool { return len(s.States) == 2 })
	if _, err := l.registry.Destroy(t.Context(), "b.service"); err != nil {
		t.Fatal(err)
	}
	l.untilLogged("Contents that no unit has were removed")
	left, err := l.registry.Client.Get(t.Context(), l.registry.Keys.Content(""), clientv3.WithPrefix(), clientv3.WithKeysOnly())
	if err != nil {
		t.Fatal(err)
	}
	a := l.until("a still runs", func(s *fleet.Snapshot) bool { return len(s.States) == 1 }).Units[0]
	if len(left.Kvs) != 1 || string(left.Kvs[0].Key) != l.registry.Keys.Content(a.Hash) {
		t.Errorf("left is %v, want %s", left.Kvs, a.Hash)
	}
}

// TestUnreachable: without a KV an engine waits, and ends when told to.
func TestUnreachable(t *testing.T) {
	l := newLab(t)
	r := registry.New(kvtest.Dial(t, "127.0.0.1:1"), "", 100*time.Millisecond)
	stop := l.engine(Options{MachineID: "e1", Registry: r})
	l.untilLogged("The engine cannot take part; trying again")
	stop()
}
