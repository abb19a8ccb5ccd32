package engine

import (
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/coracle-os/coracle/agents/fleet"
	"github.com/coracle-os/coracle/agents/fleet/decide"
)

// lossCluster has a unit on each of total machines, of which the first alive
// have a lease.
func lossCluster(alive, total int) *fleet.Snapshot {
	s := &fleet.Snapshot{}
	for n := range total {
		id, unit := fmt.Sprintf("%032d", n), fmt.Sprintf("u%02d.service", n)
		if n < alive {
			s.Machines = append(s.Machines, fleet.Machine{ID: id})
		}
		s.Units = append(s.Units, fleet.Unit{Name: unit, Hash: "h", Desired: fleet.Launched})
		s.Placements = append(s.Placements, fleet.Placement{Unit: unit, Machine: id, Hash: "h", State: fleet.Launched})
	}
	return s
}

func TestLosses(t *testing.T) {
	begin := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	type moment struct {
		after        time.Duration
		alive, total int
		hold         int // machines
	}
	for name, moments := range map[string][]moment{
		"one of one":              {{0, 0, 1, 1}, {399 * time.Millisecond, 0, 1, 1}, {400 * time.Millisecond, 0, 1, 0}},
		"one of five":             {{0, 4, 5, 1}, {time.Second, 4, 5, 0}},
		"one after one of five":   {{0, 4, 5, 1}, {time.Second, 3, 5, 1}, {2 * time.Second, 3, 5, 0}},
		"three of five":           {{0, 2, 5, 3}, {4 * time.Second, 2, 5, 3}, {5 * time.Second, 2, 5, 0}},
		"all, and they come back": {{0, 5, 5, 0}, {time.Second, 0, 5, 5}, {2 * time.Second, 4, 5, 0}, {3 * time.Second, 5, 5, 0}},
		"one after the other":     {{0, 2, 3, 1}, {4 * time.Second, 1, 3, 2}, {8 * time.Second, 1, 3, 2}, {9 * time.Second, 1, 3, 0}},
		"twice":                   {{0, 0, 3, 3}, {time.Second, 3, 3, 0}, {time.Minute, 0, 3, 3}, {time.Minute + 5*time.Second, 0, 3, 0}},
	} {
		l := losses{notice: 400 * time.Millisecond, wait: 5 * time.Second}
		for _, m := range moments {
			now := begin.Add(m.after)
			waitFor, again, _ := l.hold(lossCluster(m.alive, m.total), now)
			if len(waitFor) != m.hold || (m.hold > 0) != again.After(now) {
				t.Errorf("%s, after %v: waits for %v, looks again at %v", name, m.after, waitFor, again)
			}
		}
	}
}

// TestSpare decides about a cluster that lost most machines, and about a unit
// that has nothing to do with them.
func TestSpare(t *testing.T) {
	s := lossCluster(1, 3)
	s.Units = append(s.Units, fleet.Unit{Name: "z.service", Hash: "h", Desired: fleet.Launched})
	l := losses{wait: time.Second}
	waitFor, _, _ := l.hold(s, time.Now())
	tasks := decide.Decide(s).Tasks
	if len(tasks) != 5 { // two removed, two placed elsewhere, one new
		t.Fatalf("decided: %v", tasks)
	}
	var units []string
	for _, task := range spare(tasks, waitFor) {
		units = append(units, string(task.Kind)+" "+task.Placement.Unit)
	}
	if diff := cmp.Diff([]string{"Place z.service"}, units); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff(tasks, spare(tasks, nil)); diff != "" {
		t.Error(diff)
	}
}
