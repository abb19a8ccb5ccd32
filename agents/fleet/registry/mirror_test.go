package registry_test

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/coracle-os/coracle/agents/fleet"
	"github.com/coracle-os/coracle/agents/fleet/registry/layout"
	"github.com/coracle-os/coracle/agents/fleet/registry/mirror"
	"github.com/coracle-os/coracle/agents/kv/kvtest"
)

// TestGarbage: what is not understood under the prefix is named once and
// changes nothing for the rest; mended it counts.
func TestGarbage(t *testing.T) {
	l := newLab(t)
	hash := layout.HashOf(one)
	garbage := map[string]string{
		"junk": "x", "job/": "x", "job/a/b": "x", "unit/" + hash + "/x": "x", "machines/m1": "x", "schedule/m1": "x", "lease/x": "x",
		"job/broken.service":            "{",
		"job/null.service":              "null",
		"job/other.service":             layout.EncodeJob(fleet.Unit{Name: "another.service", Hash: hash, Desired: fleet.Launched}),
		"job/state.service":             layout.EncodeJob(fleet.Unit{Name: "state.service", Hash: hash, Desired: "running"}),
		"job/hash.service":              layout.EncodeJob(fleet.Unit{Name: "hash.service", Hash: "1234", Desired: fleet.Launched}),
		"job/missing.service":           layout.EncodeJob(fleet.Unit{Name: "missing.service", Hash: layout.HashOf("missing"), Desired: fleet.Launched}),
		"job/name":                      layout.EncodeJob(fleet.Unit{Name: "name", Hash: hash, Desired: fleet.Launched}),
		"job/rollout.service":           `{"Name":"rollout.service","Hash":"` + hash + `","DesiredState":"launched","Rollout":{"Parallel":0,"WaitHealthy":"1s"}}`,
		"job/wait.service":              `{"Name":"wait.service","Hash":"` + hash + `","DesiredState":"launched","Rollout":{"Parallel":1,"WaitHealthy":"1"}}`,
		"unit/" + layout.HashOf(two):    `{"Raw":"not two"}`,
		"unit/" + layout.HashOf("\x00"): `{"Raw":"\u0000"}`,
		"unit/short":                    `{"Raw":""}`,
		"schedule/m1/x.service":         `{"Hash":"x","State":"launched"}`,
		"schedule/m1/y.service":         `{"Hash":"` + hash + `","State":"gone"}`,
		"machines/m2/object":            `{"ID":"m3"}`,
		"machines/m4/object":            `{"ID":"m4","CPU":-1}`,
		"machines/m5/drain":             "\xff",
		"states/m1/x.service":           "[]",
		"states/m1/y.service":           "{}",
	}
	put := func() {
		for key, value := range garbage {
			l.set(l.Keys.Prefix+key, value)
		}
	}
	put()
	l.put(unitA, one, fleet.Launched)
	l.join(fleet.Machine{ID: "m1"})
	want := fleet.Snapshot{Units: []fleet.Unit{{Name: unitA, Hash: hash, Desired: fleet.Launched}}, Machines: []fleet.Machine{{ID: "m1"}}}
	check := func() {
		t.Helper()
		got := *l.fresh().Snapshot
		got.Revision, got.Now = 0, time.Time{}
		if diff := cmp.Diff(want, got, cmp.Transformer("", func(s []fleet.Placement) int { return len(s) }), cmp.Transformer("", func(s []fleet.UnitState) int { return len(s) })); diff != "" {
			t.Errorf("(-want +got)\n%s", diff)
		}
		for key := range garbage {
			// A key that never ends in another is counted whole.
			if n := strings.Count(l.log.String(), "key="+l.Keys.Prefix+key+" "); n != 1 {
				t.Errorf("%q is named %d times", key, n)
			}
		}
	}
	check() // by the list
	put()
	check() // by the watch
	l.put("missing.service", one, fleet.Inactive)
	l.set(l.Keys.Job("broken.service"), layout.EncodeJob(fleet.Unit{Name: "broken.service", Hash: hash, Desired: fleet.Loaded}))
	want.Units = append(want.Units,
		fleet.Unit{Name: "broken.service", Hash: hash, Desired: fleet.Loaded}, fleet.Unit{Name: "missing.service", Hash: hash, Desired: fleet.Inactive})
	check()
	l.set(l.Keys.Job("broken.service"), "{{")
	if l.fresh().Unit("broken.service") != nil {
		t.Error("a unit that became garbage is still there")
	}
}

// TestContentLate: a unit is there when its content is, in whichever order.
func TestContentLate(t *testing.T) {
	l := newLab(t)
	raw := "[X-Fleet]\nMachineMetadata=name=%i\n"
	u := fleet.Unit{Name: "a@1.service", Hash: layout.HashOf(raw), Desired: fleet.Launched}
	l.set(l.Keys.Job(u.Name), layout.EncodeJob(u))
	if n := len(l.fresh().Units); n != 0 {
		t.Errorf("%d units without content", n)
	}
	content, err := layout.EncodeContent(raw)
	if err != nil {
		t.Fatal(err)
	}
	l.set(l.Keys.Content(u.Hash), content)
	u.Requirements.Metadata = map[string][]string{"name": {"1"}}
	if diff := cmp.Diff([]fleet.Unit{u}, l.fresh().Units); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
	if _, err := l.Client.Delete(t.Context(), l.Keys.Content(u.Hash)); err != nil {
		t.Fatal(err)
	}
	if n := len(l.fresh().Units); n != 0 {
		t.Errorf("%d units whose content was removed", n)
	}
	l.put("a@2.service", raw, fleet.Inactive)
	if n := len(l.fresh().Units); n != 2 {
		t.Errorf("%d units when the content is back, want 2", n)
	}
}

