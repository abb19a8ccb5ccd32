package api

import (
	"cmp"
	"net/http"
	"time"

	"github.com/coracle-os/coracle/agents/fleet"
	"github.com/coracle-os/coracle/agents/fleet/api/schema"
	"github.com/coracle-os/coracle/agents/fleet/decide"
	"github.com/coracle-os/coracle/agents/fleet/registry"
	"github.com/coracle-os/coracle/agents/fleet/unitfile"
)

var errNoUnit = fail(http.StatusNotFound, "unit does not exist")

func (s *Server) listUnits(w http.ResponseWriter, r *http.Request) error {
	return s.list(w, r, func(v view) (int, func(int, int, string) any) {
		return len(v.Units), func(from, to int, next string) any {
			page := schema.UnitPage{NextPageToken: next}
			for i := range v.Units[from:to] {
				page.Units = append(page.Units, s.unit(v, &v.Units[from+i]))
			}
			return page
		}
	})
}

func (s *Server) getUnit(w http.ResponseWriter, r *http.Request, name string) error {
	v, err := s.view(r)
	if err != nil {
		return err
	}
	u := v.find(name)
	if u == nil {
		return errNoUnit
	}
	sendJSON(w, http.StatusOK, s.unit(v, u))
	return nil
}

// find is a unit, or a copy that Replicas= of a template makes.
func (v view) find(name string) *fleet.Unit {
	if u := v.Unit(name); u != nil {
		return u
	}
	template := v.Unit(fleet.TemplateOf(name))
	if template == nil {
		return nil
	}
	for _, c := range decide.Expand([]fleet.Unit{*template}) {
		if c.Name == name {
			return &c
		}
	}
	return nil
}

// change is what a PUT asks for, its parts checked.
type change struct {
	name    string
	file    *unitfile.File // nil without options
	desired fleet.JobState // "" if it does not say
	rollout *fleet.Rollout // nil if it does not say
}

func (s *Server) putUnit(w http.ResponseWriter, r *http.Request, name string) error {
	if err := checkContentType(r); err != nil {
		return err
	}
	var body schema.Unit
	if err := decode(w, r, &body); err != nil {
		return err
	}
	if body.Name != "" && body.Name != name {
		return fail(http.StatusBadRequest, "name in URL %q differs from unit name in request body %q", name, body.Name)
	}
	body.Name = name
	c, err := check(body)
	if err != nil {
		return err
	}
	code := http.StatusNoContent
	_, err = s.Registry.Update(r.Context(), name, func(old *registry.Unit) (*registry.Unit, error) {
		next, written, err := c.apply(old)
		if written {
			code = http.StatusCreated
		}
		return next, err
	})
	if err != nil {
		return err
	}
	w.WriteHeader(code)
	return nil
}

// check looks at all that can be said without the cluster.
func check(body schema.Unit) (change, error) {
	c := change{name: body.Name, desired: fleet.JobState(body.DesiredState)}
	if err := unitfile.ValidateName(c.name); err != nil {
		return c, invalid(err)
	}
	if c.desired != "" && !c.desired.Valid() {
		return c, fail(http.StatusBadRequest, "invalid desiredState %q: use inactive, loaded or launched", c.desired)
	}
	for _, o := range body.Options {
		if o.Section == "" || o.Name == "" {
			return c, fail(http.StatusBadRequest, "option %q in section %q: both must have a name", o.Name, o.Section)
		}
	}
	if len(body.Options) > 0 {
		file, err := unitfile.FromOptions(body.Options)
		if err == nil {
			err = file.Validate(c.name)
		}
		if err != nil {
			return c, invalid(err)
		}
		c.file = &file
	}
	if o := body.Rollout; o != nil {
		if o.Parallel < 1 || o.WaitHealthySeconds < 0 || o.WaitHealthySeconds > 7*24*3600 {
			return c, fail(http.StatusBadRequest, "invalid rollout: parallel must be at least 1, and waitHealthySeconds from 0 to a week")
		}
		c.rollout = &fleet.Rollout{Parallel: o.Parallel, WaitHealthy: time.Duration(o.WaitHealthySeconds) * time.Second}
	}
	return c, nil
}

// apply makes the unit that is wanted of the one that is there, nil if none is.
// written tells whether it has other content.
func (c change) apply(old *registry.Unit) (next *registry.Unit, written bool, err error) {
	switch {
	case old == nil && c.file == nil:
		return nil, false, fail(http.StatusConflict, "unit does not exist and options field empty")
	case old == nil:
		next, written = &registry.Unit{Name: c.name, Raw: c.file.String(), Desired: cmp.Or(c.desired, fleet.Inactive)}, true
	case c.desired == "":
		return nil, false, fail(http.StatusConflict, "must provide DesiredState to update existing unit")
	default:
		next = new(*old)
		next.Desired = c.desired
		if c.file != nil && c.file.String() != old.Raw {
			next.Raw, next.Rollout, written = c.file.String(), c.withPrevious(old.Hash()), true
		} else if old.Rollout != nil && c.rollout != nil {
			next.Rollout = c.withPrevious(old.Rollout.Previous)
		}
	}
	if fleet.IsTemplate(c.name) && next.Desired != fleet.Inactive && !replicated(c.name, next.Raw) {
		return nil, false, fail(http.StatusBadRequest, "cannot activate template %q", c.name)
	}
	return next, written, nil
}

// withPrevious is the rollout that is wanted, from a content; nil if none is.
func (c change) withPrevious(hash string) *fleet.Rollout {
	if c.rollout == nil {
		return nil
	}
	return &fleet.Rollout{Parallel: c.rollout.Parallel, WaitHealthy: c.rollout.WaitHealthy, Previous: hash}
}

// replicated tells whether Replicas= makes instances of a template.
func replicated(name, raw string) bool {
	file, err := unitfile.Parse([]byte(raw))
	if err != nil {
		return false
	}
	requirements, _, err := file.Requirements(name)
	return err == nil && requirements.Replicas > 0
}

func (s *Server) deleteUnit(w http.ResponseWriter, r *http.Request, name string) error {
	v, err := s.view(r)
	if err != nil {
		return err
	}
	u := v.find(name)
	switch {
	case u == nil:
		return errNoUnit
	case u.Name == name && u.Template != "":
		return fail(http.StatusConflict, "unit %q is a copy that Replicas= of %q makes: change or destroy that one", name, u.Template)
	}
	if _, err := s.Registry.Destroy(r.Context(), name); err != nil {
		return err
	}
	w.WriteHeader(http.StatusNoContent)
	return nil
}

// rollback puts back the content before the rollout for all units of the
// group, with the same steps and waits.
func (s *Server) rollback(w http.ResponseWriter, r *http.Request, name string) error {
	v, err := s.view(r)
	if err != nil {
		return err
	}
	if v.find(name) == nil {
		return errNoUnit
	}
	found := false
	for _, u := range v.Units {
		if u.Rollout == nil || u.Rollout.Previous == "" || !sameGroup(u.Name, name) {
			continue
		}
		found = true
		if _, err := s.Registry.Rollback(r.Context(), u.Name); err != nil {
			return err
		}
	}
	if !found {
		return fail(http.StatusConflict, "unit %q has no rollout to go back from", name)
	}
	w.WriteHeader(http.StatusNoContent)
	return nil
}

// sameGroup tells whether two units are one, or template and instances.
func sameGroup(a, b string) bool {
	group := func(name string) string {
		if t := fleet.TemplateOf(name); t != "" {
			return t
		}
		return name
	}
	return group(a) == group(b)
}
