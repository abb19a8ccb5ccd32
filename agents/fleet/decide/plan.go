package decide

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"github.com/coracle-os/coracle/agents/fleet"
)

// maxPasses bounds Plan's look into the future.
const maxPasses = 1000

// Plan says what would be done if these units were added to the cluster, or
// took the place of those with their names, and all machines did their work:
// every task that would not be there without them, in order, and the reasons
// that stay why units have no machine. A unit without a desired state is to be
// launched.
func Plan(s *fleet.Snapshot, units []fleet.Unit) Result {
	calm, _ := settle(clone(s))
	replaced := make(map[string]bool, len(units))
	for i := range units {
		replaced[units[i].Name] = true
	}
	calm.Units = slices.DeleteFunc(slices.Clone(calm.Units), func(u fleet.Unit) bool { return replaced[u.Name] })
	for _, u := range units {
		u.Desired = cmp.Or(u.Desired, fleet.Launched)
		calm.Units = append(calm.Units, u)
	}
	slices.SortFunc(calm.Units, byName)
	_, result := settle(calm)
	return result
}

// settle decides and applies until there is nothing left to do.
func settle(s *fleet.Snapshot) (*fleet.Snapshot, Result) {
	var all Result
	for range maxPasses {
		r := Decide(s)
		all.Unplaced, all.Again = r.Unplaced, r.Again
		if len(r.Tasks) == 0 {
			break
		}
		all.Tasks = append(all.Tasks, r.Tasks...)
		s = Apply(s, r.Tasks)
	}
	return s, all
}

// Apply is the snapshot after the tasks were written and every machine has
// done what it was told: what was released is removed, and what was launched
// has been active for a day. Simulations use it.
func Apply(s *fleet.Snapshot, tasks []fleet.Task) *fleet.Snapshot {
	type key struct{ unit, machine string }
	placements := map[key]fleet.Placement{}
	for _, p := range s.Placements {
		placements[key{p.Unit, p.Machine}] = p
	}
	for _, t := range tasks {
		k := key{t.Placement.Unit, t.Placement.Machine}
		placements[k] = t.Placement
		if t.Kind == fleet.Remove {
			delete(placements, k)
		}
	}
	next := clone(s)
	next.Revision++
	next.Placements, next.States = next.Placements[:0], next.States[:0]
	for _, p := range placements {
		if p.State != fleet.Inactive || s.Machine(p.Machine) == nil {
			next.Placements = append(next.Placements, p)
		}
	}
	slices.SortFunc(next.Placements, func(a, b fleet.Placement) int {
		return cmp.Or(cmp.Compare(a.Unit, b.Unit), cmp.Compare(a.Machine, b.Machine))
	})
	for _, p := range next.Placements {
		state := fleet.UnitState{Unit: p.Unit, Machine: p.Machine, Hash: p.Hash, Load: "loaded", Active: "inactive", Sub: "dead", Since: s.Now.Add(-24 * time.Hour)}
		if p.State == fleet.Launched {
			state.Active, state.Sub = "active", "running"
		}
		next.States = append(next.States, state)
	}
	return next
}

// clone copies what Apply and Plan change.
func clone(s *fleet.Snapshot) *fleet.Snapshot {
	c := *s
	c.Placements, c.States = slices.Clone(s.Placements), slices.Clone(s.States)
	return &c
}

// Rebalance says which placements to release so that the machines have about
// the same number each; Decide then places the units anew. It moves as few as
// it can, and of each group one copy per call. A unit is moved only if another
// machine fits it now and no peer keeps it. With anything else left to do in
// the cluster it does nothing: that comes first.
func Rebalance(s *fleet.Snapshot) []fleet.Task {
	w := newWorld(s)
	for _, u := range w.order {
		w.keep(u)
	}
	w.orphans()
	w.occupy()
	if len(w.removes)+len(w.releases) > 0 {
		return nil
	}
	moved := map[*group]bool{}
	byLoad := slices.Clone(w.machines)
	for {
		// The fullest machine that has a unit to give comes first.
		slices.SortFunc(byLoad, func(a, b *machine) int {
			return cmp.Or(cmp.Compare(b.count, a.count), cmp.Compare(a.index, b.index))
		})
		if !slices.ContainsFunc(byLoad, func(from *machine) bool { return w.unload(from, moved) }) {
			return w.releases
		}
	}
}

// unload releases one unit of a machine that has at least two more than one
// that fits the unit; false if there is none.
func (w *world) unload(from *machine, moved map[*group]bool) bool {
	for _, u := range from.units {
		if moved[u.group] || u.Requirements.Global || len(u.peers)+len(u.follows)+len(u.held) > 0 || len(u.replace.carries) > 0 {
			continue
		}
		to := w.least(u, u.class.machines, func(m *machine) bool { return m.count+2 <= from.count && w.fit(u, m) == fits })
		if to == nil || u.group.copies(u, to) > u.group.copies(u, from) {
			continue
		}
		moved[u.group] = true
		w.release(u, from, fmt.Sprintf("rebalance: Machine(%s) has %s, Machine(%s) has %d", from.ID, plural(from.count, "unit"), to.ID, to.count))
		from.take(u)
		to.put(u)
		return true
	}
	return false
}

// take is the opposite of put.
func (m *machine) take(u *unit) {
	m.count--
	m.cpu -= u.Requirements.CPU
	m.memory -= u.Requirements.Memory
	m.units = slices.DeleteFunc(m.units, func(other *unit) bool { return other == u })
	m.groups[u.group]--
	m.glob.take(u.glob)
	m.replace.take(u.replace)
}

func (c *counts) take(l links) {
	for _, id := range l.carries {
		c.carry[id]--
	}
	for _, id := range l.matches {
		c.match[id]--
	}
}
