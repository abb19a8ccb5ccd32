// Package decide is the scheduler's thinking: from the cluster at one moment
// to the steps towards what is wanted, each with its reason. The engine calls
// it after every change and writes what it says; the API calls Plan and
// Rebalance. It is pure (the only time is the snapshot's) and deterministic:
// the same snapshot gives the same tasks in the same order.
//
// The rules are those of fleet's engine: a unit stays where it is while its
// machine is there and fits it, and is never moved for balance. It is placed
// on the least loaded machine that fits, ties by machine id:
//
//   - for a unit without CPU= and Memory= that is the machine with the fewest
//     placements, global ones and those being stopped included, as in fleet;
//   - for a unit with one of them it is the machine whose fuller resource is
//     the least full in proportion, and then the one with the fewest
//     placements. What a machine does not report, it has not got.
//   - SpreadOver= comes before both: the value of the key with the fewest
//     copies is first. Machines without the key are one value of their own.
//
// Within one pass units that many others wait for or that fit few machines are
// placed first, then large before small. Peers (MachineOf=) are placed before
// their followers, on a machine where these fit too if there is one.
//
// A placement is an ownership token: while any machine holds one of a unit,
// released or not, no other machine gets the unit, but for Global=, Replicas=
// (which bounds the number of tokens) and Fence=no. So a move takes two
// passes, with the machine's removal of the token between them.
//
// Other than fleet: the unit that gives way to Replaces= is placed by its own
// constraints; of units that replace each other in a circle one runs; a global unit is
// decided here and not by every machine.
//
// Left out on purpose: running units are not moved to make room for others
// (Rebalance does, when asked), and there are no priorities.
package decide

import (
	"cmp"
	"slices"
	"time"

	"github.com/coracle-os/coracle/agents/fleet"
)

// Result is what is to be done now, and what cannot be.
type Result struct {
	// Tasks are to be carried out in this order: a unit's Remove comes before
	// its Place.
	Tasks []fleet.Task
	// Unplaced says for people why a unit is not (everywhere) as wanted.
	Unplaced map[string]string
	// Again is when the same snapshot would give other tasks because time has
	// passed; zero is never.
	Again time.Time
}

// Decide compares what is with what is wanted.
func Decide(s *fleet.Snapshot) Result {
	w := newWorld(s)
	for _, u := range w.order {
		w.keep(u)
	}
	w.orphans()
	w.occupy()
	w.change()
	for _, u := range w.order {
		w.place(u)
	}
	return Result{
		Tasks:    slices.Concat(w.removes, w.releases, w.changes, w.places),
		Unplaced: w.unplaced,
		Again:    w.again,
	}
}

// world is a snapshot with its indexes, and what was decided so far.
type world struct {
	*fleet.Snapshot
	units    []*unit    // by name, expanded
	order    []*unit    // in which they are decided
	machines []*machine // by id
	classes  map[string]*class
	groups   map[string]*group
	globs    globs // of Conflicts=
	replaces globs // of Replaces=

	removes, releases, changes, places []fleet.Task
	unplaced                           map[string]string
	again                              time.Time
}

// unit is a unit and where it is.
type unit struct {
	*fleet.Unit
	tokens  []fleet.Placement // the snapshot's
	on      []*machine        // kept or placed, in this pass
	wide    map[*machine]bool // the same, once they are many
	held    []*machine        // with tokens that are released
	peers   []*unit           // MachineOf=, those that there are
	follows []*unit           // that have this unit as peer
	missing string            // a peer that is not there
	cycle   string            // of MachineOf=, as text
	circle  *circle           // of Replaces=
	class   *class
	group   *group
	glob    links // Conflicts=
	replace links // Replaces=
	stopped bool  // its rollout is
}

// machine is a machine and what is on it.
type machine struct {
	*fleet.Machine
	index       int
	count       int   // tokens
	cpu, memory int64 // in use
	units       []*unit
	groups      map[*group]int
	glob        counts
	replace     counts
}

// group is the instances of one template, or the copies of one unit.
type group struct {
	name    string
	members []*unit
	domains map[string]map[string]int // copies by key of SpreadOver= and its value
}

// class is the machines that one MachineID= and MachineMetadata= allow.
type class struct {
	machines []*machine
	has      []bool // by index
}