// TestShared: a snapshot shares with the one before what is the same, and the
// one before stays as it was.
func TestShared(t *testing.T) {
	l := newLab(t)
	l.put("b.service", one, fleet.Inactive)
	l.join(fleet.Machine{ID: "m1"})
	before := l.fresh()
	l.join(fleet.Machine{ID: "m0"})
	after := l.fresh()
	if &before.Units[0] != &after.Units[0] {
		t.Error("units are copied")
	}
	if len(before.Machines) != 1 || len(after.Machines) != 2 || after.Machines[0].ID != "m0" {
		t.Errorf("%v, %v", before.Machines, after.Machines)
	}
	select {
	case <-before.Changed:
	default:
		t.Error("the change is not told")
	}
}

// TestIdle: a mirror that nobody asks stops, and starts when it is asked.
func TestIdle(t *testing.T) {
	l := newLab(t)
	m := l.newMirror(l.Client, 20*time.Millisecond)
	if m.Running() {
		t.Error("it runs before anybody asked")
	}
	for i := range 2 {
		r := l.put(unitA, fmt.Sprintf("[Service]\nExecStart=/bin/sleep %d\n", i), "")
		v, err := m.At(t.Context(), r.Revision)
		if err != nil || len(v.Units) != 1 {
			t.Fatalf("%v, %v", v, err)
		}
		for end := time.Now().Add(time.Minute); m.Running(); time.Sleep(time.Millisecond) {
			if time.Now().After(end) {
				t.Fatal("it runs for ever")
			}
		}
		<-v.Changed
	}
	m.Close()
	if _, err := m.At(t.Context(), 0); err == nil {
		t.Error("a closed mirror answers")
	}
}

// TestFreshElsewhere: changes outside the prefix hold up nobody.
func TestFreshElsewhere(t *testing.T) {
	l := newLab(t)
	l.fresh()
	for range 10 {
		l.set("/elsewhere", "x")
		l.fresh()
	}
}

// TestCompacted: a mirror that was cut off while the KV forgot its revision
// reads everything again, and misses neither what came nor what went.
func TestCompacted(t *testing.T) {
	l := newLab(t)
	wire := kvtest.NewCable(t, store.endpoint)
	m := l.newMirror(kvtest.Dial(t, wire.Addr), 0)
	l.put("gone.service", one, fleet.Inactive)
	l.put("stays.service", one, fleet.Inactive)
	first, err := m.At(t.Context(), 0)
	if err != nil {
		t.Fatal(err)
	}
	wire.Cut(true)
	if _, err := l.Destroy(t.Context(), "gone.service"); err != nil {
		t.Fatal(err)
	}
	last := l.put("new.service", two, fleet.Inactive)
	if _, err := l.Client.Compact(t.Context(), last.Revision); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	if _, err := m.Fresh(ctx); err == nil {
		t.Error("a mirror that is cut off says that it is fresh")
	}
	wire.Cut(false)
	v, err := m.At(t.Context(), last.Revision)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, u := range v.Units {
		names = append(names, u.Name)
	}
	if diff := cmp.Diff([]string{"new.service", "stays.service"}, names); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
	if len(first.Units) != 2 || first.Units[0].Name != "gone.service" {
		t.Errorf("the first view has changed: %v", first.Units)
	}
	if _, there := first.Raw(layout.HashOf(one)); !there {
		t.Error("a view lost its contents")
	}
}

// TestMany: many readers and writers of one mirror.
func TestMany(t *testing.T) {
	l := newLab(t)
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			for j := range 25 {
				name := fmt.Sprintf("u%d-%d.service", i, j)
				r, err := l.PutUnit(t.Context(), name, one, fleet.Inactive, nil)
				if err != nil {
					t.Error(err)
					return
				}
				v, err := l.mirror.At(t.Context(), r.Revision)
				if err != nil || v.Unit(name) == nil {
					t.Errorf("%s is not there at revision %d: %v", name, r.Revision, err)
				}
			}
		})
	}
	wg.Wait()
}

// BenchmarkSnapshot is a snapshot of 10,000 units of which one has changed.
func BenchmarkSnapshot(b *testing.B) {
	client := kvtest.Dial(b, store.endpoint)
	prefix := fmt.Sprintf("/snapshot%d", time.Now().UnixNano())
	m := mirror.New(client, mirror.Options{Prefix: prefix})
	defer m.Close()
	keys := layout.NewKeys(prefix)
	content, err := layout.EncodeContent(one)
	if err != nil {
		b.Fatal(err)
	}
	if _, err := client.Put(b.Context(), keys.Content(layout.HashOf(one)), content); err != nil {
		b.Fatal(err)
	}
	var revision int64
	for i := range 10000 {
		name := fmt.Sprintf("u%d.service", i)
		r, err := client.Put(b.Context(), keys.Job(name), layout.EncodeJob(fleet.Unit{Name: name, Hash: layout.HashOf(one), Desired: fleet.Launched}))
		if err != nil {
			b.Fatal(err)
		}
		revision = r.Header.Revision
	}
	if _, err := m.At(b.Context(), revision); err != nil {
		b.Fatal(err)
	}
	states := []fleet.JobState{fleet.Inactive, fleet.Launched}
	for i := 0; b.Loop(); i++ {
		r, err := client.Put(b.Context(), keys.Job("u5000.service"), layout.EncodeJob(fleet.Unit{Name: "u5000.service", Hash: layout.HashOf(one), Desired: states[i%2]}))
		if err != nil {
			b.Fatal(err)
		}
		v, err := m.At(b.Context(), r.Header.Revision)
		if err != nil || len(v.Units) != 10000 {
			b.Fatal(err)
		}
	}
}
