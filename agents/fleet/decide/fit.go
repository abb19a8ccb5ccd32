package decide

import (
	"maps"
	"slices"
	"strings"

	"github.com/coracle-os/coracle/agents/fleet"
)

// verdict is why a unit may not be on a machine: the first reason, in fleet's
// order with Coracle's own after it.
type verdict int

const (
	fits verdict = iota
	otherID
	otherMetadata
	drained
	noPeer
	conflict
	isReplaced
	tooManyInstances
	hasToken
	noCPU
	noMemory
)

// may tells whether u could run on m as far as machines and other units go:
// everything but resources.
func (w *world) may(u *unit, m *machine) verdict {
	switch {
	case !u.class.has[m.index]:
		if !idMatches(u.Requirements.MachineID, m) {
			return otherID
		}
		return otherMetadata
	case m.Draining != "":
		return drained
	case !u.peersOn(m):
		return noPeer
	case m.glob.matched(u.glob) || m.glob.carried(u.glob):
		return conflict
	case m.replace.carried(u.replace) && m.replacer(u) != nil:
		return isReplaced
	case u.Requirements.MaxPerMachine > 0 && m.groups[u.group] >= u.Requirements.MaxPerMachine:
		return tooManyInstances
	}
	return fits
}

// fit tells whether u can be placed on m.
func (w *world) fit(u *unit, m *machine) verdict {
	if v := w.may(u, m); v != fits {
		return v
	}
	if u.runsOn(m) || slices.Contains(u.held, m) {
		return hasToken
	}
	return m.room(u.Requirements.CPU, u.Requirements.Memory)
}

// room tells whether m has that much left.
func (m *machine) room(cpu, memory int64) verdict {
	switch {
	case cpu > 0 && m.cpu+cpu > m.CPU:
		return noCPU
	case memory > 0 && m.memory+memory > m.Memory:
		return noMemory
	}
	return fits
}

// peersOn tells whether all peers run on m. In a circle nobody is first, so
// there whoever is placed counts.
func (u *unit) peersOn(m *machine) bool {
	if u.missing != "" {
		return false
	}
	for _, peer := range u.peers {
		here := peer.runsOn(m)
		if u.cycle != "" && u.cycle == peer.cycle {
			here = slices.ContainsFunc(peer.tokens, func(p fleet.Placement) bool {
				return p.Machine == m.ID && p.State != fleet.Inactive
			})
		}
		if !here {
			return false
		}
	}
	return true
}

// replacer is a unit on m that u has to give way to; nil if there is none.
func (m *machine) replacer(u *unit) *unit {
	for _, other := range m.units {
		if other.displaces(u) {
			return other
		}
	}
	return nil
}

// load is how full m is for u: smaller is better. It is two numbers.
func (m *machine) load(u *unit) (int64, int) {
	if u.Requirements.CPU == 0 && u.Requirements.Memory == 0 {
		return 0, m.count
	}
	return max(share(m.cpu, m.CPU), share(m.memory, m.Memory)), m.count
}

// share is used/all in millionths. Of a resource that nobody uses it is none,
// reported or not.
func share(used, all int64) int64 {
	switch {
	case used == 0:
		return 0
	case all <= 0:
		return 1e6
	}
	return int64(float64(used) / float64(all) * 1e6)
}

// classOf finds the machines that u's own constraints allow.
func (w *world) classOf(u *unit) *class {
	key := classKey(u.Requirements)
	if c := w.classes[key]; c != nil {
		return c
	}
	c := &class{has: make([]bool, len(w.machines))}
	for i, m := range w.machines {
		if idMatches(u.Requirements.MachineID, m) && metadataMatches(u.Requirements.Metadata, m) {
			c.machines, c.has[i] = append(c.machines, m), true
		}
	}
	w.classes[key] = c
	return c
}

func classKey(req fleet.Requirements) string {
	if req.MachineID == "" && len(req.Metadata) == 0 {
		return ""
	}
	var key strings.Builder
	key.WriteString(req.MachineID)
	for _, name := range slices.Sorted(maps.Keys(req.Metadata)) {
		key.WriteString("\x00" + name + "=" + strings.Join(req.Metadata[name], "\x01"))
	}
	return key.String()
}

// idMatches takes a whole id or exactly its first eight characters.
func idMatches(id string, m *machine) bool {
	return id == "" || id == m.ID || len(id) == 8 && strings.HasPrefix(m.ID, id)
}

func metadataMatches(want map[string][]string, m *machine) bool {
	for key, values := range want {
		value, ok := m.Metadata[key]
		if !ok || !slices.Contains(values, value) {
			return false
		}
	}
	return true
}

func (w *world) groupOf(u *unit) *group {
	name := fleet.TemplateOf(u.Name)
	if name == "" {
		return &group{name: u.Name, members: []*unit{u}}
	}
	g := w.groups[name]
	if g == nil {
		g = &group{name: name}
		w.groups[name] = g
	}
	g.members = append(g.members, u)
	return g
}
