package api

import (
	"net/http"
	"time"

	"github.com/coracle-os/coracle/agents/fleet"
	"github.com/coracle-os/coracle/agents/fleet/api/schema"
)

func (s *Server) listStates(w http.ResponseWriter, r *http.Request) error {
	unit, machine := r.URL.Query().Get("unitName"), r.URL.Query().Get("machineID")
	return s.list(w, r, func(v view) (int, func(int, int, string) any) {
		states := v.States
		if unit != "" {
			states = v.states(unit)
		}
		if machine != "" {
			var there []fleet.UnitState
			for _, state := range states {
				if state.Machine == machine {
					there = append(there, state)
				}
			}
			states = there
		}
		return len(states), func(from, to int, next string) any {
			page := schema.UnitStatePage{NextPageToken: next}
			for _, state := range states[from:to] {
				page.States = append(page.States, stateEntity(state))
			}
			return page
		}
	})
}

// getState gives the state of a unit, of the first machine if it has several.
func (s *Server) getState(w http.ResponseWriter, r *http.Request, name string) error {
	v, err := s.view(r)
	if err != nil {
		return err
	}
	states := v.states(name)
	if len(states) == 0 {
		return fail(http.StatusNotFound, "unit state does not exist")
	}
	sendJSON(w, http.StatusOK, stateEntity(states[0]))
	return nil
}

func stateEntity(s fleet.UnitState) schema.UnitState {
	e := schema.UnitState{Name: s.Unit, Hash: s.Hash, MachineID: s.Machine, SystemdLoadState: s.Load, SystemdActiveState: s.Active, SystemdSubState: s.Sub}
	if !s.Since.IsZero() {
		e.Since = s.Since.UTC().Format(time.RFC3339)
	}
	return e
}
