package api

import (
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/coracle-os/coracle/agents/fleet"
	"github.com/coracle-os/coracle/agents/fleet/api/schema"
	"github.com/coracle-os/coracle/agents/fleet/decide"
	"github.com/coracle-os/coracle/agents/fleet/unitfile"
)

// of is the part of a list that is sorted by unit that belongs to one unit.
func of[T any](list []T, unit string, name func(*T) string) []T {
	from, _ := slices.BinarySearchFunc(list, unit, func(t T, u string) int { return strings.Compare(name(&t), u) })
	to := from
	for to < len(list) && name(&list[to]) == unit {
		to++
	}
	return list[from:to]
}

func (v view) placements(unit string) []fleet.Placement {
	return of(v.Placements, unit, func(p *fleet.Placement) string { return p.Unit })
}

func (v view) states(unit string) []fleet.UnitState {
	return of(v.States, unit, func(s *fleet.UnitState) string { return s.Unit })
}

// state is what a machine says of a unit, nil if nothing.
func (v view) state(unit, machine string) *fleet.UnitState {
	for i, s := range v.states(unit) {
		if s.Machine == machine {
			return &v.states(unit)[i]
		}
	}
	return nil
}

// current is how far the copy of a placement has come. A unit that is to be
// stopped or given up counts as what it was until its machine says otherwise:
// who waits for it may then rely on it.
func (v view) current(p fleet.Placement) fleet.JobState {
	s := v.state(p.Unit, p.Machine)
	switch {
	case s == nil:
		return fleet.Inactive
	case p.State == fleet.Launched, runs(s.Active):
		return fleet.Launched
	}
	return fleet.Loaded
}

func runs(active string) bool {
	return active == "active" || active == "activating" || active == "reloading" || active == "deactivating"
}

// copies are the names under which a unit runs: its own, or those of the
// instances that Replicas= of a template makes.
func copies(u *fleet.Unit) []string {
	if u.Requirements.Replicas == 0 || !fleet.IsTemplate(u.Name) {
		return []string{u.Name}
	}
	var names []string
	for _, c := range decide.Expand([]fleet.Unit{*u}) {
		if c.Name != u.Name {
			names = append(names, c.Name)
		}
	}
	return names
}

// unit is the entity of a unit.
func (s *Server) unit(v view, u *fleet.Unit) schema.Unit {
	replicas := u.Requirements.Replicas
	if u.Template != "" {
		replicas = 0 // it is one of them
	}
	e := schema.Unit{Name: u.Name, Options: s.optionsOf(v, u.Hash), DesiredState: string(u.Desired), Template: u.Template, CurrentState: string(fleet.Inactive)}
	var all []fleet.Placement
	names := copies(u)
	for _, name := range names {
		all = append(all, v.placements(name)...)
	}
	if len(all) == 1 && !u.Requirements.Global && replicas == 0 {
		e.MachineID, e.CurrentState = all[0].Machine, string(v.current(all[0]))
	}
	if replicas > 0 {
		e.Replicas = v.replicas(replicas, all)
		e.CurrentState = string(v.all(replicas, all))
	}
	if r := u.Rollout; r != nil {
		e.Rollout = &schema.Rollout{Parallel: r.Parallel, WaitHealthySeconds: int(r.WaitHealthy / time.Second), Previous: r.Previous}
		for _, p := range all {
			if p.Hash == u.Hash {
				e.Rollout.Updated++
			}
		}
	}
	// A unit that is complete needs no reason, and finding one costs a decision.
	if u.Desired != fleet.Inactive && (len(all) < max(1, replicas) || u.Rollout != nil) {
		why := s.reasons.of(v)
		for _, name := range append([]string{u.Name}, names...) {
			if e.Reason = why[name]; e.Reason != "" {
				break
			}
		}
	}
	return e
}

func (v view) replicas(wanted int, all []fleet.Placement) *schema.Replicas {
	r := &schema.Replicas{Wanted: wanted}
	for _, p := range all {
		if p.State == fleet.Inactive {
			continue
		}
		r.Placed++
		r.Machines = append(r.Machines, p.Machine)
		if s := v.state(p.Unit, p.Machine); s != nil && s.Active == "active" {
			r.Active++
		}
	}
	return r
}

// all is the state that as many copies as are wanted have reached.
func (v view) all(wanted int, all []fleet.Placement) fleet.JobState {
	loaded, launched := 0, 0
	for _, p := range all {
		switch v.current(p) {
		case fleet.Launched:
			launched++
			loaded++
		case fleet.Loaded:
			loaded++
		}
	}
	switch {
	case launched >= wanted:
		return fleet.Launched
	case loaded >= wanted:
		return fleet.Loaded
	}
	return fleet.Inactive
}

// optionsOf takes a content apart once.
func (s *Server) optionsOf(v view, hash string) []schema.Option {
	s.mu.Lock()
	defer s.mu.Unlock()
	if o, ok := s.options[hash]; ok {
		return o
	}
	raw, ok := v.Raw(hash)
	if !ok {
		return nil
	}
	file, err := unitfile.Parse([]byte(raw))
	if err != nil {
		s.log.Error("a unit's content in the KV cannot be read", "hash", hash, "err", err)
		return nil
	}
	if len(s.options) > 2*len(v.Units)+1000 {
		clear(s.options) // contents of units that are gone
	}
	s.options[hash] = file.Options()
	return s.options[hash]
}

// reasons remembers why units of the newest view are on no machine.
type reasons struct {
	mu       sync.Mutex
	at       time.Time
	revision int64
	unplaced map[string]string
}

// reasonsLast is how long the reasons of a list's first page are good for the others.
const reasonsLast = 5 * time.Second

// of asks what the engine asks too; once for a revision of the KV, and once for
// a list.
func (r *reasons) of(v view) map[string]string {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.revision != v.Revision && !(v.later && time.Since(r.at) < reasonsLast) {
		r.at, r.revision, r.unplaced = time.Now(), v.Revision, decide.Decide(v.Snapshot).Unplaced
	}
	return r.unplaced
}
