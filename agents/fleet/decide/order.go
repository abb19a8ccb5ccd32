package decide

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/coracle-os/coracle/agents/fleet"
)

// link finds who has to do with whom.
func (w *world) link() {
	for _, u := range w.units {
		if fleet.IsTemplate(u.Name) {
			continue
		}
		u.glob.carries = w.globs.add(u.Requirements.Conflicts)
		u.replace.carries = w.replaces.add(u.Requirements.Replaces)
		if u.Desired == fleet.Inactive {
			continue
		}
		for _, name := range u.Requirements.MachineOf {
			peer := w.unit(name)
			if peer == nil {
				u.missing = cmp.Or(u.missing, name)
				continue
			}
			u.peers = append(u.peers, peer)
			peer.follows = append(peer.follows, u)
		}
	}
	for _, u := range w.units {
		u.glob.matches = w.globs.match(u.Name)
		u.replace.matches = w.replaces.match(u.Name)
	}
	if len(w.replaces.patterns) > 0 {
		w.findCircles()
	}
}

// sort sets the order of decisions: peers before followers, else first those
// that replace, then global ones, then those that fit few machines, then large
// ones, then by name.
func (w *world) sort() {
	first := slices.Clone(w.units)
	rank := func(u *unit) int {
		switch {
		case len(u.replace.carries) > 0:
			return 0
		case u.Requirements.Global:
			return 1
		}
		return 2
	}
	slices.SortStableFunc(first, func(a, b *unit) int {
		return cmp.Or(
			cmp.Compare(rank(a), rank(b)),
			cmp.Compare(len(a.class.machines), len(b.class.machines)),
			cmp.Compare(b.Requirements.Memory, a.Requirements.Memory),
			cmp.Compare(b.Requirements.CPU, a.Requirements.CPU),
		)
	})
	w.order = make([]*unit, 0, len(first))
	state := map[*unit]int{} // 1 is being visited, 2 is done; only for units with peers
	var path []*unit
	var visit func(*unit)
	visit = func(u *unit) {
		switch state[u] {
		case 1:
			nameCycle(path[slices.Index(path, u):])
			return
		case 2:
			return
		}
		state[u] = 1
		path = append(path, u)
		for _, peer := range u.peers {
			visit(peer)
		}
		path = path[:len(path)-1]
		state[u] = 2
		w.order = append(w.order, u)
	}
	for _, u := range first {
		if len(u.peers) == 0 && len(u.follows) == 0 {
			w.order = append(w.order, u)
			continue
		}
		visit(u)
	}
}

// nameCycle tells the units of a circle of peers that they are one. Of a long
// one it names the beginning.
func nameCycle(units []*unit) {
	const most = 8
	var names []string
	for _, u := range units[:min(len(units), most)] {
		names = append(names, u.Name)
	}
	if more := len(units) - most; more > 0 {
		names = append(names, fmt.Sprintf("%d more", more))
	}
	text := strings.Join(append(names, names[0]), " -> ")
	for _, u := range units {
		u.cycle = text
	}
}
