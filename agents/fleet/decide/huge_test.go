package decide

import (
	"fmt"
	"testing"

	"github.com/coracle-os/coracle/agents/fleet"
)

// TestHuge gives Decide what a careless or an evil hand could: it must come to
// an end, and what it says must stay readable.
func TestHuge(t *testing.T) {
	const n = 3000
	next := func(format string, i int) []string { return []string{fmt.Sprintf(format, i)} }
	for name, test := range map[string]struct {
		requirements func(i int) fleet.Requirements
		placed       int
	}{
		"a chain of peers": {func(i int) fleet.Requirements {
			if i == 0 {
				return fleet.Requirements{}
			}
			return fleet.Requirements{MachineOf: next("u%04d.service", i-1)}
		}, n},
		"a circle of peers": {func(i int) fleet.Requirements {
			return fleet.Requirements{MachineOf: next("u%04d.service", (i+1)%n)}
		}, 0},
		"one leader": {func(i int) fleet.Requirements {
			if i == n/2 {
				return fleet.Requirements{}
			}
			return fleet.Requirements{MachineOf: next("u%04d.service", n/2)}
		}, n},
		"all replace all": {func(int) fleet.Requirements {
			return fleet.Requirements{Replaces: []string{"*.service"}}
		}, 1},
		"a ring of Replaces": {func(i int) fleet.Requirements {
			return fleet.Requirements{Replaces: next("u%04d.service", (i+1)%n)}
		}, 1},
		"all conflict with all": {func(int) fleet.Requirements {
			return fleet.Requirements{Conflicts: []string{"*"}}
		}, 100},
		"each its own pattern": {func(i int) fleet.Requirements {
			return fleet.Requirements{Conflicts: next("*%04d.[xs]ervice", (i+1)%n)}
		}, n},
	} {
		t.Run(name, func(t *testing.T) {
			s := &fleet.Snapshot{Now: now}
			for i := range 100 {
				s.Machines = append(s.Machines, fleet.Machine{ID: fmt.Sprintf("m%03d", i)})
			}
			for i := range n {
				s.Units = append(s.Units, fleet.Unit{Name: fmt.Sprintf("u%04d.service", i), Hash: "h1", Desired: fleet.Launched, Requirements: test.requirements(i)})
			}
			r := Decide(s)
			if len(r.Tasks) != test.placed || len(r.Unplaced) != n-test.placed {
				t.Errorf("%d tasks, %d without a machine", len(r.Tasks), len(r.Unplaced))
			}
			for unit, why := range r.Unplaced {
				if len(why) > 300 {
					t.Fatalf("%s: %d bytes: %.400s", unit, len(why), why)
				}
			}
			if again := Decide(Apply(s, r.Tasks)); len(again.Tasks) > 0 {
				t.Errorf("then %d tasks more, the first %v", len(again.Tasks), again.Tasks[0])
			}
		})
	}
}
