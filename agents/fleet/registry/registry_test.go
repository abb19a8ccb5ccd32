package registry_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/coracle-os/coracle/agents/fleet"
	"github.com/coracle-os/coracle/agents/fleet/registry"
	"github.com/coracle-os/coracle/agents/fleet/registry/layout"
	"github.com/coracle-os/coracle/agents/kv/kvtest"
)

const (
	one   = "[Service]\nExecStart=/bin/sleep 1\n"
	two   = "[Service]\nExecStart=/bin/sleep 2\n"
	unitA = "a.service"
)

func TestUnits(t *testing.T) {
	l := newLab(t)
	rollout := &fleet.Rollout{Parallel: 2, WaitHealthy: time.Minute}
	stepwise := &fleet.Rollout{Parallel: 2, WaitHealthy: time.Minute, Previous: layout.HashOf(one)}
	back := &fleet.Rollout{Parallel: 2, WaitHealthy: time.Minute, Previous: layout.HashOf(two)}
	for _, step := range []struct {
		name string
		do   func() (registry.Result, error)
		err  error
		want registry.Result // but for the revision
		unit *fleet.Unit
	}{
		{"state of none", func() (registry.Result, error) { return l.SetDesired(t.Context(), unitA, fleet.Loaded) }, registry.ErrNotFound, registry.Result{}, nil},
		{"destroy none", func() (registry.Result, error) { return l.Destroy(t.Context(), unitA) }, registry.ErrNotFound, registry.Result{}, nil},
		{"create", func() (registry.Result, error) { return l.PutUnit(t.Context(), unitA, one, "", nil) }, nil,
			registry.Result{Created: true, Changed: true}, &fleet.Unit{Name: unitA, Hash: layout.HashOf(one), Desired: fleet.Inactive}},
		{"the same again", func() (registry.Result, error) { return l.PutUnit(t.Context(), unitA, one, fleet.Inactive, nil) }, nil,
			registry.Result{}, &fleet.Unit{Name: unitA, Hash: layout.HashOf(one), Desired: fleet.Inactive}},
		{"start", func() (registry.Result, error) { return l.SetDesired(t.Context(), unitA, fleet.Launched) }, nil,
			registry.Result{Changed: true}, &fleet.Unit{Name: unitA, Hash: layout.HashOf(one), Desired: fleet.Launched}},
		{"roll back nothing", func() (registry.Result, error) { return l.Rollback(t.Context(), unitA) }, registry.ErrNothingBefore,
			registry.Result{}, &fleet.Unit{Name: unitA, Hash: layout.HashOf(one), Desired: fleet.Launched}},
		{"replace", func() (registry.Result, error) { return l.PutUnit(t.Context(), unitA, two, "", rollout) }, nil,
			registry.Result{Replaced: true, Changed: true}, &fleet.Unit{Name: unitA, Hash: layout.HashOf(two), Desired: fleet.Launched, Rollout: stepwise}},
		{"roll back", func() (registry.Result, error) { return l.Rollback(t.Context(), unitA) }, nil,
			registry.Result{Replaced: true, Changed: true}, &fleet.Unit{Name: unitA, Hash: layout.HashOf(one), Desired: fleet.Launched, Rollout: back}},
		{"bad name", func() (registry.Result, error) { return l.PutUnit(t.Context(), "a/b.service", one, "", nil) }, errAny,
			registry.Result{}, &fleet.Unit{Name: unitA, Hash: layout.HashOf(one), Desired: fleet.Launched, Rollout: back}},
		{"bad state", func() (registry.Result, error) { return l.PutUnit(t.Context(), unitA, one, "running", nil) }, errAny,
			registry.Result{}, &fleet.Unit{Name: unitA, Hash: layout.HashOf(one), Desired: fleet.Launched, Rollout: back}},
		{"not text", func() (registry.Result, error) { return l.PutUnit(t.Context(), unitA, "\xff", "", nil) }, errAny,
			registry.Result{}, &fleet.Unit{Name: unitA, Hash: layout.HashOf(one), Desired: fleet.Launched, Rollout: back}},
		{"too large", func() (registry.Result, error) {
			return l.PutUnit(t.Context(), unitA, strings.Repeat("x", 2<<20), "", nil)
		}, registry.ErrTooLarge, registry.Result{}, &fleet.Unit{Name: unitA, Hash: layout.HashOf(one), Desired: fleet.Launched, Rollout: back}},
		{"destroy", func() (registry.Result, error) { return l.Destroy(t.Context(), unitA) }, nil, registry.Result{Changed: true}, nil},
	} {
		got, err := step.do()
		if !errors.Is(err, step.err) && !(step.err == errAny && err != nil) {
			t.Errorf("%s: %v, want %v", step.name, err, step.err)
		}
		view, err := l.mirror.At(t.Context(), got.Revision)
		if err != nil {
			t.Fatal(err)
		}
		got.Revision = 0
		if got != step.want {
			t.Errorf("%s: %+v, want %+v", step.name, got, step.want)
		}
		if diff := cmp.Diff(step.unit, view.Unit(unitA)); diff != "" {
			t.Errorf("%s: (-want +got)\n%s", step.name, diff)
		}
	}
}

