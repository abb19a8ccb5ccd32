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

	"github.com/coracle-os/coracle/agents/fleet"
	"github.com/coracle-os/coracle/agents/fleet/registry"
	"github.com/coracle-os/coracle/agents/fleet/registry/layout"
	"github.com/coracle-os/coracle/agents/kv/kvtest"
)

// TestAgent is what an agent does: its schedule, its states, its tokens.
func TestAgent(t *testing.T) {
	l := newLab(t)
	lead, _ := l.lead()
	lease, leave := l.join(fleet.Machine{ID: "m1"})
	l.join(fleet.Machine{ID: "m10"}) // whose name begins the same
	ctx, cancel := context.WithCancel(t.Context())
	schedules := make(chan registry.Schedule, 100)
	var wg sync.WaitGroup
	wg.Go(func() {
		l.WatchSchedule(ctx, "m1", slog.New(slog.NewTextHandler(l.log, nil)), func(s registry.Schedule) { schedules <- s }, nil)
	})
	defer wg.Wait()
	defer cancel()
	until := func(n int) registry.Schedule {
		t.Helper()
		for {
			select {
			case s := <-schedules:
				if len(s.Units) == n {
					return s
				}
			case <-time.After(time.Minute):
				t.Fatalf("never %d units", n)
			}
		}
	}
	until(0)
	l.set(l.Keys.Placement("m1", "garbage.service"), "{")
	l.set(l.Keys.Placement("m1", "garbage.service"), "}")
	a, b := place("m1", "a.service"), place("m1", "b.service")
	if _, err := l.Apply(t.Context(), lead, []fleet.Task{a, b, place("m10", "c.service")}); err != nil {
		t.Fatal(err)
	}
	before := until(2)
	if n := strings.Count(l.log.String(), "garbage.service"); n != 1 {
		t.Errorf("garbage is named %d times", n)
	}
	state := fleet.UnitState{Machine: "m1", Unit: "a.service", Hash: layout.HashOf(one), Load: "loaded", Active: "active", Sub: "running", Since: time.Unix(1000, 0).UTC()}
	ghost := state
	ghost.Unit = "ghost.service"
	if err := l.PublishStates(t.Context(), lease, []fleet.UnitState{state, ghost}); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]fleet.UnitState{state}, l.fresh().States); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
	if _, err := l.Apply(t.Context(), lead, []fleet.Task{as(fleet.Release, a)}); err != nil {
		t.Fatal(err)
	}
	if removed, err := l.RemoveToken(t.Context(), before.Units[0]); removed || err != nil {
		t.Errorf("a token that has changed: %v, %v", removed, err)
	}
	after := until(2)
	if after.Units[0].State != fleet.Inactive || after.Units[1] != before.Units[1] {
		t.Errorf("%+v", after.Units)
	}
	if removed, err := l.RemoveToken(t.Context(), after.Units[0]); !removed || err != nil {
		t.Errorf("%v, %v", removed, err)
	}
	until(1)
	if v := l.fresh(); len(v.States) != 0 || len(v.Placements) != 2 {
		t.Errorf("left are %v, %v", v.States, v.Placements)
	}
	read, err := l.ReadSchedule(t.Context(), "m1", slog.New(slog.DiscardHandler))
	if err != nil || len(read.Units) != 1 {
		t.Errorf("%v, %v", read, err)
	}
	leave()
	state.Unit = "b.service"
	if err := l.PublishStates(t.Context(), lease, []fleet.UnitState{state}); !errors.Is(err, registry.ErrLeaseEnded) {
		t.Errorf("a state without lease: %v", err)
	}
	lease, _ = l.join(fleet.Machine{ID: "m1"})
	if err := l.Leave(t.Context(), "m1", lease); err != nil {
		t.Error(err)
	}
	if v := l.fresh(); len(v.Machines) != 1 || len(v.Placements) != 1 {
		t.Errorf("left are %v, %v", v.Machines, v.Placements)
	}
}

func TestContents(t *testing.T) {
	l := newLab(t)
	var hashes []string
	want := map[string]string{}
	for i := range 250 {
		raw := fmt.Sprintf("[Service]\nExecStart=/bin/sleep %d\n", i)
		l.put(fmt.Sprintf("u%d.service", i), raw, "")
		hashes, want[layout.HashOf(raw)] = append(hashes, layout.HashOf(raw)), raw
	}
	l.set(l.Keys.Content(layout.HashOf(two)), `{"Raw":"another"}`)
	delete(want, layout.HashOf(two))
	got, err := l.Contents(t.Context(), append(hashes, layout.HashOf("not there")))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
}

// TestScheduleCut: an agent that was cut off gets all that happened
// meanwhile. (The client of etcd connects again by itself and tells nothing.)
func TestScheduleCut(t *testing.T) {
	l := newLab(t)
	lead, _ := l.lead()
	l.join(fleet.Machine{ID: "m1"})
	wire := kvtest.NewCable(t, store.endpoint)
	far := registry.New(kvtest.Dial(t, wire.Addr), l.Keys.Prefix, 0)
	ctx, cancel := context.WithCancel(t.Context())
	schedules := make(chan registry.Schedule, 100)
	var wg sync.WaitGroup
	wg.Go(func() {
		far.WatchSchedule(ctx, "m1", slog.New(slog.DiscardHandler), func(s registry.Schedule) { schedules <- s }, nil)
	})
	defer wg.Wait()
	defer cancel()
	limit := time.After(time.Minute)
	for n, cut := range []bool{false, true} {
		wire.Cut(cut)
		if _, err := l.Apply(t.Context(), lead, []fleet.Task{place("m1", fmt.Sprintf("u%d.service", n))}); err != nil {
			t.Fatal(err)
		}
		wire.Cut(false)
		for units := -1; units != n+1; {
			select {
			case s := <-schedules:
				units = len(s.Units)
			case <-limit:
				t.Fatalf("never %d units", n+1)
			}
		}
	}
}