func newWorld(s *fleet.Snapshot) *world {
	w := &world{
		Snapshot: s, unplaced: map[string]string{}, classes: map[string]*class{}, groups: map[string]*group{},
		machines: make([]*machine, len(s.Machines)),
	}
	for i := range s.Machines {
		w.machines[i] = &machine{Machine: &s.Machines[i], index: i}
	}
	expanded := Expand(s.Units)
	list := make([]unit, len(expanded))
	w.units = make([]*unit, len(expanded))
	for i := range expanded {
		u := &list[i]
		u.Unit = &expanded[i]
		u.class, u.group = w.classOf(u), w.groupOf(u)
		w.units[i] = u
	}
	w.link()
	w.tokens()
	w.sort()
	return w
}

// tokens gives the units their placements; both are sorted by name.
func (w *world) tokens() {
	rest := w.Placements
	for _, u := range w.units {
		for len(rest) > 0 && rest[0].Unit < u.Name {
			rest = rest[1:]
		}
		n := 0
		for n < len(rest) && rest[n].Unit == u.Name {
			n++
		}
		u.tokens, rest = rest[:n:n], rest[n:]
	}
}

// unit finds a unit, those that Replicas= gives included; nil if there is none.
func (w *world) unit(name string) *unit {
	i, ok := slices.BinarySearchFunc(w.units, name, func(u *unit, name string) int { return cmp.Compare(u.Name, name) })
	if !ok {
		return nil
	}
	return w.units[i]
}

// machine finds a machine that is alive; nil if it is not.
func (w *world) machine(id string) *machine {
	i, ok := slices.BinarySearchFunc(w.machines, id, func(m *machine, id string) int { return cmp.Compare(m.ID, id) })
	if !ok {
		return nil
	}
	return w.machines[i]
}

// state is what the machine says of the unit; nil if it said nothing yet.
func (w *world) state(unit, machine string) *fleet.UnitState {
	i, ok := slices.BinarySearchFunc(w.States, unit, func(s fleet.UnitState, unit string) int {
		return cmp.Or(cmp.Compare(s.Unit, unit), cmp.Compare(s.Machine, machine))
	})
	if !ok {
		return nil
	}
	return &w.States[i]
}

// active tells whether the machine's init says that the unit is.
func (w *world) active(unit, machine string) bool {
	s := w.state(unit, machine)
	return s != nil && s.Active == "active"
}

// put counts a token of u on m.
func (m *machine) put(u *unit) {
	m.count++
	m.cpu += u.Requirements.CPU
	m.memory += u.Requirements.Memory
	m.units = append(m.units, u)
	if m.groups == nil {
		m.groups = map[*group]int{}
	}
	m.groups[u.group]++
	m.glob.put(u.glob)
	m.replace.put(u.replace)
}

// settle makes u one of those that run on m.
func (m *machine) settle(u *unit) {
	m.put(u)
	u.on = append(u.on, m)
	u.group.count(u, m)
	switch {
	case u.wide != nil:
		u.wide[m] = true
	case len(u.on) == 16:
		u.wide = map[*machine]bool{}
		for _, m := range u.on {
			u.wide[m] = true
		}
	}
}

// runsOn tells whether u is kept or placed on m.
func (u *unit) runsOn(m *machine) bool {
	if u.wide != nil {
		return u.wide[m]
	}
	return slices.Contains(u.on, m)
}

// leave is the opposite of settle; u still counts on m.
func (u *unit) leave(m *machine) {
	u.on = slices.DeleteFunc(u.on, func(on *machine) bool { return on == m })
	delete(u.wide, m)
}

// count adds a copy on m, by u's SpreadOver=.
func (g *group) count(u *unit, m *machine) {
	if key := u.Requirements.SpreadOver; key != "" {
		if g.domains == nil {
			g.domains = map[string]map[string]int{}
		}
		if g.domains[key] == nil {
			g.domains[key] = map[string]int{}
		}
		g.domains[key][m.Metadata[key]]++
	}
}

// copies is how many of the group are where m is, by u's SpreadOver=.
func (g *group) copies(u *unit, m *machine) int {
	key := u.Requirements.SpreadOver
	if key == "" {
		return 0
	}
	return g.domains[key][m.Metadata[key]]
}

// want is how many machines are to have the unit.
func (u *unit) want() int {
	switch {
	case u.Desired == fleet.Inactive || fleet.IsTemplate(u.Name):
		return 0
	case fleet.TemplateOf(u.Name) == "":
		return max(u.Requirements.Replicas, 1)
	}
	return 1
}
