// Package graph links loaded units by their dependencies in both directions.
// It serves the planner (rootfs/transaction), PID 1, which asks it who must
// stop when a unit ends, and "systemctl show", which prints inverse
// dependencies. A Graph is immutable; a new one is made when units are loaded.
package graph

import (
	"iter"
	"slices"
	"sort"

	"github.com/coracle-os/coracle/rootfs/unit"
)

// Graph holds units and the edges between them. Edges lead between canonical
// names; those to units that are not in the graph are kept as named.
type Graph struct {
	units   map[string]*unit.Unit // by every name, aliases too
	names   []string              // canonical, sorted
	forward map[string]unit.Deps
	inverse map[string]unit.Deps
}

// New links units.
func New(units []*unit.Unit) *Graph {
	g := &Graph{units: map[string]*unit.Unit{}, forward: map[string]unit.Deps{}, inverse: map[string]unit.Deps{}}
	for _, u := range units {
		g.names = append(g.names, u.Name)
		for _, n := range u.Aliases {
			g.units[n] = u
		}
	}
	for _, u := range units {
		g.units[u.Name] = u
	}
	sort.Strings(g.names)
	g.names = slices.Compact(g.names)
	for _, n := range g.names {
		for _, kind := range unit.AllDeps {
			for _, to := range g.units[n].Deps[kind] {
				g.add(n, kind, g.Name(to))
			}
		}
	}
	for _, n := range g.names {
		g.orderTarget(g.units[n])
	}
	return g
}

// orderTarget puts a target after what it pulls in, unless that is ordered the
// other way or one of the two has no default dependencies; systemd.target(5).
func (g *Graph) orderTarget(t *unit.Unit) {
	if t.Kind != unit.KindTarget || !t.DefaultDependencies || t.LoadState != unit.Loaded {
		return
	}
	for _, n := range g.Of(t.Name, unit.Requires, unit.Requisite, unit.Wants, unit.BindsTo, unit.Upholds) {
		u := g.units[n]
		if u == nil || u.LoadState != unit.Loaded || !u.DefaultDependencies {
			continue
		}
		if !slices.Contains(g.Before(t.Name), n) {
			g.add(t.Name, unit.After, n)
		}
	}
}

func (g *Graph) add(from string, kind unit.Dep, to string) {
	if from == to {
		return
	}
	if g.forward[from] == nil {
		g.forward[from] = unit.Deps{}
	}
	if g.inverse[to] == nil {
		g.inverse[to] = unit.Deps{}
	}
	g.forward[from].Add(kind, to)
	g.inverse[to].Add(kind, from)
}

// Name returns the canonical name for any name of a unit; the name itself if
// it is not known.
func (g *Graph) Name(name string) string {
	if u := g.units[name]; u != nil {
		return u.Name
	}
	return name
}

// Unit returns the unit with the name or alias, nil if it is not there.
func (g *Graph) Unit(name string) *unit.Unit { return g.units[name] }

// Names returns the canonical names of all units, sorted.
func (g *Graph) Names() []string { return slices.Clone(g.names) }

// Of returns the units that the unit names in the given kinds of dependency.
func (g *Graph) Of(name string, kinds ...unit.Dep) []string {
	return collect(g.forward[g.Name(name)], kinds)
}

// Named yields every unit that the unit names in any kind of dependency, one
// that it names in several more than once, in no order.
func (g *Graph) Named(name string) iter.Seq[string] {
	return func(yield func(string) bool) {
		for _, names := range g.forward[g.Name(name)] {
			for _, n := range names {
				if !yield(n) {
					return
				}
			}
		}
	}
}

// By returns the units that name this one in the given kinds of dependency:
// By(n, unit.Requires) is RequiredBy, By(n, unit.BindsTo) is BoundBy.
func (g *Graph) By(name string, kinds ...unit.Dep) []string {
	return collect(g.inverse[g.Name(name)], kinds)
}

// Before returns the units that this one is ordered before, by its own Before=
// and by their After=.
func (g *Graph) Before(name string) []string {
	return union(g.Of(name, unit.Before), g.By(name, unit.After))
}

// After returns the units that this one is ordered after.
func (g *Graph) After(name string) []string {
	return union(g.Of(name, unit.After), g.By(name, unit.Before))
}

// StopWith returns the units that are stopped and restarted with this one.
func (g *Graph) StopWith(name string) []string {
	return union(g.By(name, unit.Requires, unit.Requisite, unit.BindsTo, unit.PartOf),
		union(g.Of(name, unit.PropagatesStopTo), g.By(name, unit.StopPropagatedFrom)))
}

// FailWith returns the units whose queued start fails when this one's does.
func (g *Graph) FailWith(name string) []string {
	return g.By(name, unit.Requires, unit.Requisite, unit.BindsTo)
}

// ReloadWith returns the units that are reloaded with this one.
func (g *Graph) ReloadWith(name string) []string {
	return union(g.Of(name, unit.PropagatesReloadTo), g.By(name, unit.ReloadPropagatedFrom))
}

func collect(deps unit.Deps, kinds []unit.Dep) []string {
	if len(kinds) == 1 {
		return slices.Clone(deps[kinds[0]])
	}
	out := unit.Deps{}
	for _, k := range kinds {
		out.Add("", deps[k]...)
	}
	return out[""]
}

func union(a, b []string) []string {
	d := unit.Deps{"": a}
	d.Add("", b...)
	return d[""]
}
