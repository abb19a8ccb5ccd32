package decide

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"github.com/coracle-os/coracle/agents/fleet"
)

// startGrace is how long after WaitHealthy a new copy may still be starting
// before its rollout stops.
const startGrace = 30 * time.Second

// copyOf is one placement that stays.
type copyOf struct {
	unit    *unit
	machine *machine
	token   fleet.Placement
}

// change brings the placements that stay to the wanted content and state.
func (w *world) change() {
	rollouts := map[*group][]copyOf{}
	var order []*group
	for _, u := range w.units {
		for _, p := range u.tokens {
			m := w.machine(p.Machine)
			if m == nil || !u.runsOn(m) {
				continue
			}
			if u.Rollout == nil {
				w.bring(copyOf{u, m, p}, u.Hash, "unit was replaced")
				continue
			}
			if rollouts[u.group] == nil {
				order = append(order, u.group)
			}
			rollouts[u.group] = append(rollouts[u.group], copyOf{u, m, p})
		}
	}
	for _, g := range order {
		w.rollOut(g, rollouts[g])
	}
}

// bring changes one placement to this content and to the wanted state. Content
// that asks for more than the machine has is taken away instead.
func (w *world) bring(c copyOf, hash, why string) {
	u, m, p := c.unit, c.machine, c.token
	if p.Hash != hash && u.Hash == hash && m.overfull(u) {
		w.release(u, m, fmt.Sprintf("target Machine(%s) unable to run unit: %s", m.ID, m.shortOf(u)))
		u.leave(m)
		return
	}
	if p.Hash == hash && p.State == u.Desired {
		return
	}
	if p.Hash == hash {
		why = "target state " + string(u.Desired)
	}
	p.Hash, p.State = hash, u.Desired
	w.changes = append(w.changes, fleet.Task{Kind: fleet.Change, Placement: p, Reason: why})
}

// overfull tells whether m has less than what its units, u among them, ask for.
func (m *machine) overfull(u *unit) bool {
	return u.Requirements.CPU > 0 && m.cpu > m.CPU || u.Requirements.Memory > 0 && m.memory > m.Memory
}

func (m *machine) shortOf(u *unit) string {
	if u.Requirements.CPU > 0 && m.cpu > m.CPU {
		return "less than CPU=" + cpuText(u.Requirements.CPU) + " free"
	}
	return "less than Memory=" + sizeText(u.Requirements.Memory) + " free"
}

// health is how a copy with new content does.
type health int

const (
	healthy health = iota
	starting
	failed
)

// rollOut changes as many copies of a group as may be away at one time.
func (w *world) rollOut(g *group, copies []copyOf) {
	parallel, wait := limits(copies)
	var old []copyOf
	away := w.absent(g) // copies that do not run, or not for long enough
	for _, c := range copies {
		if c.token.Hash != c.unit.Hash {
			old = append(old, c)
			continue
		}
		switch h, why := w.health(c, wait); h {
		case failed:
			w.stopRollout(g, copies, c, why)
			return
		case starting:
			away++
		}
		w.bring(c, c.unit.Hash, "")
	}
	down := 0
	for _, c := range old {
		down += boolInt(!w.running(c))
	}
	// Copies that do not run anyway are first: nothing is lost with them.
	slices.SortStableFunc(old, func(a, b copyOf) int {
		return cmp.Compare(boolInt(w.running(a)), boolInt(w.running(b)))
	})
	for i, c := range old {
		runs := w.running(c)
		if away >= parallel || runs && away+down >= parallel {
			for _, later := range old[i:] {
				w.bring(later, later.token.Hash, "")
				w.unplaced[later.unit.Name] = fmt.Sprintf("waits in the rollout of %s: %d of %d are new, %d at a time", g.name, len(copies)-len(old)+i, len(copies), parallel)
			}
			return
		}
		w.bring(c, c.unit.Hash, fmt.Sprintf("rollout of %s, %d at a time", g.name, parallel))
		away++
		down -= boolInt(!runs)
	}
}

// limits are those of the most careful member.
func limits(copies []copyOf) (parallel int, wait time.Duration) {
	for i, c := range copies {
		n := max(c.unit.Rollout.Parallel, 1)
		if i == 0 || n < parallel {
			parallel = n
		}
		wait = max(wait, c.unit.Rollout.WaitHealthy)
	}
	return parallel, wait
}

// absent counts the wanted copies of a group's rollout that are between two
// machines. Those that fit nowhere would hold the rollout up for ever.
func (w *world) absent(g *group) int {
	n := 0
	for _, u := range g.members {
		missing := u.want() - len(u.on)
		if u.Rollout == nil || u.Requirements.Global || missing <= 0 {
			continue
		}
		if len(u.held) > 0 || w.blocked(u) == "" && w.choose(u) != nil {
			n += missing
		}
	}
	return n
}

// running tells whether a copy does its work now. One that is only to be
// loaded has none.
func (w *world) running(c copyOf) bool {
	return c.token.State != fleet.Launched || w.active(c.unit.Name, c.machine.ID)
}

// health looks at a copy that has the new content, by what its machine says.
func (w *world) health(c copyOf, wait time.Duration) (health, string) {
	if c.unit.Desired != fleet.Launched {
		return healthy, ""
	}
	s := w.state(c.unit.Name, c.machine.ID)
	if s == nil || s.Hash != c.unit.Hash {
		return starting, "" // the machine has not come to it yet
	}
	age := w.Now.Sub(s.Since)
	switch {
	case s.Active == "failed":
		return failed, "failed"
	case s.Active == "active" && age >= wait:
		return healthy, ""
	case s.Active == "active":
		w.wake(s.Since.Add(wait))
		return starting, ""
	case age >= wait+startGrace:
		return failed, fmt.Sprintf("is %s after %s", s.Active, (wait + startGrace).Round(time.Second))
	}
	w.wake(s.Since.Add(wait + startGrace))
	return starting, ""
}

func (w *world) wake(t time.Time) {
	if w.again.IsZero() || t.Before(w.again) {
		w.again = t
	}
}

// stopRollout leaves every copy as it is and says why.
func (w *world) stopRollout(g *group, copies []copyOf, broken copyOf, why string) {
	text := fmt.Sprintf("rollout of %s stopped: %s %s on machine %s; roll it back or replace it again", g.name, broken.unit.Name, why, short(broken.machine.ID))
	for _, u := range g.members {
		u.stopped = u.Rollout != nil
	}
	for _, c := range copies {
		w.bring(c, c.token.Hash, "")
		if c.token.Hash != c.unit.Hash || c.unit == broken.unit {
			w.unplaced[c.unit.Name] = text
		}
	}
}
