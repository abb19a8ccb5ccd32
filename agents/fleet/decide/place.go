package decide

import (
	"fmt"
	"slices"

	"github.com/coracle-os/coracle/agents/fleet"
)

// place finds machines for what is missing of u.
func (w *world) place(u *unit) {
	switch {
	case u.Desired == fleet.Inactive:
		return
	case fleet.IsTemplate(u.Name):
		if u.Requirements.Replicas == 0 {
			prefix, _, suffix, _ := fleet.SplitName(u.Name)
			w.unplaced[u.Name] = fmt.Sprintf("is a template: start an instance, for example %s@1%s, or give it Replicas=", prefix, suffix)
		}
		return
	case u.Requirements.Global:
		w.placeGlobal(u)
		return
	}
	missing := u.want() - len(u.on)
	if missing == 0 {
		return
	}
	if why := w.blocked(u); why != "" {
		w.unplaced[u.Name] = why
		return
	}
	free := missing // tokens that may be given
	if !u.Requirements.NoFence {
		free -= len(u.held)
	}
	for range free {
		m := w.choose(u)
		if m == nil {
			w.unplaced[u.Name] = w.explain(u)
			return
		}
		w.put(u, m)
	}
	if free < missing {
		w.unplaced[u.Name] = fmt.Sprintf("waits until machine %s has stopped it", short(u.held[0].ID))
	}
}

// put writes the placement of u on m, after what u replaces there.
func (w *world) put(u *unit, m *machine) {
	for _, other := range w.replaceable(u, m) {
		w.changes = slices.DeleteFunc(w.changes, func(t fleet.Task) bool {
			return t.Placement.Unit == other.Name && t.Placement.Machine == m.ID
		})
		w.release(other, m, fmt.Sprintf("replaced by Unit(%s)", u.Name))
		other.leave(m)
	}
	m.settle(u)
	hash := u.Hash
	if u.stopped && u.Rollout.Previous != "" {
		hash = u.Rollout.Previous
	}
	w.places = append(w.places, fleet.Task{
		Kind:      fleet.Place,
		Placement: fleet.Placement{Unit: u.Name, Machine: m.ID, Hash: hash, State: u.Desired},
		Reason:    fmt.Sprintf("target state %s and unit not scheduled", u.Desired),
	})
}

// placeGlobal puts u on every machine that fits.
func (w *world) placeGlobal(u *unit) {
	refused := verdicts{}
	for _, m := range u.class.machines {
		if u.runsOn(m) {
			continue
		}
		switch v := w.fit(u, m); v {
		case fits:
			w.put(u, m)
		case drained, hasToken:
		default:
			refused.add(v, m)
		}
	}
	switch {
	case len(u.class.machines) == 0:
		w.unplaced[u.Name] = w.explain(u)
	case refused.total > 0:
		w.unplaced[u.Name] = fmt.Sprintf("runs on %d of %s: %s", len(u.on), plural(len(u.class.machines), "machine"), refused.text(u, false))
	}
}

// blocked tells why no machine at all may have u now; "" if one may.
func (w *world) blocked(u *unit) string {
	if u.cycle != "" {
		return "MachineOf is circular: " + u.cycle + "; take one of them out"
	}
	if u.missing != "" {
		return fmt.Sprintf("MachineOf=%s: there is no such unit", u.missing)
	}
	for _, peer := range u.peers {
		if len(peer.on) > 0 {
			continue
		}
		if peer.Desired == fleet.Inactive {
			return fmt.Sprintf("MachineOf=%s, which is not started", peer.Name)
		}
		return fmt.Sprintf("MachineOf=%s, which has no machine", peer.Name)
	}
	if other := u.rival(); other != nil {
		return fmt.Sprintf("Replaces is circular: it and %s replace each other, so only one of them runs", other.Name)
	}
	return ""
}

// choose finds the machine for one more copy of u; nil if none fits.
func (w *world) choose(u *unit) *machine {
	candidates := u.class.machines
	if len(u.peers) > 0 {
		candidates = u.peers[0].on
	}
	if len(u.replace.carries) > 0 {
		if m := w.takeOver(u, candidates); m != nil {
			return m
		}
	}
	followers := w.followers(u)
	if len(followers) > 0 {
		if m := w.least(u, candidates, func(m *machine) bool { return w.fit(u, m) == fits && w.fitAll(u, followers, m) }); m != nil {
			return m
		}
	}
	return w.least(u, candidates, func(m *machine) bool { return w.fit(u, m) == fits })
}

// least is the least loaded of the machines that are good for u.
func (w *world) least(u *unit, candidates []*machine, good func(*machine) bool) *machine {
	var best *machine
	var bestCopies, bestCount int
	var bestShare int64
	for _, m := range candidates {
		copies := u.group.copies(u, m)
		share, count := m.load(u)
		if best != nil {
			switch {
			case copies != bestCopies:
				if copies > bestCopies {
					continue
				}
			case share != bestShare:
				if share > bestShare {
					continue
				}
			case count > bestCount || count == bestCount && m.index > best.index:
				continue
			}
		}
		if good(m) {
			best, bestCopies, bestShare, bestCount = m, copies, share, count
		}
	}
	return best
}

// takeOver is the least loaded machine that fits and has a unit that u
// replaces; nil if there is none.
func (w *world) takeOver(u *unit, candidates []*machine) *machine {
	return w.least(u, candidates, func(m *machine) bool {
		if !m.replace.matched(u.replace) {
			return false
		}
		leave := w.replaceable(u, m)
		if len(leave) == 0 {
			return false
		}
		var cpu, memory int64
		for _, other := range leave {
			cpu += other.Requirements.CPU
			memory += other.Requirements.Memory
		}
		if v := w.fit(u, m); v != fits && v != noCPU && v != noMemory {
			return false
		}
		return m.room(u.Requirements.CPU-cpu, u.Requirements.Memory-memory) == fits
	})
}

// replaceable are the units that leave m when u comes: those that were there
// before this pass and that u displaces.
func (w *world) replaceable(u *unit, m *machine) []*unit {
	var leave []*unit
	if len(u.replace.carries) == 0 {
		return nil
	}
	for _, other := range m.units {
		if other.Requirements.Global || !other.runsOn(m) || !u.displaces(other) {
			continue
		}
		if slices.ContainsFunc(other.tokens, func(p fleet.Placement) bool { return p.Machine == m.ID }) {
			leave = append(leave, other)
		}
	}
	return leave
}

// followers are the units that are to come to u's machine, those that follow
// its followers included. A unit with peers of its own has no choice anyway.
func (w *world) followers(u *unit) []*unit {
	if len(u.follows) == 0 || len(u.peers) > 0 {
		return nil
	}
	all, seen := []*unit{u}, map[*unit]bool{u: true}
	for i := 0; i < len(all); i++ {
		for _, f := range all[i].follows {
			if len(f.on) == 0 && f.cycle == "" && !f.Requirements.Global && !seen[f] {
				all, seen[f] = append(all, f), true
			}
		}
	}
	return all[1:]
}

// fitAll tells whether m has a place for u and its followers together.
func (w *world) fitAll(u *unit, followers []*unit, m *machine) bool {
	cpu, memory := u.Requirements.CPU, u.Requirements.Memory
	for _, f := range followers {
		if v := w.may(f, m); v != fits && v != noPeer {
			return false
		}
		if m.glob.matched(f.glob) || m.glob.carried(f.glob) || slices.Contains(f.held, m) {
			return false
		}
		cpu += f.Requirements.CPU
		memory += f.Requirements.Memory
	}
	return m.room(cpu, memory) == fits
}
