package api

import (
	"encoding/json"
	"net/http"
	"regexp"

	"github.com/coracle-os/coracle/agents/fleet"
	"github.com/coracle-os/coracle/agents/fleet/api/schema"
	"github.com/coracle-os/coracle/agents/fleet/registry"
	"github.com/coracle-os/coracle/agents/fleet/registry/layout"
)

func (s *Server) listMachines(w http.ResponseWriter, r *http.Request) error {
	return s.list(w, r, func(v view) (int, func(int, int, string) any) {
		return len(v.Machines), func(from, to int, next string) any {
			page := schema.MachinePage{NextPageToken: next}
			used := v.used()
			for _, m := range v.Machines[from:to] {
				u := used[m.ID]
				page.Machines = append(page.Machines, schema.Machine{ID: m.ID, PrimaryIP: m.PublicIP, Metadata: m.Metadata, Version: m.Version,
					Draining: m.Draining, CPU: m.CPU, CPUUsed: u.cpu, Memory: m.Memory, MemoryUsed: u.memory, Units: u.units})
			}
			return page
		}
	})
}

// use is what the units of a machine ask for.
type use struct {
	cpu, memory int64
	units       int
}

func (v view) used() map[string]use {
	used := map[string]use{}
	for _, p := range v.Placements {
		u := used[p.Machine]
		u.units++
		unit := v.Unit(p.Unit)
		if unit == nil {
			unit = v.Unit(fleet.TemplateOf(p.Unit)) // Replicas= makes it
		}
		if unit != nil {
			u.cpu += unit.Requirements.CPU
			u.memory += unit.Requirements.Memory
		}
		used[p.Machine] = u
	}
	return used
}

// patch is one change of a machine's metadata.
type patch struct {
	Op    string
	Path  string
	Value patchValue
}

// patchValue is a text, as fleet's documents have it, or an object with a
// value, as its server and clients have it.
type patchValue string

// UnmarshalJSON implements json.Unmarshaler.
func (p *patchValue) UnmarshalJSON(data []byte) error {
	var object struct{ Value string }
	if err := json.Unmarshal(data, &object); err == nil {
		*p = patchValue(object.Value)
		return nil
	}
	return json.Unmarshal(data, (*string)(p))
}

var metadataPath = regexp.MustCompile(`^/([A-Za-z0-9_.-]+)/metadata/([A-Za-z0-9_.-]+)$`)

// patchMachines checks all changes and then makes them, later ones over earlier. Machines
// need not be there: metadata waits for them.
func (s *Server) patchMachines(w http.ResponseWriter, r *http.Request) error {
	var patches []patch
	if err := decode(w, r, &patches); err != nil {
		return err
	}
	for _, p := range patches {
		switch {
		case p.Op != "add" && p.Op != "remove" && p.Op != "replace":
			return fail(http.StatusBadRequest, "invalid op: expect add, remove, or replace")
		case !metadataPath.MatchString(p.Path):
			return fail(http.StatusBadRequest, "machine metadata path invalid")
		case p.Op != "remove" && p.Value == "":
			return fail(http.StatusBadRequest, "invalid value: add and replace require a value")
		}
	}
	var changes []registry.Patch
	for _, p := range patches {
		if p.Op == "remove" {
			p.Value = ""
		}
		m := metadataPath.FindStringSubmatch(p.Path)
		changes = append(changes, registry.Patch{Machine: m[1], Key: m[2], Value: string(p.Value)})
	}
	if _, err := s.Registry.PatchMetadata(r.Context(), changes); err != nil {
		return err
	}
	w.WriteHeader(http.StatusNoContent)
	return nil
}

// drain keeps units from a machine that is there.
func (s *Server) drain(w http.ResponseWriter, r *http.Request, id string) error {
	if err := checkContentType(r); err != nil {
		return err
	}
	var body schema.Drain
	if err := decode(w, r, &body); err != nil {
		return err
	}
	v, err := s.view(r)
	if err != nil {
		return err
	}
	m := v.Machine(id)
	if m == nil {
		return fail(http.StatusNotFound, "machine does not exist")
	}
	boot := ""
	if body.UntilReboot {
		if boot = m.BootID; boot == "" {
			return fail(http.StatusConflict, "machine %q does not tell its boot id: it cannot be drained until it reboots", id)
		}
	}
	if body.Reason == "" {
		body.Reason = "drained"
	}
	if _, err := s.Registry.SetDrain(r.Context(), id, layout.Drained{Reason: body.Reason, BootID: boot}); err != nil {
		return err
	}
	w.WriteHeader(http.StatusNoContent)
	return nil
}

var machineID = regexp.MustCompile(`^[A-Za-z0-9_.-]+$`)

func (s *Server) endDrain(w http.ResponseWriter, r *http.Request, id string) error {
	if !machineID.MatchString(id) {
		return fail(http.StatusNotFound, "machine does not exist")
	}
	if _, err := s.Registry.EndDrain(r.Context(), id); err != nil {
		return err
	}
	w.WriteHeader(http.StatusNoContent)
	return nil
}
