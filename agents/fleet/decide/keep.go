package decide

import (
	"cmp"
	"fmt"
	"slices"

	"github.com/coracle-os/coracle/agents/fleet"
)

// keep decides which of u's placements stay.
func (w *world) keep(u *unit) {
	var able []*machine
	for _, p := range u.tokens {
		m := w.machine(p.Machine)
		switch {
		case m == nil:
			w.remove(p)
		case p.State == fleet.Inactive:
			u.held = append(u.held, m)
		default:
			if why := w.unable(u, m); why != "" {
				w.release(u, m, why)
			} else {
				able = append(able, m)
			}
		}
	}
	if most := u.want(); !u.Requirements.Global && len(able) > most {
		// Those that run stay, then those with the lower ids.
		slices.SortStableFunc(able, func(a, b *machine) int {
			return cmp.Compare(boolInt(!w.active(u.Name, a.ID)), boolInt(!w.active(u.Name, b.ID)))
		})
		for _, m := range able[most:] {
			w.release(u, m, fmt.Sprintf("%d of %d placements are too many", len(able)-most, len(able)))
		}
		able = able[:most]
	}
	for _, m := range able {
		m.settle(u)
	}
}

// unable tells why u may not stay on m, in fleet's words; "" if it may.
func (w *world) unable(u *unit, m *machine) string {
	switch {
	case u.Desired == fleet.Inactive:
		return "target state inactive"
	case fleet.IsTemplate(u.Name):
		return "a template has no machine"
	}
	if other := u.rival(); other != nil && len(other.on) > 0 {
		return fmt.Sprintf("Unit(%s) and it replace each other", other.Name)
	}
	v := w.may(u, m)
	if v == fits {
		return ""
	}
	if v == drained {
		return fmt.Sprintf("Machine(%s) is drained: %s", m.ID, m.Draining)
	}
	return fmt.Sprintf("target Machine(%s) unable to run unit: %s", m.ID, w.inability(u, m, v))
}

func (w *world) inability(u *unit, m *machine, v verdict) string {
	switch v {
	case otherID:
		return fmt.Sprintf("agent ID %q does not match required %q", m.ID, u.Requirements.MachineID)
	case otherMetadata:
		return "local Machine metadata insufficient"
	case noPeer:
		return fmt.Sprintf("required peer Unit(%s) is not scheduled locally", u.absentPeer(m))
	case conflict:
		return fmt.Sprintf("found conflict with locally-scheduled Unit(%s)", m.conflicting(u))
	case isReplaced:
		return fmt.Sprintf("replaced by locally-scheduled Unit(%s)", m.replacer(u).Name)
	case tooManyInstances:
		return fmt.Sprintf("MaxPerMachine=%d instances of %s are there", u.Requirements.MaxPerMachine, u.group.name)
	}
	return ""
}

func (u *unit) absentPeer(m *machine) string {
	for _, peer := range u.peers {
		if !peer.runsOn(m) {
			return peer.Name
		}
	}
	return u.missing
}

// conflicting is the name of a unit on m that u has a conflict with.
func (m *machine) conflicting(u *unit) string {
	for _, other := range m.units {
		if other != u && (meets(u.glob, other.glob) || meets(other.glob, u.glob)) {
			return other.Name
		}
	}
	return ""
}

// orphans ends the placements of units that are not there any more.
func (w *world) orphans() {
	rest := w.units
	for _, p := range w.Placements {
		for len(rest) > 0 && rest[0].Name < p.Unit {
			rest = rest[1:]
		}
		if len(rest) > 0 && rest[0].Name == p.Unit {
			continue
		}
		m := w.machine(p.Machine)
		if m == nil {
			w.remove(p)
			continue
		}
		m.count++
		if p.State != fleet.Inactive {
			why := "unit was destroyed"
			if template := w.unit(fleet.TemplateOf(p.Unit)); template != nil && template.Requirements.Replicas > 0 {
				why = fmt.Sprintf("%s has Replicas=%d", template.Name, template.Requirements.Replicas)
			}
			p.State = fleet.Inactive
			w.releases = append(w.releases, fleet.Task{Kind: fleet.Release, Placement: p, Reason: why})
		}
	}
}

// occupy counts the units that are being stopped: they need their place till
// the machine has removed their tokens, but nobody has to leave for them.
func (w *world) occupy() {
	for _, u := range w.order {
		for _, m := range u.held {
			m.put(u)
		}
	}
}

func (w *world) remove(p fleet.Placement) {
	w.removes = append(w.removes, fleet.Task{Kind: fleet.Remove, Placement: p, Reason: fmt.Sprintf("target Machine(%s) went away", p.Machine)})
}

// release takes u away from m. The token is there till the machine removes it.
func (w *world) release(u *unit, m *machine, why string) {
	i := slices.IndexFunc(u.tokens, func(p fleet.Placement) bool { return p.Machine == m.ID })
	p := u.tokens[i]
	p.State = fleet.Inactive
	u.held = append(u.held, m)
	w.releases = append(w.releases, fleet.Task{Kind: fleet.Release, Placement: p, Reason: why})
}

func boolInt(b bool) int {
	if b {
		return 1
	}
	return 0
}