var errAny = errors.New("any error")

// TestTwoWriters: what another writes between reading and writing is not lost.
func TestTwoWriters(t *testing.T) {
	l := newLab(t)
	l.put(unitA, one, fleet.Inactive)
	calls := 0
	got, err := l.Update(t.Context(), unitA, func(old *registry.Unit) (*registry.Unit, error) {
		if calls++; calls == 1 {
			l.put(unitA, two, "")
		}
		next := *old
		next.Desired = fleet.Launched
		return &next, nil
	})
	if err != nil || calls != 2 {
		t.Fatalf("%d calls, %v", calls, err)
	}
	view, err := l.mirror.At(t.Context(), got.Revision)
	if err != nil {
		t.Fatal(err)
	}
	want := fleet.Unit{Name: unitA, Hash: layout.HashOf(two), Desired: fleet.Launched}
	if diff := cmp.Diff([]fleet.Unit{want}, view.Units); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
}

// TestCreatedAtOnce: of many that create one unit, one does and the others replace it.
func TestCreatedAtOnce(t *testing.T) {
	l := newLab(t)
	results := make([]registry.Result, 20)
	var wg sync.WaitGroup
	for i := range results {
		wg.Go(func() {
			var err error
			results[i], err = l.PutUnit(t.Context(), unitA, fmt.Sprintf("[Service]\nExecStart=/bin/sleep %d\n", i), "", nil)
			if err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	created, replaced := 0, 0
	last := 0
	for i, r := range results {
		if r.Created {
			created++
		}
		if r.Replaced {
			replaced++
		}
		if r.Revision > results[last].Revision {
			last = i
		}
	}
	if created != 1 || replaced != len(results)-1 {
		t.Errorf("%d created and %d replaced", created, replaced)
	}
	raw, _ := l.fresh().Raw(l.fresh().Units[0].Hash)
	if want := fmt.Sprintf("[Service]\nExecStart=/bin/sleep %d\n", last); raw != want {
		t.Errorf("the content is %q, want that of the last write %q", raw, want)
	}
}

func TestRegister(t *testing.T) {
	l := newLab(t)
	m := fleet.Machine{ID: "m1", BootID: "b1", PublicIP: "10.0.0.1", Metadata: map[string]string{"k": "v"}, Version: "1", CPU: 1000, Memory: 1 << 30}
	lease, leave := l.join(m)
	other := m
	other.PublicIP = "10.0.0.2"
	if _, err := l.Register(t.Context(), other, l.lease()); !errors.Is(err, registry.ErrTaken) || !strings.Contains(err.Error(), `"10.0.0.1"`) {
		t.Errorf("a second machine with the id: %v", err)
	}
	if diff := cmp.Diff([]fleet.Machine{m}, l.fresh().Machines); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
	m.PublicIP = "10.0.0.3"
	if _, err := l.Register(t.Context(), m, lease); err != nil {
		t.Errorf("the same machine again: %v", err)
	}
	if diff := cmp.Diff([]fleet.Machine{m}, l.fresh().Machines); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
	leave()
	if _, err := l.Register(t.Context(), m, lease); !errors.Is(err, registry.ErrLeaseEnded) {
		t.Errorf("after the lease ended: %v", err)
	}
	if got := l.fresh().Machines; len(got) != 0 {
		t.Errorf("machines after the lease ended: %v", got)
	}
	l.set(l.Keys.Machine("m1"), "garbage that never ends")
	l.join(other)
}

func TestMetadataAndDrains(t *testing.T) {
	l := newLab(t)
	m := fleet.Machine{ID: "m1", BootID: "b1", Metadata: map[string]string{"own": "1", "hidden": "1", "changed": "1"}}
	patches := []registry.Patch{
		{Machine: "m1", Key: "changed", Value: "0"}, {Machine: "m1", Key: "changed", Value: "2"}, {Machine: "m1", Key: "hidden"},
		{Machine: "m1", Key: "new", Value: "1"}, {Machine: "m2", Key: "later", Value: "1"},
	}
	if _, err := l.PatchMetadata(t.Context(), patches); err != nil {
		t.Fatal(err)
	}
	if _, err := l.PatchMetadata(t.Context(), []registry.Patch{{Machine: "m1", Key: "own", Value: "x"}, {Key: "no machine"}}); err == nil {
		t.Error("a patch without machine is taken")
	}
	l.join(m)
	l.join(fleet.Machine{ID: "m2", BootID: "b1"})
	until := l.now.Add(time.Hour)
	for _, d := range []struct {
		drain  layout.Drained
		at     time.Time
		reason string
	}{
		{layout.Drained{Reason: "for ever"}, l.now, "for ever"},
		{layout.Drained{Reason: "until the reboot", BootID: "b1"}, l.now, "until the reboot"},
		{layout.Drained{Reason: "before the reboot", BootID: "b0"}, l.now, ""},
		{layout.Drained{Reason: "for an hour", Until: until}, l.now, "for an hour"},
		{layout.Drained{Reason: "for an hour", Until: until}, until, ""},
	} {
		if _, err := l.SetDrain(t.Context(), "m1", d.drain); err != nil {
			t.Fatal(err)
		}
		l.now = d.at
		want := []fleet.Machine{
			{ID: "m1", BootID: "b1", Metadata: map[string]string{"own": "1", "changed": "2", "new": "1"}, Draining: d.reason},
			{ID: "m2", BootID: "b1", Metadata: map[string]string{"later": "1"}},
		}
		if diff := cmp.Diff(want, l.fresh().Machines); diff != "" {
			t.Errorf("%+v: (-want +got)\n%s", d, diff)
		}
	}
	if _, err := l.EndDrain(t.Context(), "m1"); err != nil {
		t.Fatal(err)
	}
	if m := l.fresh().Machine("m1"); m.Draining != "" {
		t.Errorf("still drained: %q", m.Draining)
	}
}

func place(machine, unit string) fleet.Task {
	return fleet.Task{Kind: fleet.Place, Placement: fleet.Placement{Machine: machine, Unit: unit, Hash: layout.HashOf(one), State: fleet.Launched}}
}

func as(kind fleet.TaskKind, t fleet.Task) fleet.Task {
	t.Kind = kind
	return t
}

// lead makes an engine's leadership.
func (l *lab) lead() (registry.Leadership, clientv3.LeaseID) {
	l.Helper()
	lease := l.lease()
	c, err := l.Campaign(l.Context(), layout.Engine{MachineID: "e", Version: 1}, lease)
	if err != nil || c.Leadership == nil {
		l.Fatalf("%+v, %v", c, err)
	}
	return *c.Leadership, lease
}

func TestApply(t *testing.T) {
	l := newLab(t)
	lead, lease := l.lead()
	_, leave := l.join(fleet.Machine{ID: "m1"})
	l.join(fleet.Machine{ID: "m2"})
	a, b, gone := place("m1", "a.service"), place("m1", "b.service"), place("m9", "c.service")
	released := a.Placement
	released.State = fleet.Inactive
	changed := as(fleet.Change, a)
	changed.Placement.State = fleet.Loaded
	onTwo := func(t fleet.Task) fleet.Task { t.Placement.Machine = "m2"; return t }
	for _, step := range []struct {
		name          string
		before        func()
		tasks         []fleet.Task
		done, skipped int
		want          []fleet.Placement
	}{
		{"place, one on a machine that is not there", nil, []fleet.Task{a, gone, b}, 2, 1, []fleet.Placement{a.Placement, b.Placement}},
		{"place again", nil, []fleet.Task{a}, 0, 1, []fleet.Placement{a.Placement, b.Placement}},
		{"change, and what is not there", nil, []fleet.Task{changed, onTwo(changed)}, 1, 1, []fleet.Placement{changed.Placement, b.Placement}},
		{"release", nil, []fleet.Task{as(fleet.Release, a)}, 1, 0, []fleet.Placement{released, b.Placement}},
		{"remove of a machine that is there, and place elsewhere", nil, []fleet.Task{as(fleet.Remove, b), onTwo(b)}, 0, 2, []fleet.Placement{released, b.Placement}},
		{"the same when it is gone", leave, []fleet.Task{as(fleet.Remove, b), onTwo(b)}, 2, 0, []fleet.Placement{released, onTwo(b).Placement}},
	} {
		if step.before != nil {
			step.before()
		}
		got, err := l.Apply(t.Context(), lead, step.tasks)
		if err != nil {
			t.Fatalf("%s: %v", step.name, err)
		}
		if len(got.Done) != step.done || len(got.Skipped) != step.skipped {
			t.Errorf("%s: done %v, skipped %v", step.name, got.Done, got.Skipped)
		}
		if diff := cmp.Diff(step.want, l.fresh().Placements); diff != "" {
			t.Errorf("%s: (-want +got)\n%s", step.name, diff)
		}
	}
	if err := l.Resign(t.Context(), lease); err != nil {
		t.Fatal(err)
	}
	if _, err := l.Apply(t.Context(), lead, []fleet.Task{place("m2", "stale.service")}); !errors.Is(err, registry.ErrNotLeader) {
		t.Errorf("without a leader: %v", err)
	}
	l.lead()
	if _, err := l.Apply(t.Context(), lead, []fleet.Task{place("m2", "stale.service")}); !errors.Is(err, registry.ErrNotLeader) {
		t.Errorf("with another leader: %v", err)
	}
	if n := len(l.fresh().Placements); n != 2 {
		t.Errorf("%d placements, want 2", n)
	}
}

// TestApplyMany: tasks of all shapes fit etcd's bound for a transaction.
func TestApplyMany(t *testing.T) {
	l := newLab(t)
	lead, _ := l.lead()
	_, leave := l.join(fleet.Machine{ID: "m1"})
	l.join(fleet.Machine{ID: "m2"})
	var first, second []fleet.Task
	for i := range 300 {
		p := place("m1", fmt.Sprintf("u%d.service", i))
		first, second = append(first, p), append(second, as(fleet.Remove, p))
		p.Placement.Machine = "m2"
		second = append(second, p)
	}
	// One unit with many copies on machines that are gone.
	for i := range 200 {
		second = append(second, as(fleet.Remove, place(fmt.Sprintf("gone%d", i), "global.service")))
	}
	for _, tasks := range [][]fleet.Task{first, second} {
		got, err := l.Apply(t.Context(), lead, tasks)
		if err != nil {
			t.Fatal(err)
		}
		if len(got.Done) != len(tasks) {
			t.Errorf("%d of %d done", len(got.Done), len(tasks))
		}
		leave()
		leave = func() {}
	}
	if n := len(l.fresh().Placements); n != 300 {
		t.Errorf("%d placements, want 300", n)
	}
}

func TestCollect(t *testing.T) {
	l := newLab(t)
	lead, _ := l.lead()
	l.put("a.service", one, "")
	l.put("a.service", two, "")
	seen := l.fresh()
	unused := seen.Unused()
	if diff := cmp.Diff([]string{layout.HashOf(one)}, unused); diff != "" {
		t.Fatalf("(-want +got)\n%s", diff)
	}
	l.put("b.service", one, "") // in the meantime somebody wants it again
	if removed, err := l.Collect(t.Context(), lead, unused, seen.Revision); removed || err != nil {
		t.Errorf("removed %v, %v", removed, err)
	}
	if _, there := l.fresh().Raw(layout.HashOf(one)); !there || l.fresh().Unit("b.service") == nil {
		t.Error("a content in use was removed")
	}
	if _, err := l.Destroy(t.Context(), "b.service"); err != nil {
		t.Fatal(err)
	}
	seen = l.fresh()
	if removed, err := l.Collect(t.Context(), lead, seen.Unused(), seen.Revision); !removed || err != nil {
		t.Errorf("removed %v, %v", removed, err)
	}
	if _, there := l.fresh().Raw(layout.HashOf(one)); there {
		t.Error("the content is still there")
	}
}

func TestCampaign(t *testing.T) {
	l := newLab(t)
	_, lease := l.lead()
	other := l.lease()
	for _, test := range []struct {
		name    string
		version int
		lease   clientv3.LeaseID
		leads   bool
		newest  int
	}{
		{"the leader again", 1, lease, true, 1},
		{"another", 1, other, false, 1},
		{"a newer one", 3, other, false, 1},
		{"an older one since", 2, other, false, 3},
	} {
		c, err := l.Campaign(t.Context(), layout.Engine{MachineID: "x", Version: test.version}, test.lease)
		if err != nil || (c.Leadership != nil) != test.leads || c.Newest != test.newest || c.Leader.MachineID != "e" {
			t.Errorf("%s: %+v, %v", test.name, c, err)
		}
	}
	if err := l.Resign(t.Context(), lease); err != nil {
		t.Fatal(err)
	}
	l.set(l.Keys.Leader(), "garbage that never ends")
	var c registry.Candidacy
	for range 2 {
		var err error
		if c, err = l.Campaign(t.Context(), layout.Engine{MachineID: "x", Version: 3}, other); err != nil {
			t.Fatal(err)
		}
	}
	if c.Leadership == nil {
		t.Error("garbage leads for ever")
	}
	if err := l.Resign(t.Context(), other); err != nil {
		t.Fatal(err)
	}
	if _, err := l.Campaign(t.Context(), layout.Engine{MachineID: "x", Version: 3}, other); !errors.Is(err, registry.ErrLeaseEnded) {
		t.Errorf("with a lease that has ended: %v", err)
	}
}

// TestUnavailable: every way to the KV says when it cannot be reached.
func TestUnavailable(t *testing.T) {
	l := newLab(t)
	dead := registry.New(kvtest.Dial(t, "127.0.0.1:1"), "", 50*time.Millisecond)
	for name, do := range map[string]func(context.Context) error{
		"put":      func(ctx context.Context) error { _, err := dead.PutUnit(ctx, unitA, one, "", nil); return err },
		"destroy":  func(ctx context.Context) error { _, err := dead.Destroy(ctx, unitA); return err },
		"register": func(ctx context.Context) error { _, err := dead.Register(ctx, fleet.Machine{ID: "m"}, 1); return err },
		"schedule": func(ctx context.Context) error { _, err := dead.ReadSchedule(ctx, "m", slog.Default()); return err },
		"resign":   func(ctx context.Context) error { return dead.Resign(ctx, 1) },
		"fresh":    func(ctx context.Context) error { _, err := l.newMirror(dead.Client, 0).Fresh(ctx); return err },
		"mirror":   func(ctx context.Context) error { _, err := l.newMirror(dead.Client, 0).At(ctx, 0); return err },
	} {
		ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
		if err := do(ctx); !errors.Is(err, registry.ErrUnavailable) {
			t.Errorf("%s: %v", name, err)
		}
		cancel()
	}
}
