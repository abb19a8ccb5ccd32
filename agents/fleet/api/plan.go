package api

import (
	"net/http"
	"slices"
	"strings"

	"github.com/coracle-os/coracle/agents/fleet"
	"github.com/coracle-os/coracle/agents/fleet/api/schema"
	"github.com/coracle-os/coracle/agents/fleet/decide"
)

// plan tells what the engine would do if units were submitted, and why not.
func (s *Server) plan(w http.ResponseWriter, r *http.Request) error {
	var body schema.PlanRequest
	if err := decode(w, r, &body); err != nil {
		return err
	}
	v, err := s.view(r)
	if err != nil {
		return err
	}
	var units []fleet.Unit
	for _, wanted := range body.Units {
		u, err := planned(v, wanted)
		if err != nil {
			return err
		}
		units = append(units, u)
	}
	if len(units) == 0 {
		return fail(http.StatusBadRequest, "no unit to plan: units is empty")
	}
	result := decide.Plan(v.Snapshot, units)
	sendJSON(w, http.StatusOK, planEntity(result.Tasks, result.Unplaced))
	return nil
}

// planned is a unit of the request as it would be stored.
func planned(v view, wanted schema.Unit) (fleet.Unit, error) {
	c, err := check(wanted)
	if err != nil {
		return fleet.Unit{}, err
	}
	u := fleet.Unit{Name: c.name, Desired: c.desired, Rollout: c.rollout}
	if u.Desired == "" {
		u.Desired = fleet.Launched
	}
	was := v.Unit(c.name)
	switch {
	case c.file != nil:
		u.Hash = c.file.Hash()
		if u.Requirements, _, err = c.file.Requirements(c.name); err != nil {
			return u, invalid(err)
		}
	case was != nil:
		u.Hash, u.Requirements = was.Hash, was.Requirements
	default:
		return u, fail(http.StatusConflict, "unit %q does not exist and has no options", c.name)
	}
	if u.Rollout != nil && was != nil {
		u.Rollout.Previous = was.Hash
	}
	return u, nil
}

// rebalance moves units, or only tells which.
func (s *Server) rebalance(w http.ResponseWriter, r *http.Request) error {
	v, err := s.view(r)
	if err != nil {
		return err
	}
	tasks := decide.Rebalance(v.Snapshot)
	switch dry := r.URL.Query().Get("dry_run"); dry {
	case "1", "true":
	case "", "0", "false":
		if _, err := s.Registry.Release(r.Context(), v.seen(tasks)); err != nil {
			return err
		}
	default:
		return fail(http.StatusBadRequest, "dry_run %q is neither 1 nor 0", dry)
	}
	sendJSON(w, http.StatusOK, planEntity(tasks, nil))
	return nil
}

// seen are the placements that tasks release, as they are now.
func (v view) seen(tasks []fleet.Task) []fleet.Placement {
	var seen []fleet.Placement
	for _, t := range tasks {
		for _, p := range v.placements(t.Placement.Unit) {
			if p.Machine == t.Placement.Machine && t.Kind == fleet.Release {
				seen = append(seen, p)
			}
		}
	}
	return seen
}

func planEntity(tasks []fleet.Task, unplaced map[string]string) schema.Plan {
	p := schema.Plan{Unplaced: unplaced}
	for _, t := range tasks {
		e := schema.Task{Kind: string(t.Kind), Unit: t.Placement.Unit, MachineID: t.Placement.Machine, State: string(t.Placement.State), Hash: t.Placement.Hash, Reason: t.Reason}
		p.Tasks = append(p.Tasks, e)
	}
	slices.SortStableFunc(p.Tasks, func(a, b schema.Task) int { return strings.Compare(a.Unit, b.Unit) })
	return p
}
